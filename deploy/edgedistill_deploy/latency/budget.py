"""Whether a percentile of the latency keeps a budget, breaks it, or has too few runs to say."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.records.writing import PlainRecord
from edgedistill_deploy.statistics.quantiles import OpenInterval, Samples, interval_ranks, quantile_interval
from edgedistill_deploy.statistics.verdicts import Verdict

_MOST_COUNTED = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `budget_ms` at the `percentile`, such as 99. Raises UsageError for values outside their range."""

    budget_ms: float
    percentile: float = 99.0

    def __post_init__(self) -> None:
        if not 0 < self.budget_ms < math.inf:
            raise UsageError(f"The budget is {self.budget_ms} ms; it must be more than 0, and finite.")
        if not 0 < self.percentile < 100:
            raise UsageError(f"The percentile is {self.percentile}; it must lie between 0 and 100, such as 99.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetReport(PlainRecord):
    """The percentile's value with its interval, compared with the budget.

    `of` says what was timed. `verdict` is "pass" when the whole interval keeps the budget, "fail" when none of it does,
    else "inconclusive". Then `runs_to_decide` is about how many more runs are needed; it is None where the percentile
    lies on the budget.
    """

    budget_ms: float
    percentile: float
    of: str
    value_ms: float
    interval: OpenInterval
    confidence: float
    runs: int
    verdict: Verdict
    runs_to_decide: int | None
    sentence: str


def check_budget(record: Mapping[str, Any], budget: Budget, confidence: float = 0.95) -> BudgetReport:
    """Judge the sustained run of a latency record if it has one, else its run end to end, else its single runs."""
    of, samples = _samples_of(record)
    interval = quantile_interval(samples, budget.percentile / 100, confidence)
    verdict = _verdict(interval, budget.budget_ms)
    value = float(np.quantile(samples, budget.percentile / 100))
    more = _runs_to_decide(samples, budget, confidence) if verdict == "inconclusive" else None
    return BudgetReport(
        **asdict(budget),
        of=of,
        value_ms=value,
        interval=interval,
        confidence=confidence,
        runs=len(samples),
        verdict=verdict,
        runs_to_decide=more,
        sentence=_sentence(budget, of, value, interval, verdict, more),
    )


def _samples_of(record: Mapping[str, Any]) -> tuple[str, Samples]:
    if found := record.get("sustained"):
        of, values = f"arrival to completion at {found['rate_per_s']:g} images a second", found["latency_ms"]
    elif found := record.get("end_to_end"):
        of, values = "JPEG to logits", found["samples_ms"]
    else:
        of, values = "one run", record["samples_ms"]
    return of, np.asarray(values, dtype=np.float64)


def _verdict(interval: OpenInterval, budget_ms: float) -> Verdict:
    low, high = interval
    if high is not None and high <= budget_ms:
        return "pass"
    return "fail" if low is not None and low > budget_ms else "inconclusive"


def _runs_to_decide(samples: Samples, budget: Budget, confidence: float) -> int | None:
    """Return how many more runs decide it if the share within the budget stays; None if it equals the percentile."""
    q, within = budget.percentile / 100, float(np.mean(samples <= budget.budget_ms))
    if abs(within - q) < 1e-9:
        return None
    tail = (1 - confidence) / 2
    enough = math.ceil(2 * NormalDist().inv_cdf(1 - tail) ** 2 * q * (1 - q) / (within - q) ** 2) + 100
    if enough > _MOST_COUNTED:
        return enough // 2  # the normal approximation is exact enough for so many
    too_few = len(samples)
    while not _decides(enough, within, q, tail):
        enough *= 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        too_few, enough = (too_few, middle) if _decides(middle, within, q, tail) else (middle, enough)
    return enough - len(samples)


def _decides(count: int, within: float, q: float, tail: float) -> bool:
    """Say whether the interval of `count` runs, a share `within` of which keeps the budget, lies on one side of it."""
    below, above = interval_ranks(count, q, tail)
    kept = within * count
    return above <= math.floor(kept) or below > math.ceil(kept)


def _sentence(budget: Budget, of: str, value: float, interval: OpenInterval, verdict: Verdict, more: int | None) -> str:
    low, high = ("?" if end is None else f"{end:.3g}" for end in interval)
    said = {"pass": "keeps", "fail": "breaks", "inconclusive": "may or may not keep"}[verdict]
    sentence = (
        f"p{budget.percentile:g} of {of} {said} the budget of {budget.budget_ms:g} ms: {value:.3g} ms, [{low}, {high}]."
    )
    if verdict != "inconclusive":
        return sentence
    if more is None:
        return f"{sentence} The percentile lies on the budget; no number of runs is sure to decide it."
    return f"{sentence} About {more} more runs would decide it: give a longer --duration."
