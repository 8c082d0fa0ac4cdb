"""The time from the start of a process to a model's first answer, as after a device is switched on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.profiling._fresh_process import FreshProcess
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import PlainRecord

PARTS = ("start", "import", "load", "first_run")
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartReport(PlainRecord):
    """The parts of a cold start, one value for each process, and their medians; `total` is the sum of the parts.

    start      the process, until Python runs the first line of ours
    import     numpy, Pillow and the runtime
    load       the model's file, its sha256, the session; for TensorRT the engine, from its cache when it is there
    first_run  the first inference

    After the first process the files are in the system's cache; after switching on, they are also read from the disk.
    """

    repeats: int
    parts_ms: Mapping[str, tuple[float, ...]]
    median_ms: Mapping[str, float]
    slowest_ms: float


def measure_cold_start(
    folder: Path, model: Mapping[str, Any], batch_size: int = 1, repeats: int = REPEATS, progress: Progress = silent
) -> ColdStartReport:
    """Start a process that imports, loads and runs once, then end it; repeat that.

    `model` holds the arguments of `open_session` except the bundle. Raises UsageError for less than one repeat, and the
    errors of the process.
    """
    if repeats < 1:
        raise UsageError(f"repeats is {repeats}; it must be 1 or more.")
    rows = []
    for index in range(repeats):
        rows.append(_once(folder, model, batch_size))
        progress(index + 1, repeats)
    return summary_of(rows)


def summary_of(rows: list[dict[str, float]]) -> ColdStartReport:
    """Sum up the parts of several starts, each {"start", "import", "load", "first_run"} in ms."""
    whole = [sum(row[part] for part in PARTS) for row in rows]
    parts = {part: tuple(row[part] for row in rows) for part in PARTS} | {"total": tuple(whole)}
    return ColdStartReport(
        repeats=len(rows),
        parts_ms=parts,
        median_ms={part: float(np.median(values)) for part, values in parts.items()},
        slowest_ms=max(whole),
    )


def _once(folder: Path, model: Mapping[str, Any], batch_size: int) -> dict[str, float]:
    with FreshProcess() as process:
        told = process.ask("cold_start", folder=str(folder.resolve()), model=dict(model), batch_size=batch_size)
        start_ns = told.pop("began") - process.started_ns
    return {part: ns / 1e6 for part, ns in {"start": start_ns, **told}.items()}
