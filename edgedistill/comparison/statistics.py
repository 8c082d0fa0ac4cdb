"""Paired differences over seeds and tasks: intervals, p-values corrected for the number of rivals, a verdict in words."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

AHEAD, BEHIND, NEITHER = "ahead", "behind", "not distinguishable"
DRAWS = 10_000
# Differences of accuracies that agree to this are equal: they are counts of images, divided.
_EQUAL = 1e-12
_OF_ONE_TASK = (
    "Intervals are Student's t over the paired differences of the seeds: they cover what training anew with other seeds, and"
    " with other draws of training images where fewer than all are used, does to the mean difference on these test images;"
    " other test images are not covered."
)
_OVER_TASKS = (
    "Intervals over all tasks are percentiles of a bootstrap that draws tasks, and seeds within each, with replacement: they"
    " cover other tasks like these as well, and are too narrow where tasks are few. A verdict over tasks needs both this"
    " bootstrap and Student's t over all task-seed pairs."
)
_VERDICTS = (
    "Verdicts are those of p-values after Holm's correction for the number of rivals, so an interval, which is not"
    " corrected, may leave out 0 where the verdict is 'not distinguishable'. Stuck runs stay in every mean."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far the reference is above a rival in test accuracy, over paired runs.

    Attributes:
        mean: mean difference; over several tasks the mean of the tasks' means.
        pairs, wins, losses: pairs of runs with the same task and seed; those the reference won, and lost.
        interval: of the mean; None where one pair, or pairs without spread, give none.
        t_interval: Student's over all pairs; the same as `interval` for one task.
        p: two-sided; over several tasks the larger one of bootstrap and t.
        p_adjusted: after Holm's correction.
        verdict: `ahead`, `behind` or `not distinguishable`.
        reason: why there is no interval, else empty.
    """

    mean: float
    pairs: int
    wins: int
    losses: int
    interval: tuple[float, float] | None = None
    t_interval: tuple[float, float] | None = None
    p: float | None = None
    p_adjusted: float | None = None
    verdict: str = NEITHER
    reason: str = ""


def coverage(over_tasks: bool) -> list[str]:
    """Say in sentences what the intervals and verdicts cover, and what they do not."""
    return [_OF_ONE_TASK, *([_OVER_TASKS] if over_tasks else []), _VERDICTS]


def compare_pairs(tasks: Sequence[Sequence[float]], confidence: float) -> Difference | None:
    """Summarise paired differences, (reference - rival) of every seed, a sequence for each task; None without any pair.

    The verdict waits for `judged`.
    """
    tasks = [list(each) for each in tasks if each]
    pairs = [difference for each in tasks for difference in each]
    if not pairs:
        return None
    plain = Difference(
        mean=statistics.fmean(statistics.fmean(each) for each in tasks),
        pairs=len(pairs),
        wins=sum(each > _EQUAL for each in pairs),
        losses=sum(each < -_EQUAL for each in pairs),
    )
    if len(pairs) < 2:
        return replace(plain, reason="one seed: no spread to judge the difference by")
    if max(pairs) - min(pairs) < _EQUAL:
        return _without_spread(plain)
    t_interval, t_p = paired_t(pairs, confidence)
    if len(tasks) == 1:
        return replace(plain, interval=t_interval, t_interval=t_interval, p=t_p)
    interval, p = bootstrap_over_tasks(tasks, confidence)
    return replace(plain, interval=interval, t_interval=t_interval, p=max(p, t_p))


def _without_spread(plain: Difference) -> Difference:
    if abs(plain.mean) < _EQUAL:
        return replace(plain, mean=0.0, p=1.0, reason="equal in every run")
    return replace(plain, reason="the same difference in every run: no spread to judge it by")


def paired_t(differences: Sequence[float], confidence: float) -> tuple[tuple[float, float], float]:
    """Return Student's interval of the mean difference and the two-sided p-value; needs two that differ."""
    from scipy.stats import t

    count = len(differences)
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / count**0.5
    reach = float(t.ppf(0.5 + confidence / 2, count - 1)) * error
    return (mean - reach, mean + reach), float(2 * t.sf(abs(mean) / error, count - 1))


def bootstrap_over_tasks(
    tasks: Sequence[Sequence[float]], confidence: float, *, draws: int = DRAWS, seed: int = 0
) -> tuple[tuple[float, float], float]:
    """Return the percentile interval of the mean of task means, and a two-sided p-value.

    Each draw takes as many tasks as there are, with replacement, and for each of them as many of its seeds.
    """
    generator = np.random.default_rng(seed)
    count = len(tasks)
    total = np.zeros(draws)
    for _ in range(count):
        chosen = generator.integers(count, size=draws)
        for position, values in enumerate(tasks):
            rows = np.flatnonzero(chosen == position)
            drawn = generator.integers(len(values), size=(len(rows), len(values)))
            total[rows] += np.asarray(values)[drawn].mean(axis=1)
    means = total / count
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    beyond = min(np.sum(means <= _EQUAL), np.sum(means >= -_EQUAL))
    return (float(low), float(high)), float(min(1.0, 2 * (beyond + 1) / (draws + 1)))


def judged(differences: Sequence[Difference | None], confidence: float) -> list[Difference | None]:
    """Correct the p-values of one set of rivals for their number, and say which are ahead or behind."""
    known = [each for each in differences if each is not None and each.p is not None]
    adjusted = iter(holm([each.p for each in known if each.p is not None]))
    return [
        each if each is None or each.p is None else _with_verdict(each, next(adjusted), confidence)
        for each in differences
    ]


def _with_verdict(difference: Difference, p_adjusted: float, confidence: float) -> Difference:
    verdict = NEITHER
    if p_adjusted <= 1 - confidence:
        verdict = AHEAD if difference.mean > 0 else BEHIND
    return replace(difference, p_adjusted=p_adjusted, verdict=verdict)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) step-down adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
