"""The comparison of several models by alternating blocks of runs: what slows the machine slows all models equally.

Every model runs in its own process, so memory, threads and caches are not shared, and an idle process disturbs nobody.
A round has one block of each model, in an order drawn by a seeded generator. A process can be lucky all its life in
where its memory lies, so the rounds are spread over several sets of fresh processes. Before that, the first model is
compared with itself in the same way (A/A). The difference found there is the error of this machine; it widens the
margin.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedistill_deploy.clock import MACHINE_CLOCK, Clock
from edgedistill_deploy.latency._warm_up import time_run
from edgedistill_deploy.latency.comparison import (
    ComparisonVerdict,
    Interval,
    circular_blocks,
    middle_of,
    require_settings,
    verdict_of,
)
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import PlainRecord
from edgedistill_deploy.statistics.quantiles import Samples

Block = Callable[[], Sequence[float]]

MARGIN = 0.03
CONFIDENCE = 0.95
BLOCK_S = 0.05
_SETTLING_SHARE = 0.2  # of a block's runs is dropped: the caches are cold after another model ran
_FEWEST_RUNS = 5
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfComparison:
    """A model against itself (A/A), once for each set of processes.

    There is one ratio, interval and verdict for each set; the verdicts are at the margin that the user asked for.
    `false_alarm_rate` is the share of "faster" and "slower" among them. `deviation` is the largest distance of a ratio
    from 1.
    """

    ratios: tuple[float, ...]
    intervals: tuple[Interval, ...]
    verdicts: tuple[ComparisonVerdict, ...]
    false_alarm_rate: float
    deviation: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockComparison(PlainRecord):
    """The ratio of the median times of two models, candidate over baseline, by alternating blocks.

    `margin` is the larger of `asked_margin` and the deviation of the A/A comparison. `verdict` is "faster" or "slower"
    when the whole interval lies more than `margin` from 1, "equal" (not distinguishable) when it lies within `margin`,
    else "inconclusive".
    """

    candidate: str
    baseline: str
    ratio: float
    interval: Interval
    confidence: float
    margin: float
    asked_margin: float
    verdict: ComparisonVerdict
    rounds: int
    sentence: str


def run_block(run: Callable[[], object], seconds: float, clock: Clock = MACHINE_CLOCK) -> list[float]:
    """Run for so many seconds, at least five times, and return the times in ms of the last four fifths of the runs."""
    times: list[float] = []
    began = clock.now_ns()
    while len(times) < _FEWEST_RUNS or clock.now_ns() - began < seconds * 1e9:
        times.append(time_run(run, clock) / 1e6)
    return times[int(np.ceil(_SETTLING_SHARE * len(times))) :]


def alternate(blocks: Sequence[Block], rounds: int, seed: int, progress: Progress = silent) -> Samples:
    """Run each block once a round, in random order; return each block's median time in ms, (rounds, len(blocks))."""
    random = np.random.default_rng(seed)
    medians = np.empty((rounds, len(blocks)))
    places = [(row, column) for row in range(rounds) for column in random.permutation(len(blocks))]
    for done, (row, column) in enumerate(places, 1):
        medians[row, column] = np.median(blocks[column]())
        progress(done, len(places))
    return medians


def ratio_interval(
    candidate: Samples, baseline: Samples, confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, Interval]:
    """Return the ratio of the medians of block medians (rounds,), and its bootstrap interval.

    A circular block bootstrap resamples whole rounds, so both models keep the machine's state that they shared.
    Neighbouring rounds are drawn together, because the state lasts longer than a round.
    """
    count = len(candidate)
    length = max(1, round(count ** (1 / 3)))
    starts = np.random.default_rng(seed).integers(0, count, (_RESAMPLES, -(-count // length)))
    rows = circular_blocks(starts, length, count)
    ratios = np.median(candidate[rows], axis=1) / np.median(baseline[rows], axis=1)
    return float(np.median(candidate) / np.median(baseline)), middle_of(ratios, confidence)


def compare_with_itself(
    sets: Sequence[Samples], margin: float = MARGIN, confidence: float = CONFIDENCE, seed: int = 0
) -> SelfComparison:
    """Sum up the block medians (rounds, 2) of one model in two processes, for every set of processes."""
    found = [ratio_interval(medians[:, 1], medians[:, 0], confidence, seed) for medians in sets]
    ratios = tuple(ratio for ratio, _ in found)
    verdicts = tuple(verdict_of(interval, margin) for _, interval in found)
    alarms = sum(verdict in ("faster", "slower") for verdict in verdicts)
    deviation = max(max(ratio, 1 / ratio) - 1 for ratio in ratios)
    return SelfComparison(
        ratios=ratios,
        intervals=tuple(interval for _, interval in found),
        verdicts=verdicts,
        false_alarm_rate=alarms / len(ratios),
        deviation=deviation,
        sentence=f"A/A: the same model in two processes, {len(ratios)} times: the ratios ran from {min(ratios):.3f} to"
        f" {max(ratios):.3f}, and {alarms} of {len(ratios)} were taken for a difference at a margin of {margin:.1%}.",
    )


def compare_blocks(
    candidate: Samples,
    baseline: Samples,
    itself: SelfComparison,
    names: tuple[str, str],
    *,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> BlockComparison:
    """Compare the block medians (rounds,) of two models, measured in the same rounds.

    Raises UsageError for a margin or a confidence outside 0 to 1.
    """
    require_settings(margin, confidence)
    ratio, interval = ratio_interval(candidate, baseline, confidence, seed)
    widened = max(margin, itself.deviation)
    verdict = verdict_of(interval, widened)
    return BlockComparison(
        candidate=names[0],
        baseline=names[1],
        ratio=ratio,
        interval=interval,
        confidence=confidence,
        margin=widened,
        asked_margin=margin,
        verdict=verdict,
        rounds=len(candidate),
        sentence=_sentence(names, ratio, interval, verdict, widened, margin),
    )


def _sentence(
    names: tuple[str, str], ratio: float, interval: Interval, verdict: ComparisonVerdict, margin: float, asked: float
) -> str:
    said = {
        "faster": "is faster than",
        "slower": "is slower than",
        "equal": "is not distinguishable from",
        "inconclusive": "may or may not differ from",
    }[verdict]
    widened = f", widened from {asked:.1%} by the A/A comparison" if margin > asked else ""
    return (
        f"{names[0]} {said} {names[1]}: it takes {ratio:.3f} of the time, [{interval[0]:.3f}, {interval[1]:.3f}], at a "
        f"margin of {margin:.1%}{widened}."
    )


def name_of(alternative: Mapping[str, Any]) -> str:
    """Return the name of an alternative, such as "int8 on onnxruntime"; an unusual provider follows the runtime."""
    runtime, provider = alternative["runtime"], alternative["provider"]
    where = runtime if provider in ("cpu", runtime) else f"{runtime} {provider}"
    return f"{alternative['precision']} on {where}"
