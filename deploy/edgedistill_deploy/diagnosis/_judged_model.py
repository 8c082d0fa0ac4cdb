"""Common to all fault detectors: the model that they look at, and the repairs that they try."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.evaluation.figures import Answers, Right, count_lost_and_gained, predicted_classes
from edgedistill_deploy.evaluation.images import Evaluation
from edgedistill_deploy.onnx_files.graph import write_with_outputs
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session
from edgedistill_deploy.statistics.paired import drop_interval

Images = NDArray[np.uint8]
Change = Callable[[Images], Images]

_SAMPLE = 512  # images that a detector runs again
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedModel:
    """All that the detectors may look at. `confidence` is that of the intervals."""

    bundle: Bundle
    session: Session
    evaluation: Evaluation
    answers: Answers
    confidence: float

    @property
    def truth(self) -> NDArray[np.int64]:
        """The labels (n,), with the teacher's answer in place of an unknown label."""
        return np.where(self.answers.labels >= 0, self.answers.labels, self.answers.expected)

    @property
    def has_lost(self) -> bool:
        """Say whether the model is right less often than the teacher."""
        truth = self.truth
        return int(np.sum(self.answers.predicted == truth)) < int(np.sum(self.answers.expected == truth))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Repair:
    """The right answers (m,) before and after a suspected fault is undone; `target` are the best possible ones."""

    before: Right
    after: Right
    target: Right

    @property
    def recovered(self) -> float:
        """The share of the missing accuracy that comes back; 0 if none is missing."""
        missing = float(self.target.mean() - self.before.mean())
        return float(self.after.mean() - self.before.mean()) / missing if missing > 0 else 0.0

    def convinces(self, confidence: float, least: float) -> bool:
        """Say whether at least this share comes back, and more than by chance."""
        low, _ = drop_interval(*count_lost_and_gained(self.after, self.before), len(self.before), confidence)
        return low > 0 and self.recovered >= least

    @property
    def evidence(self) -> dict[str, float]:
        """The accuracies, as shares."""
        return {
            "accuracy": float(self.before.mean()),
            "accuracy_repaired": float(self.after.mean()),
            "accuracy_teacher": float(self.target.mean()),
        }


def repair_by(judged: JudgedModel, session: Session, change: Change = lambda images: images) -> Repair:
    """Compare the recorded answers with those of `session` to a sample of changed images."""
    rows = judged.evaluation.spread(_SAMPLE)
    truth = judged.truth[rows]
    batches = judged.evaluation.prepared(rows, _BATCH)
    return Repair(
        before=judged.answers.predicted[rows] == truth,
        after=np.concatenate([predicted_classes(raw_logits(session, change(each))) for each in batches]) == truth,
        target=judged.answers.expected[rows] == truth,
    )


def read_values(path: Path, values: Sequence[str], images: Images) -> dict[str, NDArray[Any]]:
    """Return inner values of a model file, computed by ONNX Runtime on the processor.

    Raises EdgeDistillError if it is not installed or cannot run the model.
    """
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        copy = Path(folder) / path.name
        write_with_outputs(path, copy, values)
        with open_model(copy, precision="fp32", threads=1, optimised=False) as opened:
            return opened.run({"image": images})


def percentages(repair: Repair) -> str:
    """Describe the effect of a repair on the accuracy."""
    return f"the accuracy rises from {repair.before.mean():.1%} to {repair.after.mean():.1%}"


Detector = Callable[[JudgedModel], Iterator[Diagnosis]]
