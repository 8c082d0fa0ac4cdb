"""The processes of a comparison by alternating blocks (see `interleaved`), and the record of the comparison."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.hardware.device import read_conditions, read_device
from edgedistill_deploy.latency.interleaved import (
    BLOCK_S,
    Block,
    alternate,
    compare_blocks,
    compare_with_itself,
    name_of,
)
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.profiling._fresh_process import FreshProcess
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import SCHEMA, plain
from edgedistill_deploy.runtimes.session import LIMIT_S
from edgedistill_deploy.statistics.quantiles import Samples

Model = Mapping[str, Any]

SETS = 4
_FEWEST_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """How to compare models: each runs `config.duration_s` in all, spread over `sets` sets of fresh processes."""

    folder: Path
    config: LatencyConfig
    margin: float
    seed: int
    sets: int = SETS
    limit_s: float = LIMIT_S
    progress: Progress = silent

    @property
    def block_s(self) -> float:
        """The planned length of a block; it is shortened where a set could not hold five rounds of them."""
        return min(BLOCK_S, self.config.duration_s / (self.sets * _FEWEST_ROUNDS))


def compare_models(models: Sequence[Model], settings: Comparing) -> dict[str, Any]:
    """Compare the first model with itself, then every other with it; return the record, kind "latency-comparison".

    A model holds the arguments of `open_session` except the bundle.
    """
    before = read_conditions()
    itself = _block_medians([models[0], models[0]], settings, "A/A", settings.seed)
    a_a = compare_with_itself(itself, settings.margin, seed=settings.seed)
    sets = _block_medians(models, settings, "A/B", settings.seed + 1)
    columns, names = np.concatenate(sets).T, [name_of(model) for model in models]
    pairs = [
        compare_blocks(column, columns[0], a_a, (name, names[0]), margin=settings.margin, seed=settings.seed).to_json()
        for name, column in zip(names[1:], columns[1:], strict=True)
    ]
    return {
        "kind": "latency-comparison",
        "schema": SCHEMA,
        "device": read_device().to_json(),
        "batch_size": settings.config.batch_size,
        "alternatives": [
            {**model, "name": name, "p50_ms": float(np.median(column))}
            for model, name, column in zip(models, names, columns, strict=True)
        ],
        "seed": settings.seed,
        "sets": settings.sets,
        "a_a": plain(a_a),
        "pairs": pairs,
        "block_medians_ms": {"a_a": plain([part.tolist() for part in itself]), "a_b": [part.tolist() for part in sets]},
        "conditions": {"before": before, "after": read_conditions()},
    }


def _block_medians(models: Sequence[Model], settings: Comparing, name: str, seed: int) -> list[Samples]:
    """Return the block medians in ms, (rounds, len(models)), of every set of fresh processes."""
    rounds, found = None, []
    for index in range(settings.sets):
        with ExitStack() as stack:
            blocks = [_open_and_warm_up(stack.enter_context(FreshProcess()), model, settings) for model in models]
            rounds = rounds or _affordable_rounds(blocks, settings)
            found.append(alternate(blocks, rounds, seed + index, _in_all_sets(settings, name, index)))
    return found


def _in_all_sets(settings: Comparing, name: str, index: int) -> Progress:
    """Return a progress that reports the steps of one set as steps of all sets together."""
    return lambda done, total, note="": settings.progress(index * total + done, settings.sets * total, name)


def _open_and_warm_up(process: FreshProcess, model: Model, settings: Comparing) -> Block:
    """Load the model, warm it up for this set's part of the warm-up, and return what runs a block of it."""
    size = settings.config.batch_size
    process.ask(
        "open", folder=str(settings.folder.resolve()), model={**model, "limit_s": settings.limit_s}, batch_size=size
    )
    process.ask("block", seconds=settings.config.warmup_s / settings.sets, batch_size=size)
    return lambda: [float(ms) for ms in process.ask("block", seconds=settings.block_s, batch_size=size)]


def _affordable_rounds(blocks: Sequence[Block], settings: Comparing) -> int:
    """Return how many rounds fit in one set, at least five; the block of a slow model is longer than planned."""
    slowest_ms = max(float(np.median(block())) for block in blocks)
    needed_s = max(settings.block_s, 5 * slowest_ms / 1000)
    set_s = settings.config.duration_s / settings.sets
    return max(_FEWEST_ROUNDS, round(set_s / needed_s)) if needed_s > 0 else _FEWEST_ROUNDS
