"""The precision ledger: the cost of each step from float to INT8, on training images outside the calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.files.writing import write_json

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How far one model's answers are from another's on the same images.

    Attributes:
        sample_count: N, images.
        accuracy: share of images whose label has the largest logit. For an image without a label, the teacher's class
            counts as its label.
        agreement: share of images where both models' largest logits are of one class.
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
    """One model of the bundle, compared with the float student.

    Attributes:
        stage: `teacher`, or the model's precision as its role spells it: `fp32`, `fp16`, `int8`, `int8-tensorrt`,
            `int8-fp16-tensorrt`. The end `-recovered` is for INT8 of the student trained under quantisation.
        figures: against `fp32`.
        teacher_agreement: share of images with the teacher's class; None where the bundle has no teacher.
        bytes: size of the file.
        nodes: records of single nodes, empty where none were measured.
        details: further entries for this kind of step.
    """

    stage: str
    model_sha256: str
    figures: Figures
    teacher_agreement: float | None = None
    bytes: int | None = None
    nodes: tuple[Mapping[str, object], ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the step as `ledger.json` has it."""
        return {
            "stage": self.stage,
            "model_sha256": self.model_sha256,
            **asdict(self.figures),
            "teacher_agreement": self.teacher_agreement,
            "bytes": self.bytes,
            "nodes": [dict(node) for node in self.nodes],
            **self.details,
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
        sqnr_db=decibels(signal, noise),
    )


def decibels(signal: float, noise: float) -> float | None:
    """Return 10 log10 of signal over noise energy, None without noise; a signal of 0 counts as float64's smallest."""
    return 10 * float(np.log10(max(signal, np.finfo(np.float64).tiny) / noise)) if noise else None


def write_ledger(bundle: Bundle, steps: Sequence[LedgerStep], left_out: Mapping[str, str] | None = None) -> Bundle:
    """Write `ledger.json` and return the bundle that lists it; `left_out` is {stage: why there is no step of it}."""
    record = {"kind": "ledger", "schema": 1, "steps": [step.to_json() for step in steps]}
    return write_ledger_record(bundle, {**record, "left_out": dict(left_out or {})})


def write_ledger_record(bundle: Bundle, record: Mapping[str, Any]) -> Bundle:
    """Write a record in the form of `read_ledger` in place of the old one."""
    path = bundle.path / "ledger.json"
    write_json(path, record, inside=bundle.path)
    return bundle.with_file("ledger", path)


def read_ledger(bundle: Bundle) -> dict[str, Any]:
    """Return the content of `ledger.json`.

    Raises:
        BundleError: the bundle has no ledger, or a damaged one.
    """
    path = bundle.file("ledger")
    try:
        record = read_json(path)
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}; run `edgedistill calibrate` again.") from error
    if not isinstance(record, dict) or record.get("kind") != "ledger" or record.get("schema") != 1:
        raise BundleError(f"{path} is not a ledger of schema 1; run `edgedistill calibrate` again.")
    return record
