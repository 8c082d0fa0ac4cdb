"""`lambda_layer = "auto"`: the choice, what halving saves, and that neither kills nor company change it."""

import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.config import LAMBDA_GRID, DistillConfig
from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.distillation._tuning_study import TRIED_IN_ORDER, rungs_of
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.distillation.tuning import LambdaChoice, choose_lambda, short_config
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.errors import DataError, EdgeDistillError, MissingDependencyError
from edgedistill_deploy.files.locks import ProcessLock
from reference import lambda_curves
from reference.lambda_curves import Curve, curve_run, peaked, tune_to_a_log

LONG = DistillConfig(epochs=32)  # short runs of 8 epochs, rungs after 2 and 4


def choose(
    curve: Curve, log: list[tuple[float, int]], folder: Path | None = None, fingerprint: str = "f"
) -> LambdaChoice:
    return choose_lambda(curve_run(curve, log), LONG, fingerprint=fingerprint, folder=folder)


@pytest.mark.parametrize("best", LAMBDA_GRID)
def test_the_best_of_the_grid_is_found_wherever_it_lies(best: float) -> None:
    choice = choose(peaked(best), [])
    assert choice.lambda_layer == best
    assert {trial.lambda_layer for trial in choice.trials} == set(LAMBDA_GRID)


def test_halving_saves_epochs() -> None:
    log: list[tuple[float, int]] = []
    choice = choose(peaked(1.0), log)
    assert choice.epochs == 8
    assert choice.rungs == (2, 4)
    by_value = {trial.lambda_layer: trial for trial in choice.trials}
    assert by_value[1.0].state == "complete"
    assert by_value[1.0].validation_accuracy == pytest.approx(0.9 - 0.2 / 8)
    # Second to come, 10 faces the best alone and stops at the first rung, after two epochs.
    assert (by_value[10.0].state, by_value[10.0].epochs) == ("pruned", 2)
    assert by_value[10.0].validation_accuracy == pytest.approx(0.9 - 0.1 - 0.2 / 2)
    assert len(log) == sum(trial.epochs for trial in choice.trials) < 7 * 8 / 2


def optunas_states(curve: Curve) -> dict[float, str]:
    """What Optuna's own pruner makes of the same curves, one after the other."""
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for value in TRIED_IN_ORDER:
        study.enqueue_trial({"v": value})

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("v", 1e-3, 1e3)
        best = -1.0
        for epoch in range(8):
            best = max(best, curve(value, epoch))
            trial.report(best, epoch + 1)
            if epoch < 7 and trial.should_prune():
                raise optuna.TrialPruned
        return best

    study.optimize(objective, n_trials=len(TRIED_IN_ORDER))
    return {trial.params["v"]: trial.state.name.lower() for trial in study.trials}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=56, max_size=56))
def test_the_rule_is_that_of_optunas_successive_halving(hundredths: list[int]) -> None:
    def curve(value: float, epoch: int) -> float:
        return hundredths[TRIED_IN_ORDER.index(value) * 8 + epoch] / 100

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        expected = optunas_states(curve)
    finally:
        optuna.logging.set_verbosity(before)
    choice = choose(curve, [])
    assert {trial.lambda_layer: trial.state for trial in choice.trials} == expected
    complete = {t.lambda_layer: t.validation_accuracy for t in choice.trials if t.state == "complete"}
    assert complete[choice.lambda_layer] == max(value for value in complete.values() if value is not None)


def test_of_equals_the_one_nearest_to_1_wins() -> None:
    assert choose(lambda value, epoch: 0.5, []).lambda_layer == 1.0
    assert choose(lambda value, epoch: 0.5 if value in (0.01, 10.0) else 0.1, []).lambda_layer == 10.0
    assert choose(lambda value, epoch: 0.5 if value in (0.1, 100.0) else 0.1, []).lambda_layer == 0.1
    assert choose(lambda value, epoch: 0.5 if value in (0.1, 10.0) else 0.1, []).lambda_layer == 10.0


