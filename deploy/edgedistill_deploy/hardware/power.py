"""The energy of an inference, where the board can measure it: power under load less power at rest.

These runs are not the timed ones, because reading a sensor takes time.
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.clock import MACHINE_CLOCK, Clock
from edgedistill_deploy.hardware._power_readers import PowerReader, RaplReader, find_power_reader
from edgedistill_deploy.hardware.device import ROOT, Command, run_command

BLOCKS = 5  # of equal time in a window; their spread gives the uncertainty of the window's mean
_T_95 = 2.306  # two-sided 95 % quantile of Student's t with 2 * (BLOCKS - 1) degrees of freedom
_FEWEST_READINGS = 2 * BLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The power over some seconds, in watts; `block_w` are the means of `BLOCKS` parts of equal time."""

    mean_w: float
    block_w: tuple[float, ...]
    seconds: float
    reading_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReport:
    """The energy of an inference. A field that the board cannot measure is None, never 0, and `reason` says why.

    Attributes:
        reader, scope: the sensor, and the parts of the board that it measures.
        idle, load: the power at rest just before the runs, and during them.
        net_w: the load's power minus the idle power, in watts.
        net_interval_w: its 95 % interval, from the spread of the blocks' means.
        energy_per_image_mj: net millijoules an image.
        gross_energy_per_image_mj: the same with the idle power.
    """

    reader: str | None = None
    scope: str | None = None
    idle: Window | None = None
    load: Window | None = None
    runs: int | None = None
    batch_size: int | None = None
    net_w: float | None = None
    net_interval_w: tuple[float, float] | None = None
    energy_per_image_mj: float | None = None
    gross_energy_per_image_mj: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def measure_energy(
    run: Callable[[], object],
    batch_size: int,
    *,
    idle_s: float = 3.0,
    load_s: float = 10.0,
    sensor: str = "auto",
    root: Path = ROOT,
    command: Command = run_command,
    clock: Clock = MACHINE_CLOCK,
) -> EnergyReport:
    """Read the board's power at rest and while `run` is called over and over.

    Args:
        run: one inference of `batch_size` images.
        sensor: one of `remote.inventory.POWER_READERS`; "auto" is the first that the board has.
        root, command: where the board's sensors are.
        clock: times the windows, and waits in the one at rest.
    """
    with contextlib.ExitStack() as stack:
        reader = find_power_reader(stack, root, command, sensor)
        if reader is None:
            named = "no power sensor" if sensor in ("auto", "none") else f"no {sensor}"
            return EnergyReport(reason=f"not available: this machine shows {named} to this user")
        run()
        idle = _watch(reader, idle_s, lambda: clock.sleep(reader.period_s), clock)
        done = 0

        def once() -> None:
            nonlocal done
            run()
            done += 1

        load = _watch(reader, load_s, once, clock)
        if idle is None or load is None:
            return EnergyReport(
                reader=reader.name,
                scope=reader.scope,
                reason=f"not available: {reader.name} gave fewer than {_FEWEST_READINGS} readings",
            )
        return _energy(reader, idle, load, done, batch_size)


def _energy(reader: PowerReader, idle: Window, load: Window, runs: int, batch_size: int) -> EnergyReport:
    net_w = load.mean_w - idle.mean_w
    spread = np.sqrt(sum(np.var(each.block_w, ddof=1) / BLOCKS for each in (idle, load)))
    interval = (net_w - _T_95 * float(spread), net_w + _T_95 * float(spread))
    images = runs * batch_size
    clear = interval[0] > 0
    return EnergyReport(
        reader=reader.name,
        scope=reader.scope,
        idle=idle,
        load=load,
        runs=runs,
        batch_size=batch_size,
        net_w=net_w,
        net_interval_w=interval,
        energy_per_image_mj=1000 * net_w * load.seconds / images if clear else None,
        gross_energy_per_image_mj=1000 * load.mean_w * load.seconds / images,
        reason=None if clear else "the power under load is not distinguishable from that at rest",
    )


def _watch(reader: PowerReader, seconds: float, work: Callable[[], None], clock: Clock) -> Window | None:
    """Work for some seconds and return the power during them; None where the sensor stops answering.

    The sensor is read between pieces of work when its period has passed. A thread would take the processor from the
    work.
    """
    work()  # the sensor still shows the time before
    times, values = [clock.now_ns() / 1e9], [reader.read()]
    end = times[0] + seconds
    while times[-1] < end:
        work()
        now = clock.now_ns() / 1e9
        if now - times[-1] >= reader.period_s or now >= end:
            values.append(reader.read())
            times.append(now)
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < _FEWEST_READINGS:
        return None
    return _window(np.array(times), np.array(known), counts=isinstance(reader, RaplReader))


def _window(times: np.ndarray, values: np.ndarray, *, counts: bool) -> Window:
    """Cut readings (n,) at times (n,) into blocks. Watts, unlike joules, are integrated by the trapezoid rule."""
    areas = np.diff(times) * (values[1:] + values[:-1]) / 2
    joules = values - values[0] if counts else np.concatenate([[0.0], np.cumsum(areas)])
    edges = np.linspace(times[0], times[-1], BLOCKS + 1)
    at_edges = np.interp(edges, times, joules)
    seconds = float(times[-1] - times[0])
    return Window(
        mean_w=float(joules[-1]) / seconds,
        block_w=tuple((np.diff(at_edges) / np.diff(edges)).tolist()),
        seconds=seconds,
        reading_count=len(values),
    )
