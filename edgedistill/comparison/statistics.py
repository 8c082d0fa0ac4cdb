"""Paired differences over seeds and tasks: intervals, corrected p-values, and a verdict in words."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgedistill_deploy.wording import join_words, signed_points

AHEAD, BEHIND, NEITHER = "ahead", "behind", "not distinguishable"
# Two differences closer than this are equal: accuracies are counts of images, divided.
_EQUAL = 1e-12
_OF_SEEDS = (
    "Intervals are Student's t over the paired differences of the seeds: they cover what training anew with other "
    "seeds, and with other draws of training images where fewer than all are used, does to the mean difference on "
    "these test images; other test images are not covered."
)
_OVER_TASKS = (
    "Over all tasks the interval is that of the mean of the tasks' means, each task with its own spread over seeds "
    "(Welch and Satterthwaite): it covers other seeds on these tasks. What other tasks would do is in a second "
    "interval, Student's t over the tasks' means, which is wide where tasks are few; a verdict of its own goes with it."
)
_VERDICTS = (
    "Verdicts are those of p-values after Holm's correction for the number of rivals, so an interval, which is not"
    " corrected, may leave out 0 where the verdict is 'not distinguishable'. Stuck runs stay in every mean."
)


class Measured(NamedTuple):
    """What one run of a method reached: its test accuracy, or its agreement with the teacher's reasons."""

    task: str
    seed: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far the reference is above a rival in test accuracy, or in agreement of reasons, over paired runs.

    Attributes:
        mean: mean difference; over several tasks the mean of the tasks' means.
        pairs, wins, losses: pairs of runs with the same task and seed; those that the reference won, and lost.
        interval: of the mean, for other seeds on the same tasks; None for one pair or for pairs without spread.
        p: two-sided p-value of the mean; `p_adjusted` is after Holm's correction.
        verdict: `ahead`, `behind` or `not distinguishable`.
        task_interval, task_p, task_verdict: the same for other tasks like these; None where there is one task.
        reason: why there is no interval, else empty.
    """

    mean: float
    pairs: int
    wins: int
    losses: int
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_adjusted: float | None = None
    verdict: str = NEITHER
    task_interval: tuple[float, float] | None = None
    task_p: float | None = None
    task_verdict: str | None = None
    reason: str = ""


def coverage(over_tasks: bool) -> list[str]:
    """Say in sentences what the intervals and verdicts cover, and what they do not."""
    return [_OF_SEEDS, *([_OVER_TASKS] if over_tasks else []), _VERDICTS]


def say_worth(rivals: Mapping[str, tuple[float, Difference]], reference: str, remedy: str) -> str:
    """Say in one sentence whether the reference was worth it: whether it beats the best of the plain ways.

    Args:
        rivals: {plain way: (its accuracy, difference to the reference)}; empty gives an empty sentence.
        reference: the name of the method that is judged.
        remedy: what would tell where these runs or images cannot.
    """
    if not rivals:
        return ""
    best, (_, found) = max(rivals.items(), key=lambda item: item[1][0])
    low, high = found.interval or (None, None)
    span = f", interval {signed_points(low)} to {signed_points(high)}" if low is not None and high is not None else ""
    which = f"{best}, the best of {join_words(list(rivals))}" if len(rivals) > 1 else best
    against = f"{signed_points(found.mean)} points against {which}{span}"
    if found.verdict == NEITHER:
        return f"Whether {reference} was worth it cannot be told: {against}; {remedy}."
    return f"{reference} was {'worth it' if found.verdict == AHEAD else 'not worth it'}: {against}."


def mean_of_tasks(runs: Sequence[Measured]) -> float | None:
    """Return the mean over the runs; of several tasks the mean of their means. None without runs."""
    tasks = dict.fromkeys(run.task for run in runs)
    means = [statistics.fmean(run.value for run in runs if run.task == task) for task in tasks]
    return statistics.fmean(means) if means else None


def spread_over_seeds(runs: Sequence[Measured]) -> float | None:
    """Return the sample standard deviation over seeds; of several tasks that of the seeds' means. None for one seed.

    Only seeds that every task has count, so that tasks do not add to the spread.
    """
    tasks = {run.task for run in runs}
    by_seed = {seed: [run.value for run in runs if run.seed == seed] for seed in {run.seed for run in runs}}
    means = [statistics.fmean(values) for values in by_seed.values() if len(values) == len(tasks)]
    return statistics.stdev(means) if len(means) > 1 else None


def pair_up(ours: Sequence[Measured], theirs: Sequence[Measured]) -> list[list[float]]:
    """Return the differences (ours - theirs) of runs with the same task and seed, a list for each task."""
    rival = {(run.task, run.seed): run.value for run in theirs}
    tasks = dict.fromkeys(run.task for run in ours)
    return [
        [run.value - rival[task, run.seed] for run in ours if run.task == task and (task, run.seed) in rival]
        for task in tasks
    ]


def compare_pairs(tasks: Sequence[Sequence[float]], confidence: float) -> Difference | None:
    """Summarise each task's differences, (reference - rival) of every seed, without verdicts; None without any pair."""
    tasks = [list(each) for each in tasks if each]
    pairs = [difference for each in tasks for difference in each]
    if not pairs:
        return None
    means = [statistics.fmean(each) for each in tasks]
    plain = Difference(
        mean=statistics.fmean(means),
        pairs=len(pairs),
        wins=sum(each > _EQUAL for each in pairs),
        losses=sum(each < -_EQUAL for each in pairs),
    )
    if len(pairs) > 1 and max(pairs) - min(pairs) < _EQUAL:
        if abs(plain.mean) < _EQUAL:
            return replace(plain, mean=0.0, p=1.0, reason="equal in every run")
        return replace(plain, reason="the same difference in every run: no spread to judge it by")
    if len(means) > 1 and max(means) - min(means) >= _EQUAL:
        interval, p = mean_t([means], confidence)
        plain = replace(plain, task_interval=interval, task_p=p)
    if all(len(each) == 1 for each in tasks):
        return replace(plain, reason="one seed: no spread to judge the difference by")
    if all(max(each) - min(each) < _EQUAL for each in tasks):
        return replace(plain, reason="the same difference for every seed: no spread to judge it by")
    interval, p = mean_t(tasks, confidence)
    return replace(plain, interval=interval, p=p)


