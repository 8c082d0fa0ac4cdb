"""`ledger`: what each step from the teacher to INT8 cost, node by node."""

from typing import Annotated

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

Nodes = Annotated[int, flag("--nodes", "N", "How many nodes of each model to show.", min=0)]


def ledger(bundle: options.BundlePath, *, nodes: Nodes = 8, console: Console) -> None:
    """Show what each step from the teacher to INT8 cost, which nodes cost most, and what leaving some in float
    bought."""
    from edgedistill_calibration.judging.ledger import read_ledger
    from edgedistill_cli.tables.ledger import show_ledger
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.errors import BundleError, quote_value

    opened = open_bundle(bundle, verify=False)
    record = read_ledger(opened)
    console.emit(record)
    try:
        show_ledger(record, console, nodes)
        forecast = opened.manifest.get("readiness", {}).get("sentence")
        if forecast:
            console.result(str(forecast))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise BundleError(
            f"{opened.path / 'ledger.json'} is damaged ({type(error).__name__}: {quote_value(str(error))}); run "
            "`edgedistill calibrate` again."
        ) from error
