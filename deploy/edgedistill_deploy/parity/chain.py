"""The loss of accuracy of each step from the teacher to the student and to each of its files, on the same images.

Each step compares a model with its source: the float student with the teacher, the INT8 files with the float student.
The loss of a step is a paired difference, with the interval that the verdict uses too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import EXPERT_FILES
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.evaluation.figures import Answers, Logits, measure_accuracy
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.parity.check import ParityReport
from edgedistill_deploy.records.decisions import ChainRecord, ChainStep
from edgedistill_deploy.records.writing import file_part
from edgedistill_deploy.statistics.paired import wilson_interval

_TEACHER = "teacher"
_STUDENT = "fp32"  # the source of all other files; if it was not checked, their source is the teacher


def chain_steps(
    answers: Mapping[str, Answers], confidence: float = 0.95, models: Mapping[str, str] | None = None
) -> tuple[ChainStep, ...]:
    """Return the steps from the teacher's recorded answers to those of each expert.

    Args:
        answers: by precision, on the same images in the same order; those of "teacher", the exported file, are ignored.
        confidence: confidence of the two-sided intervals.
        models: the sha256 of each file, for the record.

    Raises DataError if the answers are not to the same images.
    """
    experts = [name for name in EXPERT_FILES if name in answers]
    if not experts:
        return ()
    first = answers[experts[0]]
    for name in experts:
        _require_same_images(experts[0], first, name, answers[name])
    logits = {_TEACHER: first.teacher, **{name: answers[name].candidate for name in experts}}
    same = Answers(teacher=first.teacher, candidate=first.teacher, labels=first.labels)
    start = _step(_TEACHER, None, same, confidence)
    steps = [_expert_step(name, logits, first, confidence, (models or {}).get(name)) for name in experts]
    return (start, *steps)


def chain_record(reports: Sequence[ParityReport], steps: Sequence[ChainStep]) -> dict[str, Any]:
    """Return the record: kind "chain", schema 1, plain JSON values; the first report gives bundle and place."""
    device, runtime, provider = reports[0].model.place
    return ChainRecord(
        bundle=reports[0].bundle, device=device, runtime=runtime, provider=provider, steps=tuple(steps)
    ).to_json()


def write_chain(bundle: Bundle, record: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Write the record to chain/DEVICE-RUNTIME-PROVIDER.json in the bundle, or in another folder; return its path."""
    stem = "-".join(file_part(record[name]) for name in ("device", "runtime", "provider"))
    root = folder or bundle.path
    path = root / "chain" / f"{stem}.json"
    write_json(path, record, inside=root)
    return path


def _expert_step(
    name: str, logits: Mapping[str, Logits], first: Answers, confidence: float, sha256: str | None
) -> ChainStep:
    source = _STUDENT if name != _STUDENT and _STUDENT in logits else _TEACHER
    pair = Answers(teacher=logits[source], candidate=logits[name], labels=first.labels)
    return _step(name, source, pair, confidence, sha256)


def _step(name: str, source: str | None, pair: Answers, confidence: float, sha256: str | None = None) -> ChainStep:
    accuracy = measure_accuracy(pair, confidence)
    compared = source is not None
    judged = compared and accuracy.labelled_count > 0
    agreeing, count = pair.agreeing_count, len(pair)
    return ChainStep(
        precision=name,
        source=source,
        sample_count=count,
        labelled_count=accuracy.labelled_count,
        accuracy=accuracy.candidate,
        agreement=agreeing / count if compared else None,
        agreement_interval=wilson_interval(agreeing, count, confidence) if compared else None,
        loss=accuracy.drop if judged else None,
        interval=accuracy.interval if judged else None,
        lost_count=accuracy.lost_count if judged else None,
        gained_count=accuracy.gained_count if judged else None,
        confidence=confidence,
        model_sha256=sha256,
    )


def _require_same_images(one: str, first: Answers, other: str, second: Answers) -> None:
    if not np.array_equal(first.labels, second.labels) or not np.array_equal(first.teacher, second.teacher):
        raise DataError(
            f"{one} and {other} answered other images ({len(first)} and {len(second)}), so their losses cannot be put "
            "in one chain; validate them together."
        )