def test_a_short_run_is_the_whole_one_at_a_faster_pace() -> None:
    config = DistillConfig(epochs=100, lambda_layer="auto", ema=0.999, early_stopping=5, tensorboard=True)
    short = short_config(config, 10.0)
    assert (short.epochs, short.lambda_layer, short.early_stopping) == (25, 10.0, 0)
    assert short.ema**25 == pytest.approx(0.999**100)
    assert replace(short, epochs=100, lambda_layer="auto", ema=0.999, early_stopping=5, tensorboard=True) == (config)
    assert [short_config(DistillConfig(epochs=n), 1.0).epochs for n in (1, 2, 3, 8, 12, 13)] == [1, 2, 3, 3, 3, 4]
    assert [rungs_of(n) for n in (1, 2, 3, 4, 8, 25)] == [(), (1,), (1, 2), (1, 2), (2, 4), (7, 14)]


def test_the_evidence_is_recorded_and_read_back_without_training(tmp_path: Path) -> None:
    log: list[tuple[float, int]] = []
    choice = choose(peaked(100.0), log, tmp_path)
    record = json.loads((tmp_path / "tuning.json").read_text(encoding="utf-8"))
    assert record == choice.to_json() == json.loads(json.dumps(choice.to_json()))
    assert record["lambda_layer"] == 100.0
    assert [trial["lambda_layer"] for trial in record["trials"]] == [1.0, 10.0, 0.1, 100.0, 0.01, 1000.0, 0.001]
    assert {trial["state"] for trial in record["trials"]} == {"complete", "pruned"}
    trained = len(log)
    assert choose(peaked(100.0), log, tmp_path) == choice
    assert len(log) == trained
    assert not list(tmp_path.glob(".tuning.*[0-9a-f].lock"))


def test_a_search_of_another_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    assert choose(peaked(100.0), [], tmp_path, fingerprint="one").lambda_layer == 100.0
    log: list[tuple[float, int]] = []
    assert choose(peaked(0.01), log, tmp_path, fingerprint="other").lambda_layer == 0.01
    assert {value for value, _ in log} == set(LAMBDA_GRID)
    assert choose(peaked(1.0), [], tmp_path, fingerprint="one").lambda_layer == 100.0


def test_progress_is_one_long_count() -> None:
    seen: list[tuple[str, int, int]] = []
    choose_lambda(
        curve_run(peaked(1.0), []),
        LONG,
        fingerprint="f",
        folder=None,
        watch=lambda at: seen.append((at.phase, at.epoch, at.epochs)),
    )
    assert {(phase, epochs) for phase, _, epochs in seen} == {("tuning", 56)}
    epochs = [epoch for _, epoch, _ in seen]
    assert epochs == sorted(epochs)
    assert (min(epochs), max(epochs)) == (0, 6 * 8 + 2)


def diverging(values: set[float]) -> Any:
    inner = curve_run(peaked(1000.0), [])

    def run(config: DistillConfig, progress: Any) -> Any:
        if config.lambda_layer in values:
            raise EdgeDistillError(f"Training stopped at {config.lambda_layer:g}.")
        return inner(config, progress)

    return run


def test_a_value_that_diverges_is_out_and_the_others_go_on() -> None:
    choice = choose_lambda(diverging({1.0, 1000.0}), LONG, fingerprint="f", folder=None)
    assert choice.lambda_layer == 100.0
    states = {trial.lambda_layer: (trial.state, trial.reason) for trial in choice.trials}
    assert states[1000.0] == ("diverged", "Training stopped at 1000.")
    with pytest.raises(EdgeDistillError, match=r"no usable value.*Training stopped at 1\."):
        choose_lambda(diverging(set(LAMBDA_GRID)), LONG, fingerprint="f", folder=None)


