"""From the agreement of single students with the teacher to that of a method: mean, spread, difference, verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from edgedistill.comparison.results import Record
from edgedistill.comparison.statistics import (
    Difference,
    Measured,
    add_verdicts,
    compare_pairs,
    mean_of_tasks,
    pair_up,
    spread_over_seeds,
)
from edgedistill.explanation.agreement import MEASURES

_OTHER, _RANDOM = "other_class", "random_student"


class Explained(NamedTuple):
    """How far a student's maps agree with the teacher's: {measure: mean over the images}; None: not explained."""

    task: str
    seed: int
    agreement: Mapping[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One measure of agreement of one method, from -1 to 1.

    Attributes:
        mean: over seeds; over several tasks the mean of the tasks' means. None without explained students.
        deviation: sample standard deviation over seeds, as for accuracies; None for one seed.
        difference: reference minus this method; None for the reference itself.
    """

    mean: float | None
    deviation: float | None
    difference: Difference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """The agreement of one method with the teacher, by each measure of `compare_maps`.

    `missing` are the students that are not explained, of those that count.
    """

    cosine: Agreement
    spearman: Agreement
    top_decile: Agreement
    missing: int


def summarise_reasons(
    found: Mapping[str, Sequence[Explained]], reference: str, confidence: float
) -> dict[str, Reasons]:
    """Return {method: its agreement}, with the difference of each to the reference.

    Args:
        found: {method: its students that count}.
        reference: one of the methods.
        confidence: of the intervals.

    Verdicts are corrected for the number of rivals, each measure by itself.
    """
    measures = {name: _summarise(_read(found, name), reference, confidence) for name in MEASURES}
    return {
        method: Reasons(
            **{name: measures[name][method] for name in MEASURES},
            missing=sum(student.agreement is None for student in students),
        )
        for method, students in found.items()
    }


def floors_record(floors: Sequence[Record]) -> dict[str, Any] | None:
    """Return what agreement means nothing on a task, from the records of its seeds; None without any.

    `other_class` is None for two classes: what speaks for one speaks against the other.
    """
    if not floors:
        return None
    first = floors[0]
    random = {
        name: [Measured(task=first["task"], seed=each["seed"], value=each[_RANDOM][name]) for each in floors]
        for name in MEASURES
    }
    return {
        "attribution": first["attribution"],
        "images": first["images"],
        _OTHER: first[_OTHER],
        _RANDOM: {
            name: {"mean": mean_of_tasks(values), "deviation": spread_over_seeds(values)}
            for name, values in random.items()
        },
    }


def _read(found: Mapping[str, Sequence[Explained]], measure: str) -> dict[str, list[Measured]]:
    return {
        method: [
            Measured(task=each.task, seed=each.seed, value=each.agreement[measure])
            for each in students
            if each.agreement is not None
        ]
        for method, students in found.items()
    }


def _summarise(found: Mapping[str, Sequence[Measured]], reference: str, confidence: float) -> dict[str, Agreement]:
    rivals = [method for method in found if method != reference]
    differences = add_verdicts(
        [compare_pairs(pair_up(found[reference], found[rival]), confidence) for rival in rivals], confidence
    )
    plain = {
        method: Agreement(mean=mean_of_tasks(values), deviation=spread_over_seeds(values))
        for method, values in found.items()
    }
    compared = zip(rivals, differences, strict=True)
    return plain | {method: replace(plain[method], difference=difference) for method, difference in compared}
