"""A model's answers beside the teacher's: confusions, the worth of its probabilities, and a few pictures.

The examples are spread evenly over the classes, without a look at the answers. Otherwise they would show what the
models do badly, or well, and not what they usually do.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.evaluation.curves import count_answers, find_confusions, measure_probabilities
from edgedistill_deploy.evaluation.figures import Answers, Classes, largest_probabilities
from edgedistill_deploy.evaluation.images import Evaluation
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.parity.thumbnails import inline_picture
from edgedistill_deploy.records.answers import MOST_EXAMPLES, AnswersReport, Confusion, Example, Truth
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.writing import record_path

MOST_CLASSES = 24  # of a matrix that can be read; more are told by their worst pairs


def describe_answers(
    report: ParityReport, evaluation: Evaluation, answers: Answers, class_names: tuple[str, ...], *, pictures: bool
) -> AnswersReport:
    """Count the answers of the model that `report` is about; with `pictures`, read `MOST_EXAMPLES` images for them.

    Where no image has a label, the teacher's answers stand for the truth.
    """
    labelled = answers.labelled
    kind: Truth = "label" if labelled.any() else "teacher"
    rows = np.flatnonzero(labelled) if labelled.any() else np.arange(len(answers))
    truth = answers.labels[rows] if labelled.any() else answers.expected[rows]
    teacher, candidate = (
        count_answers(each[rows], truth, len(class_names)) for each in (answers.expected, answers.predicted)
    )
    small = len(class_names) <= MOST_CLASSES
    return AnswersReport(
        bundle=report.bundle,
        model=report.model,
        sample_count=len(answers),
        judged_count=len(rows),
        truth=kind,
        confusion=_confusion(class_names, teacher, candidate) if small else None,
        pairs=find_confusions(class_names, truth, teacher, candidate),
        teacher=measure_probabilities(answers.teacher[rows], truth),
        candidate=measure_probabilities(answers.candidate[rows], truth),
        examples=_examples(evaluation, answers, class_names, pictures),
    )


def write_answers(bundle: Bundle, report: AnswersReport, folder: Path | None = None) -> Path:
    """Write the record to answers/DEVICE-RUNTIME-PRECISION.json in the bundle or another folder; return the path."""
    record = report.to_json()
    root = folder or bundle.path
    path = record_path(root, record)
    write_json(path, record, inside=root)
    return path


def spread_over_classes(classes: Classes, count: int) -> list[int]:
    """Return up to `count` rows: one of each class in turn, those of a class spread evenly, in rising order.

    With more classes than `count`, classes are spread evenly too.
    """
    kinds = np.unique(classes)
    if len(kinds) > count:
        kinds = kinds[np.linspace(0, len(kinds) - 1, count).round().astype(np.int64)]
    rows = {kind: np.flatnonzero(classes == kind) for kind in kinds}
    shares = _shares([len(each) for each in rows.values()], count)
    chosen = [_spread(each, share) for each, share in zip(rows.values(), shares, strict=True)]
    return sorted(int(row) for each in chosen for row in each)


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """Share `count` out, one to each in turn, to none more than its size."""
    shares = [0] * len(sizes)
    while sum(shares) < min(count, sum(sizes)):
        for place, size in enumerate(sizes):
            if shares[place] < size and sum(shares) < count:
                shares[place] += 1
    return shares


def _spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return `count` of the rows, in the middle of as many equal parts."""
    return rows[((np.arange(count) + 0.5) * len(rows) / max(1, count)).astype(np.int64)]


def _confusion(names: tuple[str, ...], teacher: NDArray[np.int64], candidate: NDArray[np.int64]) -> Confusion:
    return Confusion(
        class_names=names, teacher=tuple(map(tuple, teacher.tolist())), candidate=tuple(map(tuple, candidate.tolist()))
    )


def _examples(evaluation: Evaluation, answers: Answers, names: Sequence[str], pictures: bool) -> tuple[Example, ...]:
    if not pictures:
        return ()
    classes = np.where(answers.labelled, answers.labels, answers.expected)
    rows = spread_over_classes(classes, MOST_EXAMPLES)
    images = evaluation.images(np.asarray(rows, np.int64))
    theirs, own = largest_probabilities(answers)
    return tuple(
        Example(
            name=evaluation.name(row),
            digest=evaluation.digest(row),
            label=names[answers.labels[row]] if answers.labels[row] >= 0 else None,
            teacher=names[answers.expected[row]],
            teacher_probability=float(theirs[row]),
            candidate=names[answers.predicted[row]] if answers.predicted[row] >= 0 else None,
            candidate_probability=float(own[row]) if answers.predicted[row] >= 0 else None,
            thumbnail=inline_picture(pixels),
        )
        for row, pixels in zip(rows, images, strict=True)
    )
