"""The `edgedistill` command: its sub-commands, and the one place where an expected failure becomes a sentence and a code."""

import os
import sys
from typing import Annotated

import typer

from edgedistill_cli import STAGES
from edgedistill_cli.commands.calibrate import calibrate
from edgedistill_cli.commands.compare import compare
from edgedistill_cli.commands.demo import demo
from edgedistill_cli.commands.devices import devices
from edgedistill_cli.commands.doctor import doctor
from edgedistill_cli.commands.engine import engine
from edgedistill_cli.commands.export import export
from edgedistill_cli.commands.init import init
from edgedistill_cli.commands.inspect import inspect
from edgedistill_cli.commands.ledger import ledger
from edgedistill_cli.commands.plan import plan
from edgedistill_cli.commands.profile import profile
from edgedistill_cli.commands.report import report
from edgedistill_cli.commands.training import training_command
from edgedistill_cli.commands.validate import validate
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.version import __version__

app = typer.Typer(
    name="edgedistill",
    help="Distil a few classes of a large image classifier into a compact expert, and prove that it still works.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(demo)
app.command("init")(init)
app.command(
    "build", help="Distil, export, calibrate, validate, profile, report: one command, one folder, resumable."
)(training_command(STAGES))
app.command("distill", help="Train the student: the first stage of build, alone.")(
    training_command(STAGES[:1])
)
app.command("export")(export)
app.command("calibrate")(calibrate)
app.command("ledger")(ledger)
app.command("validate")(validate)
app.command("profile")(profile)
app.command("engine")(engine)
app.command("inspect")(inspect)
app.command("plan")(plan)
app.command("compare")(compare)
app.command("report")(report)
app.add_typer(devices)
app.command("doctor")(doctor)


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
    """Take the flags that stand before the command."""


def main() -> None:
    """Run the command; an expected failure is one sentence on stderr and its exit code, `--debug` shows the traceback."""
    # From 1.29 on ONNX Runtime's Linux wheels report what is run to their maker unless told not to; who set it has the say.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        app(prog_name="edgedistill")
    except EdgeDistillError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        where = f" at {error.filename}" if error.filename else ""
        typer.echo(
            f"error: The system refused{where}: {error.strerror or error}. What was finished is kept.",
            err=True,
        )
        sys.exit(EdgeDistillError.exit_code)
