"""`ledger`: what each step from the teacher to INT8 cost, node by node."""

from typing import Annotated

import typer

from edgedistill_cli import options

Nodes = Annotated[
    int, typer.Option("--nodes", metavar="N", min=0, help="How many nodes of each model to show.")
]


def ledger(
    bundle: options.BundlePath,
    nodes: Nodes = 8,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Show what each step from the teacher to INT8 cost, which nodes cost most, and what leaving some in float bought."""
    from edgedistill_calibration.ledger import read_ledger
    from edgedistill_cli.ledger_tables import show_ledger
    from edgedistill_deploy.bundle import open_bundle

    console = options.console_of(as_json, quiet, verbose)
    record = read_ledger(open_bundle(bundle, verify=False))
    console.emit(record)
    show_ledger(record, console, nodes)
