from typing import Any

import numpy as np
import pytest
from scipy import stats

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.latency.budget import Budget, check_budget


def record(samples: Any, **more: Any) -> dict[str, Any]:
    return {"samples_ms": list(samples), **more}


RAMP = np.linspace(1.0, 10.0, 1000)


@pytest.mark.parametrize(("budget_ms", "verdict"), [(9.99, "pass"), (9.5, "fail"), (9.91, "inconclusive")])
def test_the_interval_of_the_percentile_decides(budget_ms: float, verdict: str) -> None:
    report = check_budget(record(RAMP), Budget(budget_ms=budget_ms))
    assert report.verdict == verdict
    assert report.value_ms == pytest.approx(np.percentile(RAMP, 99))
    assert report.interval[0] is not None
    assert report.interval[0] < report.value_ms
    assert f"the budget of {budget_ms:g} ms" in report.sentence


def test_verdicts_are_wrong_as_seldom_as_promised() -> None:
    random, truth = np.random.default_rng(0), float(stats.expon.ppf(0.95))
    passed = failed = 0
    for _ in range(300):
        samples = record(random.exponential(size=400))
        passed += check_budget(samples, Budget(budget_ms=truth * 0.999, percentile=95)).verdict == "pass"
        failed += check_budget(samples, Budget(budget_ms=truth * 1.001, percentile=95)).verdict == "fail"
    assert passed <= 0.05 * 300
    assert failed <= 0.05 * 300


def test_too_few_runs_for_a_p99_say_how_many_would_do() -> None:
    report = check_budget(record([1.0] * 100), Budget(budget_ms=2.0))
    assert (report.verdict, report.runs_to_decide) == ("inconclusive", 268)
    assert report.sentence.endswith("About 268 more runs would decide it: give a longer --duration.")
    assert check_budget(record([1.0] * 368), Budget(budget_ms=2.0)).verdict == "pass"


def test_the_runs_it_says_would_decide_do_decide() -> None:
    random, decided = np.random.default_rng(2), 0
    budget = Budget(budget_ms=float(stats.expon.ppf(0.93)), percentile=90)
    for _ in range(60):
        samples = random.exponential(size=150)
        report = check_budget(record(samples), budget)
        if report.verdict != "inconclusive" or report.runs_to_decide is None:
            decided += 1
            continue
        share = float(np.mean(samples <= budget.budget_ms))
        total = len(samples) + report.runs_to_decide + 20
        within = round(share * total)
        grown = [0.0] * within + [99.0] * (total - within)
        decided += check_budget(record(grown), budget).verdict != "inconclusive"
    assert decided >= 57


def test_a_percentile_on_the_budget_cannot_be_decided() -> None:
    report = check_budget(record([1.0] * 90 + [5.0] * 10), Budget(budget_ms=2.0, percentile=90))
    assert (report.verdict, report.runs_to_decide) == ("inconclusive", None)
    assert "no number of runs is sure to decide it" in report.sentence


def test_what_the_user_waits_for_is_judged() -> None:
    whole = {"samples_ms": [5.0] * 400}
    queued = {"latency_ms": [9.0] * 400, "rate_per_s": 30.0}
    budget = Budget(budget_ms=6.0)
    assert check_budget(record([1.0] * 400), budget).of == "one run"
    assert check_budget(record([1.0] * 400, end_to_end=whole), budget).value_ms == 5.0
    report = check_budget(record([1.0] * 400, end_to_end=whole, sustained=queued), budget)
    assert (report.verdict, report.of) == ("fail", "arrival to completion at 30 images a second")
    assert report.to_json()["interval"] == [9.0, 9.0]


@pytest.mark.parametrize("budget_ms", [0.0, -3.0, float("nan"), float("inf")])
def test_impossible_budgets_are_refused(budget_ms: float) -> None:
    with pytest.raises(UsageError, match=r"The budget is .* ms; it must be more than 0"):
        Budget(budget_ms=budget_ms)


@pytest.mark.parametrize("percentile", [0.0, 100.0, 250.0, float("nan")])
def test_impossible_percentiles_are_refused(percentile: float) -> None:
    with pytest.raises(UsageError, match=r"The percentile is .*; it must lie between 0 and 100"):
        Budget(budget_ms=1.0, percentile=percentile)
