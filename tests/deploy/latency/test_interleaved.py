"""Comparison by alternating blocks, on machines whose true ratio is known."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.latency.interleaved import (
    SelfComparison,
    alternate,
    compare_blocks,
    compare_with_itself,
    name_of,
    ratio_interval,
    run_block,
)
from played_clock import PlayedClock

NAMES = ("int8", "fp32")


class Machine:
    """Processes on a fake clock: each has luck for life, and all share a state that swings slowly and steps once."""

    def __init__(self, seed: int, *, luck: float = 0.005, swing: float = 0.1) -> None:
        self.random = np.random.default_rng(seed)
        self.luck, self.swing = luck, swing
        self.blocks_run = 0
        self.phase = self.random.uniform(0, 2 * np.pi)

    def process(self, true_ms: float) -> Callable[[], list[float]]:
        lucky = float(self.random.normal(1.0, self.luck))

        def block() -> list[float]:
            self.blocks_run += 1
            state = 1 + self.swing * np.sin(self.blocks_run / 15 + self.phase) + 0.2 * (self.blocks_run > 60)
            runs = self.random.gamma(400, lucky * true_ms * state / 400, 20)
            return [float(run) for run in runs]

        return block

    def sets(self, times_ms: list[float], rounds: int = 12, count: int = 4) -> list[NDArray[np.float64]]:
        return [
            alternate([self.process(ms) for ms in times_ms], rounds, seed=int(self.random.integers(1 << 30)))
            for _ in range(count)
        ]


def compared(seed: int, ratio: float, **machine: float) -> tuple[str, SelfComparison, tuple[float, float]]:
    simulated = Machine(seed, **machine)
    itself = compare_with_itself(simulated.sets([1.0, 1.0]))
    columns = np.concatenate(simulated.sets([1.0, ratio])).T
    result = compare_blocks(columns[1], columns[0], itself, NAMES)
    return result.verdict, itself, result.interval


def test_the_interval_covers_the_true_ratio_though_the_machine_swings() -> None:
    covered = 0
    for seed in range(100):
        columns = np.concatenate(Machine(seed, luck=0.0).sets([1.0, 0.8])).T
        _, (low, high) = ratio_interval(columns[1], columns[0])
        covered += low <= 0.8 <= high
    assert covered >= 88


def test_equal_models_are_seldom_called_different() -> None:
    verdicts = [compared(seed, 1.0)[0] for seed in range(60)]
    assert sum(verdict in {"faster", "slower"} for verdict in verdicts) <= 1
    assert verdicts.count("equal") >= 50


@pytest.mark.parametrize(("ratio", "verdict"), [(0.9, "faster"), (1.1, "slower")])
def test_a_difference_of_a_tenth_is_found(ratio: float, verdict: str) -> None:
    assert sum(compared(seed, ratio)[0] == verdict for seed in range(30)) >= 28


def test_a_machine_on_which_equals_differ_is_believed_less() -> None:
    verdicts, margins = [], []
    for seed in range(40):
        verdict, itself, _ = compared(seed, 1.0, luck=0.06)
        verdicts.append(verdict)
        margins.append(itself.deviation)
    assert np.median(margins) > 0.05
    assert sum(verdict in {"faster", "slower"} for verdict in verdicts) <= 3


def test_a_a_counts_what_it_would_have_called_different() -> None:
    same = np.tile([1.0, 1.0], (12, 1))
    apart = np.tile([1.0, 1.25], (12, 1))
    itself = compare_with_itself([same, same, same, apart])
    assert itself.ratios == (1.0, 1.0, 1.0, 1.25)
    assert itself.verdicts == ("equal", "equal", "equal", "slower")
    assert (itself.false_alarm_rate, itself.deviation) == (0.25, 0.25)
    assert "4 times: the ratios ran from 1.000 to 1.250, and 1 of 4 were taken for a difference" in itself.sentence
    faster = compare_blocks(np.full(12, 0.85), np.ones(12), itself, NAMES)
    assert (faster.verdict, faster.margin, faster.asked_margin) == ("equal", 0.25, 0.03)
    assert "int8 is not distinguishable from fp32" in faster.sentence
    assert "at a margin of 25.0%, widened from 3.0% by the A/A comparison" in faster.sentence


def test_every_round_has_each_model_once_in_an_order_that_a_seed_repeats() -> None:
    def order(seed: int) -> list[int]:
        ran: list[int] = []

        def block(index: int) -> list[float]:
            ran.append(index)
            return [float(index)]

        medians = alternate([partial(block, index) for index in range(3)], 20, seed)
        assert np.array_equal(medians, np.tile([0.0, 1.0, 2.0], (20, 1)))
        return ran

    first = order(1)
    assert all(sorted(first[start : start + 3]) == [0, 1, 2] for start in range(0, 60, 3))
    assert len({tuple(first[start : start + 3]) for start in range(0, 60, 3)}) == 6
    assert first == order(1) != order(2)


def test_a_block_leaves_out_the_runs_in_which_the_caches_fill() -> None:
    clock, runs_ms = PlayedClock(), iter([9.0, 9.0, *([1.0] * 100)])

    def run() -> None:
        clock.sleep(next(runs_ms) / 1000)

    assert run_block(run, 0.026, clock) == [1.0] * 8
    assert run_block(run, 0.0, clock) == [1.0] * 4


def test_a_comparison_repeats_exactly() -> None:
    assert compared(5, 0.97) == compared(5, 0.97)


@pytest.mark.parametrize("settings", [{"margin": -0.1}, {"margin": 1.0}, {"confidence": 95.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    itself = compare_with_itself([np.ones((5, 2))])
    with pytest.raises(UsageError, match="both must lie between 0 and 1"):
        compare_blocks(np.ones(5), np.ones(5), itself, NAMES, **settings)  # type: ignore[arg-type]


def test_alternatives_have_a_name() -> None:
    model = {"precision": "int8", "runtime": "onnxruntime", "provider": "cpu", "threads": 1}
    assert name_of(model) == "int8 on onnxruntime"
    assert name_of({**model, "provider": "openvino"}) == "int8 on onnxruntime openvino"
    assert name_of({**model, "runtime": "tensorrt", "provider": "tensorrt"}) == "int8 on tensorrt"
