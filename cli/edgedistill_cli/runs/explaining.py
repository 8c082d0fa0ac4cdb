"""Explain the trained student of a run beside its teacher."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import gate_code
from edgedistill_cli.runs.folder import EXPLANATIONS, KNOWN_LOOKS, Run, read_run_or_file, require_run
from edgedistill_cli.runs.inputs import Inputs, build_run_student, load_inputs, read_run_student, say_first_teacher
from edgedistill_cli.runs.libraries import require_explanation
from edgedistill_cli.runs.rivals import read_trained_rival
from edgedistill_cli.tables.explanation import show_explanation
from edgedistill_cli.tables.shortcuts import show_shortcuts
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.locks import hold_folder
from edgedistill_deploy.files.writing import refuse_links_out
from edgedistill_deploy.statistics.paired import hold_share

if TYPE_CHECKING:
    from edgedistill.explanation.config import ExplainConfig
    from edgedistill.explanation.explaining import Compared

_UNTRAINED = 3
_LABELS = "labels"  # the rival whose reasons are compared, and its name in the record


def require_limit(least: float | None) -> None:
    """Raise UsageError for a limit that no cosine can be held against."""
    if least is not None and not -1 <= least <= 1:
        raise UsageError(f"--min-agreement-of-reasons is a cosine, from -1 to 1, such as 0.5, and {least} was given.")


def explain_run(
    folder: Path, config: "ExplainConfig", flags: Mapping[str, Any], least: float | None, console: Console
) -> int:
    """Explain teacher and student of a run, keep the record in its folder, and print it.

    Args:
        folder: of the run.
        config: of the explanation; the run's settings decide where it runs.
        flags: {"table.key": value} over the run's settings.
        least: mean cosine that passes; None for no gate.
        console: for the result.

    Returns the exit code.

    Raises:
        EdgeDistillError: the folder holds no run, or no trained student.
    """
    with _held_run(folder, config.method, flags, console) as run:
        record = _explain(run, config)
    verdict = None if least is None else hold_share(tuple(record["agreement"]["cosine"]["interval"]), least)
    gate = {} if least is None else {"limits": {"min_agreement_of_reasons": least}, "verdict": verdict}
    console.emit({**record, **gate})
    show_explanation(record, console)
    console.result(f"written: {folder / EXPLANATIONS / record['method']}.json, and pictures beside it")
    if verdict is None:
        return 0
    console.result(f"agreement of reasons of at least {least:g}: {verdict}")
    return gate_code(verdict)


@contextlib.contextmanager
def _held_run(folder: Path, method: str, flags: Mapping[str, Any], console: Console) -> Iterator[Run]:
    """Open a run that has a trained student, and keep others from writing to it inside the block."""
    require_run(folder)
    run = Run(folder=folder, settings=read_run_or_file(folder, None, flags), console=console)
    _require_student(run)
    require_explanation(method)
    refuse_links_out(folder, (EXPLANATIONS,))
    with hold_folder(folder, "edgedistill explain", sharing=True, note=console.say):
        yield run


def find_run_shortcuts(folder: Path, config: "ExplainConfig", flags: Mapping[str, Any], console: Console) -> None:
    """Look for places that teacher or student of a run draw on for one class alone, keep the record, and print it.

    Takes what `explain_run` takes.

    Raises:
        EdgeDistillError: the folder holds no run, or no trained student.
    """
    with _held_run(folder, config.method, flags, console) as run:
        record = _find_shortcuts(run, config)
    console.emit(record)
    show_shortcuts(record, console)
    pictures = ", and pictures beside it" if record["findings"] else ""
    console.result(f"written: {folder / EXPLANATIONS / 'shortcuts.json'}{pictures}")


def _find_shortcuts(run: Run, config: "ExplainConfig") -> dict[str, Any]:
    from edgedistill.explanation.shortcuts.looking import find_shortcuts

    say_first_teacher(run.settings, run.console)
    given = load_inputs(run, run.folder / KNOWN_LOOKS)
    own = run.settings.distill
    with run.console.progress("explain --shortcuts") as report:
        return find_shortcuts(
            given.teacher,
            given.subtask,
            read_run_student(run, given),
            given.images.validation,
            replace(config, workers=own.workers, compute=own.compute),
            run.folder / EXPLANATIONS,
            inside=run.folder,
            progress=report,
        )


def _require_student(run: Run) -> None:
    if not (run.folder / "manifest.json").is_file() or not run.bundle.has("student"):
        raise EdgeDistillError(
            f"{run.folder} has no trained student that could be explained; run `edgedistill build --config "
            f"{run.folder / 'settings.toml'} --out {run.folder}` first."
        )


def _explain(run: Run, config: "ExplainConfig") -> dict[str, Any]:
    from edgedistill.explanation.explaining import explain_student

    say_first_teacher(run.settings, run.console)
    given = load_inputs(run, run.folder / KNOWN_LOOKS)
    compared = _load(run, given)
    left_out = [] if compared.rivals else [
        f"{_LABELS}: no rival trained on labels was kept; `edgedistill build --rivals` keeps it"
    ]  # fmt: skip
    own = run.settings.distill
    with run.console.progress("explain") as report:
        return explain_student(
            compared,
            given.images.validation,
            replace(config, workers=own.workers, compute=own.compute),
            run.folder / EXPLANATIONS,
            inside=run.folder,
            left_out=left_out,
            progress=report,
        )


def _load(run: Run, given: Inputs) -> "Compared":
    from edgedistill.explanation.explaining import Compared
    from edgedistill.models.normalise import share_own_pixels

    student = read_run_student(run, given)
    # The run's own seed would give the network that the training began with, in runs that start from nothing.
    first = run.settings.distill.seed + 1
    untrained = tuple(build_run_student(run, given, seed) for seed in range(first, first + _UNTRAINED))
    for each in untrained:
        share_own_pixels(each, student)
    rival = read_trained_rival(run, given, _LABELS)
    return Compared(
        teacher=given.teacher,
        subtask=given.subtask,
        student=student,
        untrained=untrained,
        rivals={} if rival is None else {_LABELS: rival},
    )
