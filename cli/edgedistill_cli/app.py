"""The `edgedistill` command: its sub-commands, and how an expected failure ends it."""

import importlib
import os
import sys
import tempfile
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from edgedistill_cli.console import Failures
from edgedistill_cli.flags import CommandGroup, with_flags
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import NO_ROOM
from edgedistill_deploy.version import __version__

# The commands as `--help` lists them, with their purpose, so that `--help` imports none of them.
COMMANDS = {
    "demo": (
        "Distil ten digits out of a 100-character teacher, export, quantise, check, profile and report: no network."
    ),
    "init": "Write a commented settings file.",
    "build": "Distil, export, calibrate, validate, profile, report: one command, one folder, resumable.",
    "distill": "Train the student: the first stage of build, alone.",
    "export": "Export the distilled student (and the teacher beside it) to ONNX, checked against torch on real images.",
    "calibrate": (
        "Write the student in FP16 and INT8, with ranges from training images, and record what each step costs."
    ),
    "ledger": (
        "Show what each step from the teacher to INT8 cost, which nodes cost most, and what leaving some in "
        "float bought."
    ),
    "validate": (
        "Compare the exported models with their teacher on the subtask, on this machine or on devices over SSH."
    ),
    "profile": "Measure latency, throughput and memory of the bundle's models on this machine, or on devices over SSH.",
    "predict": "Say which class the expert sees in pictures, how probable it is, and how long that took.",
    "pack": "Write the smallest folder or ZIP that a device needs: one model, its labels, its golden answers, "
    "a program.",
    "snippet": "Write a small program that asks this expert without EdgeDistill, and the answers that it must give.",
    "show": "Print what a bundle holds and how good it is, or any record, as tables.",
    "engine": (
        "Build a TensorRT engine on this device, or take it from the cache, and show what precision its layers "
        "really have."
    ),
    "subtasks": "List and search the subtasks that have a name, such as imagenet/bird, with their classes.",
    "inspect": (
        "Show the subspaces of the teacher's layers: spectra, its accuracy on K directions, the widths a student needs."
    ),
    "plan": (
        "Time untrained students on a device, and name those worth distilling: within the budget, and no faster "
        "one as large."
    ),
    "compare": (
        "Compare SubDistill with other ways to train the same student, on the same images and with the same budget."
    ),
    "explain": (
        "Show whether expert and teacher look at the same parts of the images, beside what agreement costs nothing."
    ),
    "report": (
        "Write report.html: one self-contained file with every figure of the run. Several bundles are put side by side."
    ),
    "doctor": "Say what this machine can run, what is missing, and the command that installs it. Installs nothing.",
    "devices": "The devices of devices.toml: add, list, check and remove them.",
}
# The commands whose file has another name.
MODULES = {"build": "training", "distill": "training"}

app = typer.Typer(
    name="edgedistill",
    cls=CommandGroup,
    help="Distil a few classes of a large image classifier into a compact expert, and prove that it still works.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _CommandOnDemand(TyperCommand):
    """An entry of the list of commands; it imports its command when it is called."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Pass the words after the command's name to the command."""
        return load_command(str(self.name)).make_context(*args, **extra)


def load_command(name: str) -> Any:
    """Import a command and return it in the form that typer runs."""
    module = importlib.import_module(f"edgedistill_cli.commands.{MODULES.get(name, name)}")
    found = getattr(module, name)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(with_flags(found))
    return typer.main.get_command(alone)


def _entry() -> None:
    """Stand for a command before it is imported."""


for _name, _text in COMMANDS.items():
    app.command(_name, help=_text, cls=_CommandOnDemand)(_entry)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgedistill {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the flags that stand before the command."""


def main() -> None:
    """Run the command; an expected failure gives one sentence on stderr (a traceback with `--debug`) and its code."""
    # ONNX Runtime's Linux wheels from 1.29 on report usage to their maker by default; a value that is set stays.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # torch asks Linux for large pages, so that activations of photographs do not cost the system a tenth of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    failures = Failures()
    try:
        app(prog_name="edgedistill", obj=failures)
    except EdgeDistillError as error:
        if failures.debug:
            raise
        typer.echo(printable(f"error: {error}", keep="\n\t"), err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if failures.debug:
            raise
        where = f" at {error.filename}" if error.filename else ""
        advice = f" Make room there and in {tempfile.gettempdir()}; run it again." if error.errno in NO_ROOM else ""
        text = f"error: The system refused{where}: {error.strerror or error}.{advice} What was finished is kept."
        typer.echo(printable(text), err=True)
        sys.exit(EdgeDistillError.exit_code)
