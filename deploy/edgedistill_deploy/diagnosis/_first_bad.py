"""Search a graph for a bad point whose parents are all good, and look at as few points as possible.

The search works as `git bisect` does with commits: a bad point moves the search to the points that it depends on, a
good point clears them. This is valid while a fault spreads to all later points. If a later point hides the fault, all
points are looked at in order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["bisection", "scan"]
Parents = Sequence[frozenset[int]]
Look = Callable[[Sequence[int]], Sequence[bool]]  # says if each of these points is good; the answer never changes


@dataclass(frozen=True, slots=True)
class Finding:
    """The point found, None if all are good; `why` is the reason for a scan."""

    point: int | None
    method: Method
    why: str = ""


def find_first_bad(
    parents: Parents, ends: Sequence[int], look: Look, is_sharp: Callable[[int], bool], block: int
) -> Finding:
    """Return a point that is bad while its parents are good.

    Args:
        parents: for each point, the earlier points that it depends on directly.
        ends: the points that nothing depends on; they are looked at first.
        look: takes at most `block` points at a time.
        is_sharp: says if a point is so much worse than its parents that the fault must be its own. If not, the fault
            may lie before points that are only just good.
        block: the number of points that fit in memory together.
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
    """Return the first bad point."""
    looked = ((p, good) for part in _blocks(range(count), block) for p, good in zip(part, look(part), strict=True))
    return next((point for point, good in looked if not good), None)


def _blocks(points: Sequence[int], block: int) -> list[Sequence[int]]:
    return [points[start : start + block] for start in range(0, len(points), block)]
