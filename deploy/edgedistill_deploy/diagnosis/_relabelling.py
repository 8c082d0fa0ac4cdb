"""Whether another order of the classes would make answers right, and which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.statistics.assignment import best_assignment

Classes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relabelling:
    """`answer_for` (C,): the class that is answered for each true class; `cycles` are the classes that change
    places."""

    answer_for: Classes
    cycles: tuple[tuple[int, ...], ...]

    def undo(self, answers: Classes) -> Classes:
        """Return the answers as they would be with the classes in place; those that are no class stay."""
        true_for = np.empty_like(self.answer_for)
        true_for[self.answer_for] = np.arange(len(self.answer_for))
        return np.where(answers >= 0, true_for[answers], answers)

    def describe(self, names: tuple[str, ...]) -> str:
        """Name the classes that change places: pairs are interchanged, longer cycles go round."""
        return "; ".join(_cycle(cycle, names) for cycle in self.cycles[:10]) + (
            f"; and {len(self.cycles) - 10} more groups" if len(self.cycles) > 10 else ""
        )


def find_relabelling(truth: Classes, answers: Classes, class_count: int) -> Relabelling | None:
    """Return the one-to-one relabelling with the most agreement, None when the order as it is serves as well.

    Only cycles count in which every class is answered as its successor for more than half of its images; a weak model
    that happens to fit another order a little better is not taken for a permuted one.
    """
    counts = np.zeros((class_count, class_count), dtype=np.int64)
    known = (truth >= 0) & (answers >= 0)
    np.add.at(counts, (truth[known], answers[known]), 1)
    # A bonus smaller than one image in all keeps every class in place that no image moves.
    chosen = best_assignment(counts * (class_count + 1) + np.eye(class_count, dtype=np.int64))
    support = np.bincount(truth[truth >= 0], minlength=class_count)
    majority = 2 * counts[np.arange(class_count), chosen] > support
    cycles = tuple(cycle for cycle in _cycles(chosen) if majority[list(cycle)].all())
    if not cycles:
        return None
    answer_for = np.arange(class_count)
    for cycle in cycles:
        answer_for[list(cycle)] = chosen[list(cycle)]
    return Relabelling(answer_for=answer_for, cycles=cycles)


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
    shown = cycle[:8]
    arrows = " -> ".join(repr(names[place]) for place in (*shown, cycle[0]))
    return (
        f"{len(cycle)} classes go round, {arrows}"
        if len(shown) == len(cycle)
        else (f"{len(cycle)} classes go round, {' -> '.join(repr(names[place]) for place in shown)} -> ...")
    )
