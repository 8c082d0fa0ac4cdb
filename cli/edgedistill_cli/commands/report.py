"""`report`: the run's records as one HTML file."""

from edgedistill_cli import options
from edgedistill_cli.console import Console


def report(bundle: options.BundlePath, console: Console) -> None:
    """Write report.html: one self-contained file with every figure of the run."""
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.recommendation.choice import record_choices
    from edgedistill_deploy.report.page import write_report

    path = write_report(record_choices(open_bundle(bundle)))
    console.emit({"kind": "report", "schema": 1, "path": str(path)})
    console.result(str(path))
