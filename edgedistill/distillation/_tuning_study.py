"""The study behind `lambda_layer = "auto"`: which value is tried next and by which process, in a journal of Optuna.

The journal survives a kill, and several processes may use it at once. The system drops the lock of a process that dies,
so the others see which processes are alive.
"""

import contextlib
import math
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from edgedistill.config import LAMBDA_GRID
from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError
from edgedistill_deploy.files.locks import ProcessLock

if TYPE_CHECKING:
    import optuna

# From the middle outwards, the larger of two equally far values first. An earlier value also wins a tie.
TRIED_IN_ORDER = tuple(sorted(LAMBDA_GRID, key=lambda value: (abs(round(math.log10(value))), -value)))
REDUCTION = 2
POLL_SECONDS = 0.2
PARAMETER = "lambda_layer"
WORKER = "worker"
REASON = "reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaTrial:
    """One short run of `epochs` finished epochs, with the best validation accuracy among them (None for no epoch).

    A `diverged` run stopped with an error, such as a loss that is no longer finite. `reason` quotes the error.
    """

    lambda_layer: float
    epochs: int
    validation_accuracy: float | None
    state: Literal["complete", "pruned", "diverged"]
    reason: str = ""

    def describe(self) -> str:
        """Say in a few words how the run ended."""
        if self.validation_accuracy is None:
            return self.state
        ended = {"complete": "", "pruned": f" (stopped after {self.epochs})", "diverged": " (diverged)"}
        return f"{100 * self.validation_accuracy:.1f} %{ended[self.state]}"


def rungs_of(epochs: int) -> tuple[int, ...]:
    """Return when a short run of `epochs` must be in the better half: after a quarter and half of its epochs."""
    quarter = math.ceil(epochs / REDUCTION**2)
    return tuple(rung for rung in (quarter, quarter * REDUCTION) if rung < epochs)


@dataclass(frozen=True, slots=True)
class Halving:
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    The rule of `optuna.pruners.SuccessiveHalvingPruner` with one difference: runs that ended with a kill or an error
    do not compete. They would count twice, and a search that was killed could give another result.
    """

    rungs: tuple[int, ...]

    def prune(self, study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> bool:
        """Say whether a trial that has just reached a rung is outside the better half of those that reached it."""
        rung = trial.last_step
        if rung not in self.rungs:
            return False
        reached = sorted(
            each.intermediate_values[rung]
            for each in study.get_trials(deepcopy=False)
            if rung in each.intermediate_values and _competes(each)
        )
        kept = max(1, len(reached) // REDUCTION)
        return trial.intermediate_values[rung] < reached[-kept]


def _competes(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state.name != "FAIL" and REASON not in trial.user_attrs


@dataclass(slots=True, kw_only=True)
class Search:
    """The study and this process's part in it: at most one trial at a time."""

    study: "optuna.Study"
    folder: Path | None
    epochs: int
    worker: str
    trial: "optuna.Trial | None" = None
    mutex: contextlib.AbstractContextManager[None] = field(default_factory=contextlib.nullcontext)

    def claim(self) -> float | None:
        """Return the next value to try, or None once all are tried; wait while other processes try the last ones.

        The value of a dead process is tried again, at its place in the order.
        """
        while True:
            with self.mutex:
                trials = self._living_trials()
                if (value := self._next_value(trials)) is not None:
                    return value
                if all(trial.state.is_finished() for trial in trials):
                    return None
            time.sleep(POLL_SECONDS)

    def _living_trials(self) -> "list[optuna.trial.FrozenTrial]":
        """Give up the trials of dead processes; return those that are finished, running or waiting."""
        for trial in self.study.get_trials(deepcopy=False):
            # A process writes its name while it holds the mutex, so a running trial without a name is dead.
            if trial.state.name == "RUNNING" and not self._is_alive(trial.user_attrs.get(WORKER)):
                self.study.tell(trial.number, state=_state("FAIL"))
        return [each for each in self.study.get_trials(deepcopy=False) if each.state.name != "FAIL"]

    def _is_alive(self, worker: str | None) -> bool:
        if worker is None or self.folder is None:
            return False
        lock = _worker_lock(self.folder, worker)
        if worker == self.worker or not lock.path.exists():
            return False
        if not lock.try_acquire():
            return True
        lock.path.unlink(missing_ok=True)
        lock.release()
        return False

    def _next_value(self, trials: "list[optuna.trial.FrozenTrial]") -> float | None:
        if not any(trial.state.name == "WAITING" for trial in trials):
            taken = {_value_of(trial) for trial in trials}
            missing = next((value for value in TRIED_IN_ORDER if value not in taken), None)
            if missing is None:
                return None
            self.study.enqueue_trial({PARAMETER: missing})
        self.trial = self.study.ask()
        self.trial.set_user_attr(WORKER, self.worker)
        return self.trial.suggest_float(PARAMETER, min(LAMBDA_GRID), max(LAMBDA_GRID), log=True)

    def report(self, epochs: int, accuracy: float) -> bool:
        """Note the best accuracy after so many epochs; say whether the run must stop."""
        assert self.trial is not None
        self.trial.report(accuracy, epochs)
        return self.trial.should_prune()

    def finish(self, accuracy: float) -> None:
        """Note the accuracy of a run that went to its end."""
        assert self.trial is not None
        if self.epochs not in self.study.trials[self.trial.number].intermediate_values:
            self.trial.report(accuracy, self.epochs)
        self._tell("COMPLETE", accuracy)

    def stop(self, reason: str = "") -> None:
        """Note that a run was pruned, or, with a reason, that it failed and does not compete."""
        assert self.trial is not None
        if reason:
            self.trial.set_user_attr(REASON, reason)
        self._tell("PRUNED")

    def give_back(self) -> None:
        """Let the value of an interrupted run be tried again."""
        if self.trial is not None:
            self._tell("FAIL")

    def _tell(self, state: str, accuracy: float | None = None) -> None:
        assert self.trial is not None
        self.study.tell(self.trial, accuracy, state=_state(state))
        self.trial = None

    def count_started(self) -> int:
        """Return how many values were started before the present one."""
        trials = self.study.get_trials(deepcopy=False)
        return max(0, len({_value_of(trial) for trial in trials}) - 1)

    def trials(self) -> tuple[LambdaTrial, ...]:
        """Return the trials in the order of their start, without those of dead processes."""
        tried = self.study.get_trials(deepcopy=False)
        return tuple(_lambda_trial(each) for each in tried if each.state.name != "FAIL")


