"""The confusion matrices of teacher and expert with their difference, as cells with a shade for the page.

A shade is the name of a class of the stylesheet, because the page allows no style in an element.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill_deploy.records.answers import AnswersReport, ConfusedPair, Confusion

MOST_CLASSES = 24  # of a matrix on the page
MOST_PAIRS = 10
_SHADES = 10

Counts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A number and its shade, such as "heat-7", or "worse heat-2" where the expert does worse; "" for none."""

    value: int
    shade: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One table: whose answers, and the cells, a row for each true class; `is_difference` has signed values."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]
    is_difference: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionView:
    """The matrices in order, empty for too many classes, and the pairs that the expert confuses most."""

    class_names: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    pairs: tuple[ConfusedPair, ...]


def confusion_of(report: AnswersReport) -> ConfusionView | None:
    """Return what the page shows; None if the model confuses nothing and there is no matrix.

    Where no image has a label, the teacher's answers are the truth, so its own matrix is left out.
    """
    counts = report.confusion
    pairs = report.pairs[:MOST_PAIRS]
    if counts is None or not 1 < len(counts.class_names) <= MOST_CLASSES:
        return ConfusionView(class_names=(), matrices=(), pairs=pairs) if pairs else None
    return ConfusionView(class_names=counts.class_names, matrices=_matrices(counts, report), pairs=pairs)


def _matrices(counts: Confusion, report: AnswersReport) -> tuple[Matrix, ...]:
    expert = Matrix(title="What the expert answers", rows=_shaded(counts.candidate))
    if report.truth == "teacher":
        return (expert,)
    teacher = Matrix(title="What the teacher answers", rows=_shaded(counts.teacher))
    difference = Matrix(title="Expert minus teacher", rows=_differences(counts), is_difference=True)
    return teacher, expert, difference


def _shaded(counts: Counts) -> tuple[tuple[Cell, ...], ...]:
    return tuple(tuple(Cell(value=count, shade=_heat(count, sum(row))) for count in row) for row in counts)


def _differences(counts: Confusion) -> tuple[tuple[Cell, ...], ...]:
    rows = []
    for place, (own, theirs) in enumerate(zip(counts.candidate, counts.teacher, strict=True)):
        total = max(sum(own), sum(theirs))
        rows.append(tuple(_change(a - b, total, column == place) for column, (a, b) in _paired(own, theirs)))
    return tuple(rows)


def _paired(own: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, tuple[int, int]]]:
    return list(enumerate(zip(own, theirs, strict=True)))


def _change(value: int, total: int, is_right: bool) -> Cell:
    """Return a cell of the difference: fewer right answers, and more wrong ones, are worse."""
    if not value:
        return Cell(value=0, shade="")
    kind = "worse" if (value < 0) == is_right else "better"
    return Cell(value=value, shade=f"{kind} {_heat(abs(value), total)}")


def _heat(count: int, total: int) -> str:
    """Return the shade of a share, from 0 for none to 10 for all; the smallest count still has shade 1."""
    if not count:
        return "heat-0"
    return f"heat-{min(_SHADES, max(1, round(_SHADES * count / max(1, total))))}"
