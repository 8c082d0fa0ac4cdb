"""Finds another order of the classes that would make answers right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.diagnosis._judged_model import Repair
from edgedistill_deploy.statistics.assignment import best_assignment
from edgedistill_deploy.statistics.paired import mcnemar_p

Classes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relabelling:
    """The class answered for each true class, `answer_for` (C,), and the `cycles` of classes that change places."""

    answer_for: Classes
    cycles: tuple[tuple[int, ...], ...]

    def undo(self, answers: Classes) -> Classes:
        """Return the answers with the classes put back in place; answers that are no class stay."""
        true_for = np.empty_like(self.answer_for)
        true_for[self.answer_for] = np.arange(len(self.answer_for))
        return np.where(answers >= 0, true_for[answers], answers)

    def repair(self, truth: Classes, answers: Classes) -> Repair:
        """Compare the answers with the truth, as they are and with the classes put back in place."""
        right = np.ones(len(truth), dtype=np.bool_)
        return Repair(before=answers == truth, after=self.undo(answers) == truth, target=right)

    def describe(self, names: tuple[str, ...]) -> str:
        """Name the classes that change places: pairs are interchanged, longer cycles go round."""
        more = [f"and {len(self.cycles) - 10} more groups"] if len(self.cycles) > 10 else []
        return "; ".join([*(_cycle(cycle, names) for cycle in self.cycles[:10]), *more])

    def answered(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return the answer for each class that is not answered as itself, by name."""
        return {names[true]: names[given] for true, given in enumerate(self.answer_for) if true != given}


def find_relabelling(truth: Classes, answers: Classes, class_count: int) -> Relabelling | None:
    """Return the one-to-one relabelling with the most agreement, None if the present order agrees as often.

    A cycle counts only if every class is answered as its successor more often than as any other class, and if more than
    half of the cycle's images are answered so. So a weak model that fits another order a little better by chance is not
    called permuted. How often the other classes are right does not matter.
    """
    counts = _count_answers(truth, answers, class_count)
    # The bonuses sum to less than one image. They keep every class in place that no image moves.
    chosen = best_assignment(counts * (class_count + 1) + np.eye(class_count, dtype=np.int64))
    support = np.bincount(truth[truth >= 0], minlength=class_count)
    matched = counts[np.arange(class_count), chosen]
    leads = (matched == counts.max(axis=1)) & (matched > np.diag(counts))
    cycles = [list(cycle) for cycle in _cycles(chosen)]
    kept = [each for each in cycles if leads[each].all() and 2 * matched[each].sum() > support[each].sum()]
    return _relabelling(chosen, kept)


def find_permutation(
    truth: Classes, answers: Classes, class_count: int, confidence: float
) -> tuple[Relabelling, Repair] | None:
    """Return the order in which a model answers, and what putting it right brings; None for a model in order.

    Recovery is measured against what this model reaches: the classes that stay in place are answered about as often as
    the moved ones are once they are put back. How often that is does not matter.
    """
    found = _find_sure_relabelling(truth, answers, class_count, confidence)
    if found is None:
        return None
    repair = found.repair(truth, answers)
    fits = repair.convinces(confidence, 0.0) and _stays_fit(found, repair, truth)
    return (found, repair) if fits else None


def _stays_fit(found: Relabelling, repair: Repair, truth: Classes) -> bool:
    """Say whether the classes that stay are answered too.

    A damaged last layer answers some classes as each other by accident, and the others wrongly.
    """
    moved = np.isin(truth, [each for cycle in found.cycles for each in cycle])
    stays, after = repair.before[~moved], repair.after[moved]
    return not len(stays) or 2 * float(stays.mean()) >= float(after.mean())


def _find_sure_relabelling(truth: Classes, answers: Classes, class_count: int, confidence: float) -> Relabelling | None:
    """Return the relabelling of `find_relabelling` with only those cycles that are no chance; None if there is none.

    In a model whose order is right, two classes that look alike can by chance be answered as each other more often than
    as themselves. A sign test of the cycle's images tells this apart, with Bonferroni's correction for the number of
    classes.
    """
    found = find_relabelling(truth, answers, class_count)
    if found is None:
        return None
    counts = _count_answers(truth, answers, class_count)
    moved, stayed = counts[np.arange(class_count), found.answer_for], np.diag(counts)
    allowed = (1 - confidence) / class_count
    kept = [
        list(cycle)
        for cycle in found.cycles
        if mcnemar_p(int(moved[list(cycle)].sum()), int(stayed[list(cycle)].sum())) < allowed
    ]
    return _relabelling(found.answer_for, kept)


def relabelling_of(answer_for: Classes) -> Relabelling | None:
    """Return the relabelling that answers each class as another; None if every class stays itself."""
    return _relabelling(answer_for, [list(cycle) for cycle in _cycles(answer_for)])


def _count_answers(truth: Classes, answers: Classes, class_count: int) -> Classes:
    """Return how often each true class (row) got each answer (column), (C, C)."""
    counts = np.zeros((class_count, class_count), dtype=np.int64)
    known = (truth >= 0) & (answers >= 0)
    np.add.at(counts, (truth[known], answers[known]), 1)
    return counts


def _relabelling(chosen: Classes, cycles: list[list[int]]) -> Relabelling | None:
    answer_for = np.arange(len(chosen))
    for cycle in cycles:
        answer_for[cycle] = chosen[cycle]
    return Relabelling(answer_for=answer_for, cycles=tuple(map(tuple, cycles))) if cycles else None


def _cycles(permutation: Classes) -> list[tuple[int, ...]]:
    """Return the cycles of more than one class, each from its smallest."""
    seen: set[int] = set()
    cycles = []
    for start in range(len(permutation)):
        cycle, place = [], start
        while place not in seen:
            seen.add(place)
            cycle.append(place)
            place = int(permutation[place])
        if len(cycle) > 1:
            cycles.append(tuple(cycle))
    return cycles


def _cycle(cycle: tuple[int, ...], names: tuple[str, ...]) -> str:
    if len(cycle) == 2:
        return f"{names[cycle[0]]!r} and {names[cycle[1]]!r} are interchanged"
    last = repr(names[cycle[0]]) if len(cycle) <= 8 else "..."
    arrows = " -> ".join([*(repr(names[place]) for place in cycle[:8]), last])
    return f"{len(cycle)} classes go round, {arrows}"
