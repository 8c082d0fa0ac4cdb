"""`show`: a bundle or a record as tables."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli.console import Console

What = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE|RECORD", help="A run folder or bundle, or a record in JSON.", show_default=False),
]


def show(what: What, *, console: Console) -> None:
    """Print what a bundle holds and how good it is, or any record, as tables."""
    from edgedistill_cli.bundles.showing import show_bundle, show_record
    from edgedistill_deploy.bundle.manifest import MANIFEST

    if what.is_file() and what.name != MANIFEST:
        show_record(what, console)
    else:
        show_bundle(what.parent if what.is_file() else what, console)
