"""`report`: the run's records as one HTML file."""

from edgedistill_cli import options


def report(
    bundle: options.BundlePath,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write report.html: one self-contained file with every figure of the run."""
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.recommendation.choice import record_choices
    from edgedistill_deploy.report.page import write_report

    console = options.console_of(as_json, quiet, verbose)
    path = write_report(record_choices(open_bundle(bundle)))
    console.emit({"kind": "report", "schema": 1, "path": str(path)})
    console.result(str(path))
