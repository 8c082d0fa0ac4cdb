"""The precision ledger: what each step from float to INT8 cost, on training images nothing was calibrated on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle import Bundle
from edgedistill_deploy.files import write_json

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How far one model's answers are from another's on the same images.

    Attributes:
        sample_count: N, images.
        accuracy: share of images whose label has the largest logit.
        agreement: share of images where both models' largest logit is of the same class.
        sqnr_db: 10 log10 of the reference logits' energy over that of the difference; None when they are equal.
    """

    sample_count: int
    accuracy: float
    agreement: float
    sqnr_db: float | None

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: agreement first, then signal to noise."""
        return self.agreement, float("inf") if self.sqnr_db is None else self.sqnr_db


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStep:
    """One model of the bundle and what it keeps of the float student.

    Attributes:
        stage: the model's precision as its role spells it: `fp32`, `int8`, `int8-tensorrt`.
        model_sha256: of the file measured.
        figures: against `fp32`.
        nodes: records of single nodes, empty where none were measured.
    """

    stage: str
    model_sha256: str
    figures: Figures
    nodes: tuple[Mapping[str, object], ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the step as `ledger.json` has it."""
        return {
            "stage": self.stage,
            "model_sha256": self.model_sha256,
            **asdict(self.figures),
            "nodes": [dict(node) for node in self.nodes],
        }


def compare_logits(reference: Logits, candidate: Logits, labels: NDArray[np.int64]) -> Figures:
    """Compare two models' logits (N, C) on the same images with labels (N,)."""
    answers = candidate.argmax(axis=1)
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(np.subtract(reference, candidate, dtype=np.float64)).sum())
    return Figures(
        sample_count=len(labels),
        accuracy=float(np.mean(answers == labels)),
        agreement=float(np.mean(answers == reference.argmax(axis=1))),
        # A reference of zeros has no signal; any noise then drowns it, by as much as float64 can say.
        sqnr_db=10 * float(np.log10(max(signal, np.finfo(np.float64).tiny) / noise)) if noise else None,
    )


def write_ledger(bundle: Bundle, steps: Sequence[LedgerStep]) -> Bundle:
    """Write `ledger.json` and return the bundle that lists it."""
    path = bundle.path / "ledger.json"
    write_json(path, {"kind": "ledger", "schema": 1, "steps": [step.to_json() for step in steps]})
    return bundle.with_file("ledger", path)
