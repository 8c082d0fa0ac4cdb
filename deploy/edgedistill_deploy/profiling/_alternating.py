"""The processes of a comparison by alternating blocks: who is asked for how long, and what the record says. See
`interleaved`."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.hardware.device import read_conditions, read_device
from edgedistill_deploy.latency.interleaved import (
    BLOCK_S,
    CONFIDENCE,
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
from edgedistill_deploy.statistics.quantiles import Samples

Model = Mapping[str, Any]

SETS = 4
_FEWEST_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """How models are compared: each is measured for `config.duration_s` in all, over so many sets of fresh
    processes."""

    folder: Path
    config: LatencyConfig
    margin: float
    seed: int
    sets: int = SETS
    progress: Progress = silent


def compare_models(models: Sequence[Model], settings: Comparing) -> dict[str, Any]:
    """Compare every model with the first, after the first with itself; the record, kind "latency-comparison".

    A model is what `open_session` takes beside the bundle.
    """
    before = read_conditions()
    itself = _block_medians([models[0], models[0]], settings, "A/A", settings.seed)
    a_a = compare_with_itself(itself, settings.margin, CONFIDENCE, settings.seed)
    sets = _block_medians(models, settings, "A/B", settings.seed + 1)
    columns, names = np.concatenate(sets).T, [name_of(model) for model in models]
    pairs = [
        compare_blocks(
            columns[index], columns[0], a_a, (names[index], names[0]), margin=settings.margin, seed=settings.seed
        ).to_json()
        for index in range(1, len(models))
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
            processes = [_open_and_warm_up(stack.enter_context(FreshProcess()), model, settings) for model in models]
            rounds = rounds or _affordable_rounds(processes, settings)
            blocks = [_block_of(process, settings) for process in processes]
            found.append(alternate(blocks, rounds, seed + index, _in_all_sets(settings, name, index)))
    return found


def _in_all_sets(settings: Comparing, name: str, index: int) -> Progress:
    """Return the progress of one set, told as that of all sets together."""
    return lambda done, total, note="": settings.progress(index * total + done, settings.sets * total, name)


def _open_and_warm_up(process: FreshProcess, model: Model, settings: Comparing) -> FreshProcess:
    """Load and warm up; an equal part of the warm-up in each set."""
    size = settings.config.batch_size
    process.ask("open", folder=str(settings.folder.resolve()), model=dict(model), batch_size=size)
    process.ask("block", seconds=settings.config.warmup_s / settings.sets, batch_size=size)
    return process


def _block_of(process: FreshProcess, settings: Comparing) -> Block:
    seconds = min(BLOCK_S, settings.config.duration_s / (settings.sets * _FEWEST_ROUNDS))
    return lambda: [float(ms) for ms in process.ask("block", seconds=seconds, batch_size=settings.config.batch_size)]


def _affordable_rounds(processes: Sequence[FreshProcess], settings: Comparing) -> int:
    """Return how many blocks fit the time of one set, five at least; a slow model's block is longer than planned."""
    block_s = min(BLOCK_S, settings.config.duration_s / (settings.sets * _FEWEST_ROUNDS))
    slowest_ms = max(float(np.median(_block_of(process, settings)())) for process in processes)
    needed_s = max(block_s, 5 * slowest_ms / 1000)
    return (
        max(_FEWEST_ROUNDS, round(settings.config.duration_s / settings.sets / needed_s))
        if needed_s > 0
        else _FEWEST_ROUNDS
    )
