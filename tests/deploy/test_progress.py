"""A progress that adds a note tells everything else unchanged; phases together never go back."""

from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.progress import Phases, noted, silent

AMOUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 40)), max_size=8)


def test_a_note_is_added_where_there_is_none() -> None:
    seen: list[tuple[int, int, str]] = []

    def keep(done: int, total: int, note: str = "") -> None:
        seen.append((done, total, note))

    report = noted(keep, "images")
    report(1, 4)
    report(2, 4, "of its own")
    assert seen == [(1, 4, "images"), (2, 4, "of its own")]
    noted(silent, "images")(1, 4)


@given(st.lists(st.tuples(st.floats(0, 1e3), AMOUNTS), min_size=1, max_size=5))
def test_phases_never_go_back_and_are_done_only_at_the_end(plan: list[tuple[float, list[tuple[int, int]]]]) -> None:
    """Whatever the phases report: more than planned, totals that grow or fall to 0, shares of nothing."""
    seen: list[tuple[int, int, str]] = []
    phases = Phases(lambda *at: seen.append(at), {f"phase {place}": share for place, (share, _) in enumerate(plan)})
    for place, (_, amounts) in enumerate(plan):
        report = phases.begin(f"phase {place}")
        assert seen[-1][2] == f"phase {place}"
        for done, total in amounts:
            report(done, total, "images")
            assert seen[-1][2] == f"phase {place}: images"
    assert all(0 <= done < total for done, total, _ in seen)
    phases.finish()
    shares = [done / total for done, total, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_each_phase_has_its_own_share() -> None:
    seen: list[int] = []
    phases = Phases(lambda done, total, note="": seen.append(done), {"short": 1, "skipped": 1, "long": 8})
    phases.begin("short")(1, 2)
    phases.begin("long")(1, 4)
    assert seen == [0, 50, 200, 400]
