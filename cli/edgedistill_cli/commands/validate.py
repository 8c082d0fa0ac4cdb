"""`validate`: is the exported expert still as good as its teacher? A gate, by exit code."""

from typing import Annotated

import typer

from edgedistill_cli import options

OwnData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SRC",
        help="Image folder, npz:FILE, fashion-mnist[:DIR], cifar100:DIR; the bundle's recorded images by default.",
    ),
]

PreprocessDrift = Annotated[
    bool,
    typer.Option(
        "--preprocess-drift",
        help="Measure what other decoders, filters and channel orders would cost on the --data images.",
    ),
]


def validate(
    bundle: options.BundlePath,
    data: OwnData = None,
    runtime: options.Runtime = "onnxruntime",
    precision: options.Precision = None,
    max_drop: options.MaxDrop = None,
    confidence: options.Confidence = None,
    threads: options.Threads = None,
    preprocess_drift: PreprocessDrift = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Compare the exported models with their teacher on the subtask.

    Exit code 0: every expert passes; 3: one fails; 4: too few images to decide.
    """
    from edgedistill_cli.measuring import gate_code, open_own_images, validate_bundle
    from edgedistill_cli.tables import show_parity
    from edgedistill_deploy.bundle import open_bundle
    from edgedistill_deploy.parity import ParityLimits

    console = options.console_of(as_json, quiet, verbose)
    given = {"max_drop": max_drop, "confidence": confidence}
    limits = ParityLimits(**{name: value for name, value in given.items() if value is not None})
    opened = open_bundle(bundle)
    reports = validate_bundle(
        opened,
        console,
        limits,
        precisions=(precision,) if precision is not None else None,
        images=open_own_images(data, opened) if data is not None else None,
        runtime=runtime,
        threads=threads,
        preprocess_drift=preprocess_drift,
    )
    records = [report.to_json() for report in reports]
    # The teacher's own file is the baseline: it is judged only when it alone is asked for.
    judged = [report for report in reports if precision is not None or report.precision != "teacher"]
    code = gate_code([report.verdict for report in judged])
    verdict = {0: "pass", 3: "fail", 4: "inconclusive"}[code]
    console.emit(
        records[0]
        if precision is not None
        else {"kind": "parity-set", "schema": 1, "records": records, "verdict": verdict}
    )
    show_parity(reports, console)
    raise typer.Exit(code)