@pytest.mark.parametrize("error", [DataError("a broken image"), KeyboardInterrupt()])
def test_what_would_stop_every_value_stops_the_search_which_goes_on_later(error: BaseException, tmp_path: Path) -> None:
    inner = curve_run(peaked(0.1), [])

    def run(config: DistillConfig, progress: Any) -> Any:
        if config.lambda_layer == 0.1:
            raise error
        return inner(config, progress)

    with pytest.raises(type(error)):
        choose_lambda(run, LONG, fingerprint="f", folder=tmp_path)
    assert not (tmp_path / "tuning.json").exists()
    log: list[tuple[float, int]] = []
    assert choose(peaked(0.1), log, tmp_path) == choose(peaked(0.1), [])
    assert {value for value, _ in log} == set(LAMBDA_GRID) - {1.0, 10.0}


def test_optuna_is_quiet_and_left_as_it_was(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = optuna.logging.get_verbosity()
    assert before == logging.INFO
    choose(peaked(1.0), [], tmp_path)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_importing_the_module_loads_neither_optuna_nor_torch() -> None:
    code = "import sys, edgedistill.distillation.tuning; sys.exit(bool({'optuna', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r"needs optuna.*edgedistill\[tune\]"):
        choose(peaked(1.0), [])


def test_a_journal_that_ends_in_half_a_line_is_read_and_one_of_rubbish_is_not(tmp_path: Path) -> None:
    choice = choose(peaked(10.0), [], tmp_path)
    journal = tmp_path / "tuning.journal"
    content = journal.read_bytes()
    journal.write_bytes(content + b'{"op_code":4,"work')
    assert choose(peaked(10.0), [], tmp_path) == choice
    assert journal.read_bytes().startswith(content)
    # Cut anywhere, the journal is that of a search that had got so far.
    cut = random.Random(0).randrange(len(content) // 4, len(content))
    journal.write_bytes(content[:cut])
    assert choose(peaked(10.0), [], tmp_path) == choice
    journal.write_bytes(b"no journal\n" + content)
    with pytest.raises(EdgeDistillError, match=r"tuning\.journal, cannot be read; delete it"):
        choose(peaked(10.0), [], tmp_path)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("embedded:glyphs100")


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> SubtaskImages:
    whole = split_for_subtask(open_source(f"npz:{tiny_digits}"), list("01"))
    few = np.random.default_rng(0).permutation(len(whole.train))[:60]
    return SubtaskImages(train=whole.train.select(few), validation=whole.validation, test=None)


def test_distill_tunes_trains_with_the_choice_and_finds_it_again(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path
) -> None:
    config = DistillConfig(epochs=1, batch_size=20, lambda_layer="auto", compute="cpu")

    def run(config: DistillConfig, folder: Path | None) -> DistillResult:
        student = build_student("plain:8-8", 2)
        return distill(teacher, student, teacher.subtask(list("01")), images, config, folder=folder)

    tuned = run(config, tmp_path)
    choice = tuned.lambda_choice
    assert choice is not None
    assert json.loads((tmp_path / "tuning.json").read_text(encoding="utf-8")) == choice.to_json()
    # Of so short a training, a short run is the whole, and the training repeats the one that won.
    assert tuned.validation_accuracy == max(trial.validation_accuracy or 0.0 for trial in choice.trials)
    given = run(replace(config, lambda_layer=choice.lambda_layer), None)
    assert replace(given.history[0], seconds=0.0) == replace(tuned.history[0], seconds=0.0)
    again = run(config, tmp_path)
    assert (again.lambda_choice, again.history) == (choice, tuned.history)


def test_a_real_training_is_cut_short(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    config = DistillConfig(epochs=3, batch_size=20, compute="cpu")

    def flawless_then_away(config: DistillConfig, progress: Any) -> Any:
        if config.lambda_layer == TRIED_IN_ORDER[-1]:
            raise KeyboardInterrupt
        return curve_run(lambda value, epoch: 1.0, [])(config, progress)

    with pytest.raises(KeyboardInterrupt):
        choose_lambda(flawless_then_away, config, fingerprint="f", folder=tmp_path)

    def run(config: DistillConfig, progress: Any) -> DistillResult:
        student = build_student("plain:8-8", 2)
        try:
            return distill(teacher, student, teacher.subtask(list("01")), images, config, progress=progress)
        finally:
            assert not any(module._forward_hooks for module in [*teacher.model.modules(), *student.modules()])

    choice = choose_lambda(run, config, fingerprint="f", folder=tmp_path)
    assert [(trial.state, trial.epochs) for trial in choice.trials] == [("complete", 3)] * 6 + [("pruned", 1)]
    assert 0 < (choice.trials[-1].validation_accuracy or 0) < 1


def start(folder: Path, log: Path, seconds: float, *more: str) -> subprocess.Popen[bytes]:
    script = Path(lambda_curves.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(script), str(folder), str(log), str(seconds), *more], env=environment)


def lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.is_file() else []


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_in_the_third_value_it_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    log = tmp_path / "log"
    journal = tmp_path / "killed" / "tuning.journal"
    process = start(tmp_path / "killed", log, 0.1)
    deadline = time.monotonic() + 240
    # Right after the third trial's report, so that the killed run has left a value where the others compete.
    while not (journal.is_file() and b'"trial_id":2,"step":2' in journal.read_bytes()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "end 0.1" not in lines(log)
    before = len(lines(log))
    choice = tune_to_a_log(tmp_path / "killed", log, 0.0)
    assert next(line for line in lines(log)[before:] if line.startswith("start")) == "start 0.1"
    assert choice == tune_to_a_log(tmp_path / "whole", tmp_path / "other-log", 0.0)
    assert choice.lambda_layer == 0.1
    assert {t.lambda_layer: t.epochs for t in choice.trials}[100.0] == 4


def test_two_processes_share_the_values(tmp_path: Path) -> None:
    folder, log = tmp_path / "shared", tmp_path / "log"
    processes = [start(folder, log, 0.0, "together") for _ in range(2)]
    for process in processes:
        assert process.wait(timeout=240) == 0
    started = [float(line.split()[1]) for line in lines(log) if line.startswith("start")]
    assert sorted(started) == sorted(LAMBDA_GRID)
    words = [line.split()[0] for line in lines(log)]
    assert ("start", "start") in itertools.pairwise(words), "never two at once"
    record = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    assert record["lambda_layer"] == 0.1
    assert len(record["trials"]) == 7


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_the_survivor_takes_over_what_a_killed_process_was_trying(tmp_path: Path) -> None:
    folder, log = tmp_path / "shared", tmp_path / "log"
    victim = start(folder, log, 500.0)
    deadline = time.monotonic() + 240
    while "start 1" not in lines(log):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    survivor = start(folder, log, 0.0)
    while "end 0.001" not in lines(log):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert survivor.poll() is None  # it waits for the one that the victim has
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert survivor.wait(timeout=240) == 0
    assert lines(log).count("start 1") == 2
    assert lines(log).count("end 1") == 1
    record = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    assert len(record["trials"]) == 7


def test_a_lock_holds_off_everybody_until_it_is_released(tmp_path: Path) -> None:
    mine, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    with mine:
        assert not other.try_acquire()
        code = "import sys; from pathlib import Path; from edgedistill_deploy.files.locks import ProcessLock;"
        code += "sys.exit(ProcessLock(Path(sys.argv[1])).try_acquire())"
        assert subprocess.run([sys.executable, "-c", code, tmp_path / "lock"], check=False).returncode == 0
    assert other.try_acquire()
    other.release()
    other.release()
    with pytest.raises(FileNotFoundError):
        ProcessLock(tmp_path / "absent" / "lock").acquire()
