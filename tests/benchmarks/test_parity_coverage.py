"""The simulation of how often the interval of the drop holds, with fewer repetitions than the benchmark takes."""

import pytest

pytest.importorskip("benchmarks.parity_coverage", reason="the benchmarks are not part of the installed package")

from benchmarks.parity_coverage import shortcomings, simulate, summary


def cell(size: int, drop: float, gained_rate: float) -> dict[str, float]:
    return simulate(size, drop, gained_rate, limit=0.02, confidence=0.95, reps=3000, seed=1)


def test_the_interval_covers_as_promised_and_the_limit_is_rarely_passed() -> None:
    rows = [cell(size, drop, gained) for gained in (0.01, 0.05) for drop in (0.0, 0.02, 0.05) for size in (300, 1000)]
    assert all(row["expected_discordant"] >= 5 for row in rows)
    assert shortcomings(rows) == []


def test_few_discordant_images_make_the_interval_wide_and_never_narrow() -> None:
    row = cell(20, 0.0, 0.002)
    assert row["coverage"] > 0.99
    assert shortcomings([row]) == []


@pytest.mark.parametrize("change", [{"coverage": 0.92}, {"coverage": 0.98}, {"drop": 0.02, "pass": 0.06}], ids=str)
def test_what_falls_short_is_found(change: dict[str, float]) -> None:
    row = {**cell(1000, 0.0, 0.05), **change}
    assert shortcomings([row]) == [row]


def test_the_summary_keeps_sparse_cells_apart() -> None:
    rows = [cell(1000, 0.02, 0.05), cell(20, 0.0, 0.002)]
    lines = summary(rows).splitlines()
    assert lines[0].startswith("1 cells with at least 5 discordant images expected: coverage 9")
    assert "errs on the safe side" in lines[1]
    assert lines[2].startswith("1 cells at the limit: passed wrongly in at most ")
