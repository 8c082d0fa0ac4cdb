"""The images that teacher and candidate decide differently, with pictures.

The rank depends on the candidate's softmax probability of its own answer; the surest answers come first. Answers that
are not finite have no probability and come before them.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.evaluation.figures import Answers, largest_probabilities, log_softmax
from edgedistill_deploy.evaluation.images import Evaluation
from edgedistill_deploy.files.writing import write_json, write_whole
from edgedistill_deploy.parity.check import ParityReport
from edgedistill_deploy.parity.thumbnails import inline_picture, thumbnail
from edgedistill_deploy.records.decisions import INLINED, Flip, FlipReport
from edgedistill_deploy.records.writing import SCHEMA, record_path

MAX_PICTURES = 100  # written as files, for each model
MAX_LISTED = 1000
PICTURE_SIDE = 192  # pixels, at most
INDEX = "flips.json"
_PICTURE_NAME = re.compile(r"\d{4}_true-\w+_teacher-\w+_candidate-\w+\.png")
_NOT_FINITE = "not finite"


def find_flips(
    report: ParityReport,
    evaluation: Evaluation,
    answers: Answers,
    class_names: Sequence[str],
    *,
    listed: int = MAX_LISTED,
    pictures: int = MAX_PICTURES,
) -> FlipReport:
    """Rank the images that both models answer differently; at most `pictures` images are read for pictures."""
    rows = _rank_rows(answers)
    probabilities = largest_probabilities(answers)
    flips = [
        _flip(rank, int(row), evaluation, answers, probabilities, class_names)
        for rank, row in enumerate(rows[:listed], start=1)
    ]
    outcomes = [_outcome(answers, int(row)) for row in rows]
    return FlipReport(
        bundle=report.bundle,
        model=report.model,
        sample_count=len(answers),
        flip_count=len(rows),
        outcomes={name: outcomes.count(name) for name in ("lost", "gained", "both_wrong", "unlabelled")},
        flips=tuple(flips),
        pictures=tuple(evaluation.images(np.asarray([row]))[0] for row in rows[:pictures]),
    )


def write_flips(folder: Path, reports: Sequence[FlipReport]) -> Path:
    """Write FOLDER/PRECISION/RANK_true-..._teacher-..._candidate-....png and FOLDER/flips.json; return the latter.

    Only pictures of an earlier run are removed from the folder. Raises UsageError if the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the pictures of the flips.")
    written = [_with_files(folder, report) for report in reports]
    path = folder / INDEX
    write_json(path, {"kind": "flip-set", "schema": SCHEMA, "records": [each.to_json() for each in written]})
    return path


def write_flip_record(bundle: Bundle, report: FlipReport, folder: Path | None = None, *, pictures: bool = True) -> Path:
    """Write the record with its first pictures to flips/DEVICE-RUNTIME-PRECISION.json; return the path.

    It is written in the bundle, or in another folder for records. Without `pictures` it has none.
    """
    inlined = [
        replace(flip, thumbnail=inline_picture(pixels))
        for flip, pixels in zip(report.flips[:INLINED], report.pictures if pictures else (), strict=False)
    ]
    record = replace(report, flips=(*inlined, *report.flips[len(inlined) :])).to_json()
    root = folder or bundle.path
    path = record_path(root, record)
    write_json(path, record, inside=root)
    return path


def picture_name(flip: Flip) -> str:
    """Return a file name of ASCII letters, digits and underscores for any class names."""
    label, teacher, candidate = (
        re.sub(r"[^A-Za-z0-9]+", "_", name or "unknown").strip("_")[:40] or "class"
        for name in (flip.label, flip.teacher, flip.candidate)
    )
    return f"{flip.rank:04d}_true-{label}_teacher-{teacher}_candidate-{candidate}.png"


def _rank_rows(answers: Answers) -> NDArray[np.int64]:
    rows = np.flatnonzero(answers.predicted != answers.expected)
    finite = answers.predicted[rows] >= 0
    surest = np.full(len(rows), np.inf)
    surest[finite] = log_softmax(answers.candidate[rows[finite]]).max(axis=1, initial=-np.inf)
    return rows[np.argsort(-surest, kind="stable")]


def _flip(
    rank: int,
    row: int,
    evaluation: Evaluation,
    answers: Answers,
    probabilities: tuple[NDArray[np.float64], NDArray[np.float64]],
    names: Sequence[str],
) -> Flip:
    label, expected, predicted = (int(each[row]) for each in (answers.labels, answers.expected, answers.predicted))
    return Flip(
        rank=rank,
        name=evaluation.name(row),
        digest=evaluation.digest(row),
        label=names[label] if label >= 0 else None,
        teacher=names[expected],
        teacher_probability=float(probabilities[0][row]),
        candidate=names[predicted] if predicted >= 0 else _NOT_FINITE,
        candidate_probability=float(probabilities[1][row]) if predicted >= 0 else None,
        outcome=_outcome(answers, row),
    )


def _outcome(answers: Answers, row: int) -> str:
    label = answers.labels[row]
    if label < 0:
        return "unlabelled"
    if answers.expected[row] == label:
        return "lost"
    return "gained" if answers.predicted[row] == label else "both_wrong"


def _with_files(folder: Path, report: FlipReport) -> FlipReport:
    place = folder / report.model.precision
    if (folder / INDEX).is_file() and place.is_dir():
        for old in place.iterdir():
            if _PICTURE_NAME.fullmatch(old.name):
                old.unlink()
    named = []
    for flip, pixels in zip(report.flips, report.pictures, strict=False):
        path = place / picture_name(flip)
        with write_whole(path) as temporary:
            thumbnail(pixels, PICTURE_SIDE).save(temporary, format="PNG")
        named.append(replace(flip, file=f"{report.model.precision}/{path.name}"))
    return replace(report, flips=(*named, *report.flips[len(named) :]))
