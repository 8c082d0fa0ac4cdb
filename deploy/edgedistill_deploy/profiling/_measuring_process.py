"""The process that measures: requests on stdin, answers on stdout; see `_fresh_process` and `lines`."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.lines import LineWriter
from edgedistill_deploy.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgedistill_deploy.bundle.folder import Bundle
    from edgedistill_deploy.runtimes.session import Session


def main() -> None:
    """Answer requests until the input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    lines = LineWriter()
    worker = _Worker()
    for line in sys.stdin:
        request = json.loads(line)
        task = _TASKS[request.pop("task")]
        try:
            lines.send(result=task(worker, lines.progress, **request))
        except EdgeDistillError as error:
            lines.send_error(error)


class _Worker:
    """One opened model; every public method is a task. Nothing heavy is imported before a task needs it."""

    def __init__(self) -> None:
        self._opened: tuple[Session, NDArray[np.uint8], Bundle] | None = None

    def identify(self, progress: Progress) -> int:
        """Return the number of this process."""
        return os.getpid()

    def open(self, progress: Progress, *, folder: str, model: Mapping[str, Any], batch_size: int) -> None:
        """Load a model of a bundle, and the images in the bundle."""
        from edgedistill_deploy.bundle.folder import open_bundle
        from edgedistill_deploy.bundle.reference import read_golden
        from edgedistill_deploy.runtimes.engine_options import DEFAULT_ENGINE
        from edgedistill_deploy.runtimes.opening import open_session

        bundle = open_bundle(Path(folder), verify=False)
        images, _ = read_golden(bundle.file("golden"))
        self._opened = open_session(bundle, **model, engine=DEFAULT_ENGINE.tuned_for(batch_size)), images, bundle

    def measure(self, progress: Progress, *, config: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the opened model and return the latency record."""
        from edgedistill_deploy.latency.measurement import LatencyConfig, measure_latency

        session, images, _ = self._require_opened()
        return measure_latency(session, images, LatencyConfig(**config), progress=progress).to_json()

    def sustain(self, progress: Progress, *, load: Mapping[str, Any]) -> dict[str, Any]:
        """Run the opened model for images that arrive at a given rate."""
        from edgedistill_deploy.latency.sustained import Load, measure_sustained

        return measure_sustained(self._run_of(load["batch_size"]), Load(**load), progress=progress).to_json()

    def end_to_end(self, progress: Progress, *, config: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the opened model from the bytes of JPEGs."""
        from edgedistill_deploy.latency.end_to_end import measure_bundle_end_to_end
        from edgedistill_deploy.latency.measurement import LatencyConfig

        session, images, bundle = self._require_opened()
        return measure_bundle_end_to_end(session, bundle, images, LatencyConfig(**config)).to_json()

    def layers(self, progress: Progress, *, batch_size: int) -> dict[str, Any]:
        """Time every node of the opened model; return "layers" and "layer_run" of the record."""
        from edgedistill_deploy.latency.layer_times import measure_layers
        from edgedistill_deploy.latency.measurement import fill_batch

        session, images, _ = self._require_opened()
        return measure_layers(session, {"image": fill_batch(images, batch_size)}, progress).to_json()

    def power(
        self, progress: Progress, *, batch_size: int, idle_s: float, load_s: float, sensor: str
    ) -> dict[str, Any]:
        """Read the board's power at rest and while the opened model runs."""
        from edgedistill_deploy.hardware.power import measure_energy

        run = self._run_of(batch_size)
        return measure_energy(run, batch_size, idle_s=idle_s, load_s=load_s, sensor=sensor).to_json()

    def block(self, progress: Progress, *, seconds: float, batch_size: int) -> list[float]:
        """Run the opened model for a short time and return the times of the runs in ms."""
        from edgedistill_deploy.latency.interleaved import run_block

        return run_block(self._run_of(batch_size), seconds)

    def cold_start(
        self, progress: Progress, *, folder: str, model: Mapping[str, Any], batch_size: int
    ) -> dict[str, int]:
        """Time importing, loading and one run; see `cold_start`."""
        from edgedistill_deploy.profiling._starting import start_and_run

        return start_and_run(folder, model, batch_size)

    def _run_of(self, batch_size: int) -> Callable[[], object]:
        """Return a function that runs the opened model once, on a batch of the bundle's images."""
        from edgedistill_deploy.latency.measurement import fill_batch

        session, images, _ = self._require_opened()
        feeds = {"image": fill_batch(images, batch_size)}
        return lambda: session.run(feeds)

    def _require_opened(self) -> "tuple[Session, NDArray[np.uint8], Bundle]":
        assert self._opened is not None
        return self._opened


_TASKS: Mapping[str, Callable[..., Any]] = {
    name: method for name, method in vars(_Worker).items() if not name.startswith("_")
}

if __name__ == "__main__":
    main()
