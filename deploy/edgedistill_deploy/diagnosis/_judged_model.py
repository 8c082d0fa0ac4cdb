"""What the detectors of faults share: the patient they look at, the repairs they try, the diagnosis they give."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.evaluation.figures import Answers, predicted_classes
from edgedistill_deploy.evaluation.images import Evaluation
from edgedistill_deploy.onnx_files.graph import write_with_outputs
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session
from edgedistill_deploy.statistics.paired import drop_interval

Right = NDArray[np.bool_]
Images = NDArray[np.uint8]

SAMPLE = 512  # images that a detector runs again
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedModel:
    """What the detectors may look at. `confidence` is that of the intervals."""

    bundle: Bundle
    session: Session
    evaluation: Evaluation
    answers: Answers
    confidence: float

    @property
    def truth(self) -> NDArray[np.int64]:
        """The labels (n,), and where one is unknown what the teacher answers."""
        return np.where(self.answers.labels >= 0, self.answers.labels, self.answers.expected)

    @property
    def has_lost(self) -> bool:
        """Say whether the model is right less often than the teacher, so that there is something to bring back."""
        truth = self.truth
        return int(np.sum(self.answers.predicted == truth)) < int(np.sum(self.answers.expected == truth))

    def run(self, rows: NDArray[np.int64], change: Callable[[Images], Images]) -> NDArray[np.int64]:
        """Return the classes (m,) that the model gives for changed images of these rows."""
        batches = self.evaluation.prepared(rows, _BATCH)
        return np.concatenate([predicted_classes(raw_logits(self.session, change(each))) for each in batches])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Repair:
    """Who is right (m,) before and after undoing a suspected fault, and who could be at best: the teacher."""

    before: Right
    after: Right
    target: Right

    @property
    def recovered(self) -> float:
        """The part of what is missing that comes back; 0 where nothing is missing."""
        missing = float(self.target.mean() - self.before.mean())
        return float(self.after.mean() - self.before.mean()) / missing if missing > 0 else 0.0

    def convinces(self, confidence: float, least: float) -> bool:
        """Say whether at least this part comes back, and more than chance would bring."""
        lost, gained = int(np.sum(self.after & ~self.before)), int(np.sum(~self.after & self.before))
        low, _ = drop_interval(lost, gained, len(self.before), confidence)
        return low > 0 and self.recovered >= least

    @property
    def evidence(self) -> dict[str, float]:
        """The accuracies, as shares."""
        return {
            "accuracy": float(self.before.mean()),
            "accuracy_repaired": float(self.after.mean()),
            "accuracy_teacher": float(self.target.mean()),
        }


def repair_by(judged: JudgedModel, change: Callable[[Images], Images]) -> Repair:
    """Feed a sample of the images changed, and see who is right."""
    rows = judged.evaluation.spread(SAMPLE)
    truth = judged.truth[rows]
    return Repair(
        before=judged.answers.predicted[rows] == truth,
        after=judged.run(rows, change) == truth,
        target=judged.answers.expected[rows] == truth,
    )


def read_values(path: Path, values: Sequence[str], images: Images) -> dict[str, NDArray[Any]]:
    """Return inner values of a model file. ONNX Runtime on the processor has them in a moment, whatever runtime is in
    use.

    Raises EdgeDistillError where it is not installed or cannot run the model.
    """
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        copy = Path(folder) / path.name
        write_with_outputs(path, copy, values)
        with open_model(copy, precision="fp32", threads=1, optimised=False) as opened:
            return opened.run({"image": images})


def percentages(repair: Repair) -> str:
    """Say in words what a repair does to the accuracy."""
    return f"the accuracy rises from {repair.before.mean():.1%} to {repair.after.mean():.1%}"


Detector = Callable[[JudgedModel], Iterator[Diagnosis]]
