"""Search a graph of points for one that is bad while everything it depends on is good, looking at as few as can be.

As `git bisect` does with commits: a point that is bad moves the search to what it depends on, a point that is good
clears what it depends on. That holds while faults travel on; where one is healed on its way, the points are looked at
one after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["bisection", "scan"]
Parents = Sequence[frozenset[int]]
Look = Callable[
    [Sequence[int]], Sequence[bool]
]  # whether each of these points is good; asked again, it answers the same


@dataclass(frozen=True, slots=True)
class Finding:
    """The point found, None where all are good; by bisection, or by a scan, to which `why` led."""

    point: int | None
    method: Method
    why: str = ""


def find_first_bad(
    parents: Parents, ends: Sequence[int], look: Look, is_sharp: Callable[[int], bool], block: int
) -> Finding:
    """Return a point that is bad while its parents are good.

    Args:
        parents: of each point, the points it depends on directly, all before it.
        ends: the points that nothing depends on and that are looked at first.
        look: is asked for at most `block` points at a time.
        is_sharp: of a point that was looked at with its parents, whether it is so much worse than they that the fault
            must be its own; unless it is, the fault may lie before points that are good by a hair.
        block: points that may be held in memory together.
    """
    bad_end = next((end for end in ends if not look([end])[0]), None)
    if bad_end is None:
        return Finding(_scan(len(parents), look, block), "scan", "the outputs agree")
    found = _bisect(parents, bad_end, look)
    sound = all(good for part in _blocks(sorted(parents[found]), block) for good in look(part))
    if sound and is_sharp(found):
        return Finding(found, "bisection")
    why = "the difference grows little by little" if sound else "a difference shrinks on its way"
    return Finding(_scan(len(parents), look, block), "scan", why)


def _bisect(parents: Parents, bad: int, look: Look) -> int:
    suspected = _ancestors(parents, bad)
    while suspected:
        ordered = sorted(suspected)
        middle = ordered[len(ordered) // 2]
        before = _ancestors(parents, middle)
        if look([middle])[0]:
            suspected -= before | {middle}
        else:
            bad, suspected = middle, suspected & before
    return bad


def _ancestors(parents: Parents, point: int) -> set[int]:
    found: set[int] = set()
    pending = [point]
    while pending:
        fresh = parents[pending.pop()] - found
        found |= fresh
        pending += fresh
    return found


def _scan(count: int, look: Look, block: int) -> int | None:
    """Return the first point that is bad: all before it, its parents among them, are good."""
    for part in _blocks(range(count), block):
        for point, good in zip(part, look(part), strict=True):
            if not good:
                return point
    return None


def _blocks(points: Sequence[int], block: int) -> list[Sequence[int]]:
    return [points[start : start + block] for start in range(0, len(points), block)]
