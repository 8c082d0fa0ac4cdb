"""`lambda_layer = "auto"`: the weight of the layer term, chosen on validation images by short runs.

This is successive halving over powers of ten (`docs/method.md`, "Choosing lambda").
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar, cast

from edgedistill.config import LAMBDA_GRID, DistillConfig
from edgedistill.data.unlabelled import JudgedBy
from edgedistill.distillation._tuning_study import (
    TRIED_IN_ORDER,
    LambdaTrial,
    Search,
    open_search,
    quiet_optuna,
    rungs_of,
)
from edgedistill.distillation.events import TrainingProgress, Watcher, ignore
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.wording import counted

SHARE_OF_EPOCHS = 4  # a short run has a quarter of the epochs
FEWEST_EPOCHS = 3  # with fewer, halving has no effect

Value = TypeVar("Value")


class Trained(Protocol):
    """The result of a short run."""

    @property
    def validation_accuracy(self) -> float:
        """The share, from 0 to 1, of validation images that its best epoch classifies correctly."""


ShortRun = Callable[[DistillConfig, Watcher], Trained]


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaChoice:
    """The chosen weight, and the trials in the order of their start.

    `epochs` is the length of a short run; after each of the `rungs` epochs the worse half stops. Where no validation
    image has a label, the runs are `judged_by` the teacher.
    """

    lambda_layer: float
    trials: tuple[LambdaTrial, ...]
    epochs: int
    rungs: tuple[int, ...]
    judged_by: JudgedBy = "labels"

    @property
    def _measure(self) -> str:
        return "validation accuracy" if self.judged_by == "labels" else "agreement with the teacher in validation"

    def describe(self) -> str:
        """Say which weight was chosen and why, and whether other weights were equally good."""
        tried = ", ".join(
            f"{trial.lambda_layer:g} {trial.describe()}"
            for trial in sorted(self.trials, key=lambda each: each.lambda_layer)
        )
        sentence = (
            f"lambda_layer {self.lambda_layer:g} was chosen by short runs of up to {counted(self.epochs, 'epoch')}; "
            f"{self._measure} with {tried}."
        )
        complete = [each for each in self.trials if each.state == "complete"]
        best = max((each.validation_accuracy or 0.0 for each in complete), default=0.0)
        equal = [each for each in complete if each.validation_accuracy == best]
        if len(equal) > 1:
            sentence += (
                f" {len(equal)} values are equally good, which leaves the choice open: of those the one nearest to 1 "
                "was taken."
            )
        return sentence

    def to_json(self) -> dict[str, Any]:
        """Return the content of `tuning.json`."""
        return {
            "lambda_layer": self.lambda_layer,
            "criterion": f"{self._measure} of the best epoch",
            "epochs": self.epochs,
            "rungs": list(self.rungs),
            "trials": [asdict(trial) for trial in self.trials],
        }


def choose_lambda(
    run: ShortRun,
    config: DistillConfig,
    *,
    fingerprint: str,
    folder: Path | None,
    watch: Watcher = ignore,
    judged_by: JudgedBy = "labels",
) -> LambdaChoice:
    """Choose `lambda_layer` among the powers of ten from 0.001 to 1000 by short runs, judged on validation images.

    Args:
        run: trains a new copy of the student with the given settings. It calls the callback during training, and does
            not catch the callback's exceptions, because they stop the run.
        config: settings of the whole run; `short_config` says what a short run changes.
        fingerprint: of everything else that decides the result (student, images, teacher, settings). Searches with
            different fingerprints in one folder do not mix.
        folder: for `tuning.journal` and `tuning.json`. A search that was stopped continues there, and processes that
            search there at the same time share the values. None keeps nothing.
        watch: sees the search as one training of `len(LAMBDA_GRID)` short runs, in the phase `tuning`.
        judged_by: what the validation accuracies are held against.

    Raises:
        MissingDependencyError: Optuna is not installed.
        EdgeDistillError: every value failed, or the journal cannot be read.
    """
    epochs = short_config(config, 1.0).epoch_count
    with quiet_optuna(), open_search(folder if _is_main() else None, fingerprint, epochs) as search:
        while (value := _agree(search.claim)) is not None:
            try:
                _try_value(search, run, short_config(config, value), watch)
            except BaseException:
                search.give_back()
                raise
        choice = replace(_choose(_agree(search.trials), epochs), judged_by=judged_by)
    if folder is not None and _is_main():
        write_json(folder / "tuning.json", choice.to_json(), inside=folder)
    return choice


def short_config(config: DistillConfig, lambda_layer: float) -> DistillConfig:
    """Return the settings of a short run: a quarter of the epochs, at least 3, with a faster moving average.

    Early stopping is off, because halving stops runs early.
    """
    epochs = min(config.epoch_count, max(FEWEST_EPOCHS, math.ceil(config.epoch_count / SHARE_OF_EPOCHS)))
    return replace(
        config,
        lambda_layer=lambda_layer,
        epochs=epochs,
        ema=config.ema ** (config.epoch_count / epochs),
        early_stopping=0,
        tensorboard=False,
    )


def _choose(trials: Sequence[LambdaTrial], epochs: int) -> LambdaChoice:
    """Choose the best value: complete before pruned, then accurate, then near 1."""
    sound = [trial for trial in trials if trial.state != "diverged"]
    if not sound:
        raise EdgeDistillError(
            'lambda_layer = "auto" found no usable value, because every short run failed; the first said:'
            f" {trials[0].reason}"
        )
    best = max(sound, key=_merit)
    return LambdaChoice(lambda_layer=best.lambda_layer, trials=tuple(trials), epochs=epochs, rungs=rungs_of(epochs))


def _merit(trial: LambdaTrial) -> tuple[bool, float, int]:
    accuracy = -1.0 if trial.validation_accuracy is None else trial.validation_accuracy
    return trial.state == "complete", accuracy, -TRIED_IN_ORDER.index(trial.lambda_layer)


class _PrunedError(Exception):
    """Ends the training loop of a run that must stop."""


def _try_value(search: Search, run: ShortRun, config: DistillConfig, watch: Watcher) -> None:
    """Train one short run and note how it ended."""
    before = _agree(search.count_started) * config.epoch_count
    seen = 0
    best = -1.0

    def judge(at: TrainingProgress) -> None:
        nonlocal seen, best
        if at.standing is not None:  # a short run may well be at chance
            return
        epochs = config.epoch_count * len(LAMBDA_GRID)
        watch(replace(at, phase="tuning", epoch=before + at.epoch, epochs=epochs))
        if at.last is None or at.last.epoch < seen:
            return
        seen, best = at.last.epoch + 1, max(best, at.last.validation_accuracy)
        if _agree(lambda: search.report(seen, best)):
            raise _PrunedError

    try:
        result = run(config, judge)
    except _PrunedError:
        _agree(search.stop)
    except EdgeDistillError as error:
        # A subclass (settings, data, libraries) would stop every other value too.
        if type(error) is not EdgeDistillError:
            raise
        reason = str(error)
        _agree(lambda: search.stop(reason))
    else:
        _agree(lambda: search.finish(result.validation_accuracy))


def _training_processes() -> int:
    """Return how many processes train together, without loading torch in order to ask."""
    if "torch" not in sys.modules:
        return 1
    from edgedistill.compute.processes import process_count

    return process_count()


def _is_main() -> bool:
    return _training_processes() == 1 or _import_distributed().get_rank() == 0


def _agree(decide: Callable[[], Value]) -> Value:
    """Let the main process decide for all training processes."""
    if _training_processes() == 1:
        return decide()
    shared = [decide() if _is_main() else None]
    _import_distributed().broadcast_object_list(shared, src=0)
    return cast(Value, shared[0])


def _import_distributed() -> ModuleType:
    from torch import distributed

    return distributed
