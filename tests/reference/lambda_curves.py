"""Made-up training runs whose validation accuracy follows a closed form, and a script that tunes lambda over them.

Their progress has the fields of the training loop's that tuning reads, so that nothing here waits for torch to load.

`python lambda_curves.py FOLDER LOG SECONDS [together]` appends `start LAMBDA` and `end LAMBDA` lines to LOG, sleeping
so long an epoch. With `together` no run ends before a second one has started.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from edgedistill.config import DistillConfig
from edgedistill.distillation.tuning import LambdaChoice, choose_lambda

if TYPE_CHECKING:
    from edgedistill.distillation.events import Watcher

Curve = Callable[[float, int], float]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What tuning reads of an epoch's record."""

    epoch: int
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class At:
    """What tuning reads and passes on of the training's progress."""

    epoch: int
    epochs: int
    last: Finished | None
    phase: str = "training"
    standing: None = None


def peaked(best: float) -> Curve:
    """Accuracy rises with the epochs and falls with the distance from `best` in powers of ten."""
    return lambda value, epoch: 0.9 - 0.1 * abs(math.log10(value / best)) - 0.2 / (epoch + 1)


def two_hills(value: float, epoch: int) -> float:
    """Best at 0.1 and second at 100, which halving lets through its first rung only if every run counts once there."""
    heights = {1.0: 0.5, 10.0: 0.4, 0.1: 0.9, 100.0: 0.8, 0.01: 0.3, 1000.0: 0.2, 0.001: 0.1}
    return heights[value] - 0.2 / (epoch + 1)


def curve_run(curve: Curve, log: list[tuple[float, int]], seconds: float = 0.0) -> Any:
    """Return a `run` that follows the curve as the training loop would, noting (lambda, epoch) in `log`."""

    def run(config: DistillConfig, progress: "Watcher") -> Any:
        value = float(config.lambda_layer)
        history: list[Finished] = []
        for epoch in range(config.epoch_count):
            last = history[-1] if history else None
            at: Any = At(epoch=epoch, epochs=config.epoch_count, last=last)
            progress(at)
            progress(at)
            log.append((value, epoch))
            time.sleep(seconds)
            history.append(Finished(epoch=epoch, validation_accuracy=curve(value, epoch)))
        return SimpleNamespace(
            validation_accuracy=max(each.validation_accuracy for each in history), history=tuple(history)
        )

    return run


def wait_for_two(log: Path) -> None:
    """Wait until two runs have started; a test that waits in vain fails by what is in the log."""
    deadline = time.monotonic() + 100
    while log.read_text(encoding="utf-8").count("start") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)


def tune_to_a_log(folder: Path, log: Path, seconds: float, *, together: bool = False) -> LambdaChoice:
    """Tune over two hills, leaving a line in `log` when a run starts and when it ends."""
    inner = curve_run(two_hills, [], seconds)

    def say(word: str, config: DistillConfig) -> None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{word} {float(config.lambda_layer):g}\n")

    def run(config: DistillConfig, progress: "Watcher") -> Any:
        say("start", config)
        if together:
            wait_for_two(log)
        try:
            return inner(config, progress)
        finally:
            say("end", config)

    return choose_lambda(run, DistillConfig(epochs=32), fingerprint="curves", folder=folder)


if __name__ == "__main__":
    tune_to_a_log(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), together="together" in sys.argv[4:])
