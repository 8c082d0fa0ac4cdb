"""What a calibration costs, phase by phase.

    python -m benchmarks.calibration RUN --source IMAGES

The bundle is copied, calibrated anew with the default settings, and forgotten. `IMAGES` are its training images: a
folder, or a source by its kind, such as `npz:FILE`. A line for each phase has its processor seconds, those of all
threads together, and the seconds that passed. Last come the whole and the peak of the resident memory.
`--keep DIR` keeps the calibrated copy, to compare its files and its ledger with those of another version.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from edgedistill_calibration import calibrate
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.hardware.memory import begin_memory_peak, read_peak_memory_bytes
from edgedistill_deploy.images.sources import open_images

CHOOSING = "choosing images"  # before the first phase that calibration names


@dataclass(slots=True)
class PhaseTimes:
    """The processor and wall seconds of each phase; an instance is the progress callback of a calibration."""

    spent: dict[str, tuple[float, float]] = field(default_factory=dict)
    _phase: str = CHOOSING
    _since: tuple[float, float] = field(default_factory=lambda: _now())

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Count the time since the last call for the phase that ran."""
        now = _now()
        before = self.spent.get(self._phase, (0.0, 0.0))
        self.spent[self._phase] = (before[0] + now[0] - self._since[0], before[1] + now[1] - self._since[1])
        self._since, self._phase = now, note or "finishing"

    def lines(self) -> list[str]:
        """Return the table, the whole last."""
        whole = tuple(sum(each) for each in zip(*self.spent.values(), strict=True))
        rows = [*self.spent.items(), ("whole", whole)]
        return [f"{'phase':<26} {'CPU s':>7} {'wall s':>7}"] + [
            f"{name:<26} {processor:7.1f} {passed:7.1f}" for name, (processor, passed) in rows
        ]


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def copy_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Return a copy of a bundle that was not calibrated."""
    shutil.copytree(bundle.path, folder)
    return open_bundle(folder, verify=False).with_fields(calibration={})


def main() -> None:
    """Calibrate a copy of a bundle and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", required=True)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    bundle = open_bundle(given.run, verify=False)
    images = open_images(given.source).train
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as name:
        copied = copy_bundle(bundle, given.keep or Path(name) / "bundle")
        begin_memory_peak()
        times = PhaseTimes()
        calibrate(copied, images, progress=times)
        times(1, 1)
    print("\n".join(times.lines()))
    print(f"peak of the resident memory: {(read_peak_memory_bytes() or 0) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
