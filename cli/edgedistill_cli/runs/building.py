"""Run stages on a folder, then give the table, the JSON record and the exit code."""

import os
import time
from pathlib import Path
from typing import Any

import typer

from edgedistill_cli import STAGES
from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import InterruptedRunError, StudentAtChanceError, gate_code
from edgedistill_cli.runs.folder import Run, at_work, begin_run
from edgedistill_cli.runs.preflight import Preflight
from edgedistill_cli.runs.rivals import TRAINED, refuse_helpers, worth_sentence
from edgedistill_cli.runs.stages import help_training, run_stages
from edgedistill_cli.settings import RunSettings
from edgedistill_cli.settings_file import read_settings
from edgedistill_cli.tables.parity import show_summary
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.records.build import summarise_build

# How long another training process waits until the first one has written the run's settings.
LEADER_PATIENCE_S = 60


def build(
    folder: Path,
    settings: RunSettings,
    stages: tuple[str, ...],
    console: Console,
    *,
    restart: bool = False,
    keep_going: bool = False,
    rivals: bool = False,
) -> None:
    """Run the stages that are due and print the outcome; with `validate` among them, exit with the gate's code.

    With `rivals` the student is also trained on labels and on logits alone. A student at chance ends this after its
    training, with the gate's code too, unless `keep_going`.
    Under `accelerate launch` or `torchrun` the first process does this, and the others help it with the training.
    """
    if rivals:
        refuse_helpers()
    if int(os.environ.get("RANK", "0")) > 0:
        help_training(folder, _wait_for_settings(folder, settings))
        return
    with at_work(folder, _name_of(stages), console):
        run = begin_run(folder, settings, console, restart=restart)
        try:
            advance(run, stages, keep_going=keep_going, rivals=rivals)
        except StudentAtChanceError:
            console.emit(build_record(run, stages))
            raise
        record = build_record(run, stages)
    console.emit(record)
    if "validate" in stages:
        show_summary(run.bundle, console)
        if sentence := worth_sentence(run):
            console.result(sentence)
        console.result(f"report: {folder / 'report.html'}")
        raise typer.Exit(gate_code(record["verdict"] or "pass"))
    console.result(f"{', '.join(stages)}: done, in {folder}")


def _wait_for_settings(folder: Path, settings: RunSettings) -> RunSettings:
    """Wait until the first process has begun the run, and return the settings that it wrote."""
    file, tables = folder / "settings.toml", ("teacher", "subtask", "student", "distill")
    deadline = time.monotonic() + LEADER_PATIENCE_S
    while time.monotonic() < deadline:
        if file.is_file() and (found := read_settings(file, {})).key(*tables) == settings.key(*tables):
            return found
        time.sleep(0.1)
    raise EdgeDistillError(
        f"The first process has not begun the run in {folder} within {LEADER_PATIENCE_S} s; its own message says why. "
        "All processes need the same folder and settings."
    )


def advance(
    run: Run, stages: tuple[str, ...], *, anew: bool = False, keep_going: bool = False, rivals: bool = False
) -> None:
    """Run stages; on Ctrl-C raise InterruptedRunError, which says how to go on."""
    try:
        run_stages(run, stages, anew=anew, keep_going=keep_going, rivals=rivals)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"Interrupted; finished stages and epochs are kept. Go on with: edgedistill {command_of(run, stages)}"
            f"{' --rivals' if rivals else ''}"
        ) from error


def command_of(run: Run, stages: tuple[str, ...]) -> str:
    """Return the command, with its arguments, that runs these stages."""
    if len(stages) == 1 and stages != ("distill",):
        return f"{stages[0]} {run.folder}"
    return f"{_name_of(stages)} --config {run.folder / 'settings.toml'} --out {run.folder}"


def _name_of(stages: tuple[str, ...]) -> str:
    """Return the command that runs these stages of a build."""
    return "distill" if stages == ("distill",) else "build"


def build_record(run: Run, stages: tuple[str, ...] = STAGES) -> dict[str, Any]:
    """Return the build record; a value that no stage has measured yet is None."""
    return {
        "kind": "build",
        "schema": 1,
        "run": str(run.folder),
        "stages": [
            {
                "name": stage,
                "status": "done" if run.is_complete(stage) else "due",
                "seconds": run.seconds(stage),
                "peak_memory_bytes": run.peak_memory_bytes(stage),
            }
            for stage in stages
        ],
        **summarise_build(run.bundle),
    }


def print_plan(run: Run, stages: tuple[str, ...], found: Preflight, *, rivals: bool = False) -> None:
    """Print which stages are due, the images and the room that they need, and run none.

    `rivals` are trained after the expert.

    Raises:
        EdgeDistillError: something must change before they can run; the JSON document has it too.
    """
    console, tables = run.console, run.settings.to_tables()
    plan = [{"stage": stage, "status": "kept" if run.is_complete(stage) else "due"} for stage in stages]
    record = {"kind": "plan", "schema": 1, "run": str(run.folder), "plan": plan, "settings": tables}
    record["rivals"] = list(TRAINED) if rivals else []
    console.emit(record | found.to_json())
    for note in found.notes:
        console.say(f"note: {note}")
    found.require()
    console.table(f"Plan for {run.folder}", ("stage", "status"), [(each["stage"], each["status"]) for each in plan])
    if rivals:
        console.result(f"rivals, trained after the expert: {', '.join(TRAINED)}")
    for table, values in tables.items():
        console.result(f"[{table}] " + ", ".join(f"{key} = {value!r}" for key, value in values.items()))
    if counts := found.all_counts:
        names = dict.fromkeys(name for each in counts.values() for name in sorted(each, key=lambda name: not name))
        rows = [[name or "(no label)", *(str(each.get(name, 0)) for each in counts.values())] for name in names]
        console.table("Images, before any are held out", ("class", *counts), rows)
    if found.room is not None:
        console.result(f"room: {found.room.describe()}")
