"""The search against a slow look at every point of random graphs."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.diagnosis._first_bad import find_first_bad

Parents = list[frozenset[int]]


@st.composite
def graphs(draw: st.DrawFn) -> Parents:
    """Every point depends on some of those before it; all of them on the first."""
    count = draw(st.integers(2, 40))
    parents: Parents = [frozenset()]
    for point in range(1, count):
        drawn = draw(st.sets(st.integers(max(0, point - 5), point - 1), min_size=1, max_size=3))
        parents.append(frozenset(drawn))
    return parents


def _ends(parents: Parents) -> list[int]:
    read = frozenset[int]().union(*parents)
    return [point for point in range(len(parents)) if point not in read]


class _Looker:
    def __init__(self, bad: set[int]) -> None:
        self.bad, self.looked, self.largest = bad, 0, 0

    def __call__(self, points: Sequence[int]) -> list[bool]:
        self.looked += len(points)
        self.largest = max(self.largest, len(points))
        return [point not in self.bad for point in points]


def always(point: int) -> bool:
    return True


def _downstream(parents: Parents, start: set[int]) -> set[int]:
    bad = set(start)
    for point, before in enumerate(parents):
        if before & bad:
            bad.add(point)
    return bad


@settings(max_examples=80, deadline=None)
@given(graphs(), st.data())
def test_a_fault_that_travels_on_is_found_where_it_arose(parents: Parents, data: st.DataObject) -> None:
    faults = data.draw(st.sets(st.integers(0, len(parents) - 1), min_size=1, max_size=3))
    bad = _downstream(parents, faults)
    look = _Looker(bad)
    finding = find_first_bad(parents, _ends(parents), look, always, 4)
    assert finding.point in faults
    assert not parents[finding.point] & bad
    assert finding.method == "bisection"
    assert look.largest <= 4


@settings(max_examples=80, deadline=None)
@given(graphs(), st.data())
def test_whatever_is_bad_something_bad_with_good_parents_is_found(parents: Parents, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, len(parents) - 1)))
    finding = find_first_bad(parents, _ends(parents), _Looker(bad), always, 4)
    if bad:
        assert finding.point in bad
        assert not parents[finding.point] & bad
    else:
        assert finding.point is None
        assert (finding.method, finding.why) == ("scan", "the outputs agree")


def test_a_long_chain_takes_few_looks() -> None:
    parents: Parents = [frozenset(), *(frozenset({point}) for point in range(999))]
    for fault in (0, 1, 500, 998, 999):
        look = _Looker(set(range(fault, 1000)))
        assert find_first_bad(parents, [999], look, always, 8).point == fault
        assert look.looked <= 13


# Bisection looks at 2, which is good, and clears 1 with it.
_HEALED: Parents = [frozenset(), frozenset({0}), frozenset({1}), frozenset({2}), frozenset({1, 3})]


def test_a_difference_that_heals_on_its_way_is_scanned_for() -> None:
    finding = find_first_bad(_HEALED, [4], _Looker({1, 4}), always, 3)
    assert (finding.point, finding.method, finding.why) == (1, "scan", "a difference shrinks on its way")


def test_a_point_hardly_worse_than_its_parents_is_scanned_for() -> None:
    chain: Parents = [frozenset(), frozenset({0}), frozenset({1}), frozenset({2}), frozenset({3})]
    finding = find_first_bad(chain, [4], _Looker({1, 4}), lambda point: False, 3)
    assert (finding.point, finding.method, finding.why) == (1, "scan", "the difference grows little by little")
    assert find_first_bad(chain, [4], _Looker({1, 4}), always, 3).point == 4