def _value_of(trial: "optuna.trial.FrozenTrial") -> float:
    """Return a trial's lambda, also before the trial has started."""
    return float(trial.params.get(PARAMETER) or trial.system_attrs["fixed_params"][PARAMETER])


def _lambda_trial(trial: "optuna.trial.FrozenTrial") -> LambdaTrial:
    reason = trial.user_attrs.get(REASON, "")
    return LambdaTrial(
        lambda_layer=_value_of(trial),
        epochs=max(trial.intermediate_values, default=0),
        validation_accuracy=max(trial.intermediate_values.values(), default=None),
        state="diverged" if reason else "complete" if trial.state.name == "COMPLETE" else "pruned",
        reason=reason,
    )


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's progress messages and restore its verbosity.

    Raises:
        MissingDependencyError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError("optuna", "tune", 'Choosing lambda_layer = "auto"') from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def open_search(folder: Path | None, fingerprint: str, epochs: int) -> Iterator[Search]:
    """Open the search, with a lock that shows that this process is alive."""
    worker = uuid.uuid4().hex
    if folder is None:
        yield Search(study=_study(None, fingerprint, epochs), folder=None, epochs=epochs, worker=worker)
        return
    folder.mkdir(parents=True, exist_ok=True)
    own = _worker_lock(folder, worker)
    with own:
        try:
            yield Search(
                study=_study(folder / "tuning.journal", fingerprint, epochs),
                folder=folder,
                epochs=epochs,
                worker=worker,
                mutex=ProcessLock(folder / ".tuning.lock"),
            )
        finally:
            own.path.unlink(missing_ok=True)


def _worker_lock(folder: Path, worker: str) -> ProcessLock:
    return ProcessLock(folder / f".tuning.{worker}.lock")


def _study(journal: Path | None, fingerprint: str, epochs: int) -> "optuna.Study":
    """Open or create the study of this fingerprint; other studies in the journal do not change."""
    import optuna

    return optuna.create_study(
        study_name=f"{PARAMETER} {fingerprint}",
        storage=None if journal is None else _storage(journal),
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: every value is given
        pruner=cast(Any, Halving(rungs_of(epochs))),
        load_if_exists=True,
    )


def _storage(journal: Path) -> "optuna.storages.JournalStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Optuna's own lock file remains after a kill, and then all processes wait for half a minute.
    lock = ProcessLock(journal.with_name(f".{journal.name}.lock"))
    with lock:
        _drop_half_a_line(journal)
    try:
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=cast(Any, lock)))
    except (ValueError, KeyError) as error:
        raise EdgeDistillError(
            f"The journal of the search for lambda_layer, {journal}, cannot be read; delete it to search from the "
            "start."
        ) from error


def _drop_half_a_line(journal: Path) -> None:
    """Cut off the half line of a process that died while it wrote: it would spoil the next line."""
    if not journal.is_file():
        return
    with journal.open("r+b") as stream:
        content = stream.read()
        stream.truncate(content.rfind(b"\n") + 1)


def _state(name: str) -> "optuna.trial.TrialState":
    from optuna.trial import TrialState

    return TrialState[name]
