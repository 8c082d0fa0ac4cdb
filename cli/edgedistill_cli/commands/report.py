"""`report`: the run's records as one HTML file."""

from pathlib import Path
from typing import Annotated

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

ReportFile = Annotated[Path | None, flag("--out", "FILE", "Where it goes; report.html in the bundle by default.")]


def report(bundle: options.BundlePath, *, out: ReportFile = None, console: Console) -> None:
    """Write report.html: one self-contained file with every figure of the run."""
    from edgedistill_cli.bundles.recording import recording, say_model_card
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.errors import NotWrittenError
    from edgedistill_deploy.recommendation.choice import record_choices
    from edgedistill_deploy.report.page import write_report

    opened = open_bundle(bundle)
    try:
        with recording(opened, "report", console):
            path = write_report(record_choices(opened)) if out is None else write_report(opened, out)
            if out is None:
                say_model_card(opened, console)
    except NotWrittenError as error:
        raise NotWrittenError(f"{error} --out FILE writes the report to another place.") from error
    console.emit({"kind": "report", "schema": 1, "path": str(path)})
    console.result(str(path))