def mean_t(groups: Sequence[Sequence[float]], confidence: float) -> tuple[tuple[float, float], float]:
    """Return the interval of the mean of the groups' means, and the two-sided p-value that this mean is 0.

    Every group has its own variance; the degrees of freedom are those of Welch and Satterthwaite. With one group this
    is Student's t. A group of one value takes the pooled variance of the others. At least one group must have spread.
    """
    from scipy.stats import t

    freedoms = [len(each) - 1 for each in groups]
    squares = sum(statistics.variance(each) * (len(each) - 1) for each in groups if len(each) > 1)
    pooled = squares / sum(freedoms)
    # The variance of each group's mean, and the degrees of freedom it is known with.
    errors = [(statistics.variance(each) if len(each) > 1 else pooled) / len(each) for each in groups]
    known = [freedom or sum(freedoms) for freedom in freedoms]
    mean = statistics.fmean(statistics.fmean(each) for each in groups)
    error = sum(errors) ** 0.5 / len(groups)
    freedom = sum(errors) ** 2 / sum(each**2 / of for each, of in zip(errors, known, strict=True))
    reach = float(t.ppf(0.5 + confidence / 2, freedom)) * error
    return (mean - reach, mean + reach), float(2 * t.sf(abs(mean) / error, freedom))


def add_verdicts(differences: Sequence[Difference | None], confidence: float) -> list[Difference | None]:
    """Correct the p-values of one set of rivals for their number, and add each rival's verdict."""
    adjusted = _adjust([None if each is None else each.p for each in differences])
    over_tasks = _adjust([None if each is None else each.task_p for each in differences])
    return [
        each and _with_verdicts(each, p, task_p, confidence)
        for each, p, task_p in zip(differences, adjusted, over_tasks, strict=True)
    ]


def _adjust(p_values: Sequence[float | None]) -> list[float | None]:
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def _with_verdicts(difference: Difference, p: float | None, task_p: float | None, confidence: float) -> Difference:
    def verdict(adjusted: float | None) -> str:
        if adjusted is None or adjusted > 1 - confidence:
            return NEITHER
        return AHEAD if difference.mean > 0 else BEHIND

    return replace(
        difference, p_adjusted=p, verdict=verdict(p), task_verdict=None if task_p is None else verdict(task_p)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) step-down adjusted p-values, in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
