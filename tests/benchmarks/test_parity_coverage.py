"""The simulation of how often the interval of the drop holds, with fewer repetitions than the benchmark takes."""

import numpy as np
import pytest

pytest.importorskip("benchmarks.parity_coverage", reason="the benchmarks are not part of the installed package")

from benchmarks.parity_coverage import class_summary, class_verdict, shortcomings, simulate, simulate_classes, summary
from edgedistill_deploy.evaluation.figures import measure_classes
from edgedistill_deploy.parity._classes import judge_classes
from edgedistill_deploy.records.parity import DEFAULT_LIMITS
from reference.class_bundles import answers_of


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


@pytest.mark.parametrize(("class_count", "rate"), [(2, 0.2), (10, 0.05), (100, 0.375)])
def test_a_sound_expert_is_rarely_failed_for_a_dead_class_and_a_dead_class_is_found(
    class_count: int, rate: float
) -> None:
    sound = simulate_classes(class_count, 40, rate, 0, 0.95, reps=400, seed=1)
    assert sound["fail"] <= 0.05
    dead = simulate_classes(class_count, 40, 0.6, 1, 0.95, reps=400, seed=1)
    assert dead["fail"] > 0.95
    assert class_summary([sound, dead]).startswith("1 cells: a sound expert fails by a dead class in at most ")


def test_the_simulated_rule_is_the_rule_of_the_product() -> None:
    random, names = np.random.default_rng(0), tuple("abcd")
    seen = set()
    for _ in range(60):
        counts = random.multinomial(20, random.dirichlet([0.2, 1, 0.2, 0.5]), 4)
        rows = [
            (right, teacher_right, index)
            for index, drawn in enumerate(counts.tolist())
            for count, teacher_right, right in zip(drawn, (1, 1, 0, 0), (1, 0, 1, 0), strict=True)
            for _ in range(count)
        ]
        answers = answers_of([(i if p else (i + 1) % 4, i if t else (i + 1) % 4, i) for p, t, i in rows], 4)
        judged = judge_classes(measure_classes(names, answers, 0.95), answers, DEFAULT_LIMITS).verdict
        assert class_verdict(counts[:, :3].tolist(), 1 - 0.95) == judged
        seen.add(judged)
    assert seen == {"pass", "inconclusive", "fail"}
