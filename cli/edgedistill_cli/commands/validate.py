"""`validate`: a gate whose exit code says whether the expert is as good as its teacher."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

OwnData = Annotated[
    str | None,
    flag(
        "--data",
        "SRC",
        "Image folder, npz:FILE, table:FILE, parquet:FILE, wds:SHARDS, hf:OWNER/NAME, fashion-mnist[:DIR], "
        "cifar10:DIR, cifar100:DIR; the bundle's recorded images by default.",
    ),
]

MaxBad = Annotated[
    str | None,
    flag("--max-bad", "X%", "Share of the --data pictures that cannot be used and are left out; 10% by default."),
]
PreprocessDrift = Annotated[
    bool,
    typer.Option(
        "--preprocess-drift",
        help="Measure what other decoders, filters and channel orders would cost on the --data images.",
    ),
]

Flips = Annotated[
    Path | None, flag("--flips", "DIR", "Write pictures of the images that teacher and expert decide differently.")
]
NoPictures = Annotated[
    bool, typer.Option("--no-pictures", help="Keep no small pictures of images in the records that the report shows.")
]
JUnit = Annotated[Path | None, flag("--junit", "FILE", "Write what was judged as JUnit XML.")]
Markdown = Annotated[str | None, flag("--markdown", "FILE", 'Write a summary as Markdown, "-" for the screen.')]
Strict = Annotated[
    bool, typer.Option("--strict", help="A check that cannot be made, for example without golden outputs, fails.")
]
Bisect = Annotated[bool, typer.Option("--bisect", help="Find the first node at which two models differ, instead.")]
Against = Annotated[
    str | None,
    flag(
        "--against", "WHAT", "With --bisect: a precision, FILE.onnx, unoptimised, or RUNTIME:PROVIDER; fp32 by default."
    ),
]
Image = Annotated[int | None, flag("--image", "N", "With --bisect: which image, from 0.")]
Tolerance = Annotated[float | None, flag("--tolerance", "X", "With --bisect: largest relative error of a value.")]


def validate(
    context: typer.Context,
    bundle: options.BundlePath,
    *,
    data: OwnData = None,
    max_bad: MaxBad = None,
    device: options.Devices = None,
    keep: options.Keep = False,
    wait: options.Wait = None,
    runtime: options.Runtime = "onnxruntime",
    precision: options.Precision = None,
    provider: options.Provider = "cpu",
    max_drop: options.MaxDrop = None,
    max_class_drop: options.MaxClassDrop = None,
    min_agreement: options.MinAgreement = None,
    allow_class: options.AllowClass = None,
    confidence: options.Confidence = None,
    strict: Strict = False,
    threads: options.Threads = None,
    limit_s: options.LimitS = None,
    preprocess_drift: PreprocessDrift = False,
    flips: Flips = None,
    no_pictures: NoPictures = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    bisect: Bisect = False,
    against: Against = None,
    image: Image = None,
    tolerance: Tolerance = None,
    record: options.Record = None,
    console: Console,
) -> None:
    """Compare the exported models with their teacher on the subtask, on this machine or on devices over SSH.

    Exit code 0: every expert passes; 3: one fails; 4: too few images to decide.
    """
    from edgedistill_cli.bundles.bisecting import bisect_bundle
    from edgedistill_cli.bundles.decisions import require_fitting, write_summaries
    from edgedistill_cli.bundles.devices import Targets, require_devices, require_local, validate_on_devices
    from edgedistill_cli.bundles.recording import recording
    from edgedistill_cli.bundles.validating import check_models, open_own_images
    from edgedistill_cli.exit_codes import Outcome, gate_code
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.parity.check import ParityLimits
    from edgedistill_deploy.parity.validation import ValidationRequest
    from edgedistill_deploy.records.parity import read_parity

    require_fitting(
        bisecting=bisect,
        search={"--against": against, "--image": image, "--tolerance": tolerance},
        check={
            "--provider": None if provider == "cpu" else provider,
            "--flips": flips,
            "--no-pictures": no_pictures or None,
            "--junit": junit,
            "--markdown": markdown,
            "--preprocess-drift": preprocess_drift or None,
            "--max-drop": max_drop,
            "--max-class-drop": max_class_drop,
            "--min-agreement": min_agreement,
            "--allow-class": allow_class or None,
            "--confidence": confidence,
            "--strict": strict or None,
        },
        as_json=console.as_json,
        markdown=markdown,
    )
    require_devices(device, {"--keep": keep, "--wait": wait})
    require_local(device, {"--bisect": bisect, "--flips": flips, "--preprocess-drift": preprocess_drift})
    limits = ParityLimits(
        **options.not_none(
            max_drop=max_drop,
            max_class_drop=max_class_drop,
            min_agreement=min_agreement,
            allowed_classes=tuple(allow_class) if allow_class else None,
            confidence=confidence,
            strict=strict,
        )
    )
    opened = open_bundle(bundle)
    largest_loss = options.read_max_bad(max_bad, data)
    images = None if data is None else open_own_images(data, opened, console, largest_loss)
    request = ValidationRequest(
        limits=limits,
        precisions=None if precision is None else (precision,),
        runtime=runtime,
        provider=provider,
        threads=threads,
        preprocess_drift=preprocess_drift,
        flips=flips is not None,
        pictures=not no_pictures,
        all_files=precision is None,
        **options.not_none(limit_s=limit_s),
    )
    verdict: Outcome
    with recording(opened, "validate", console, record) as recorder:
        if device:
            targets = Targets.of(context, device, keep, wait)
            verdict, records = validate_on_devices(opened, recorder, targets, request, images)
            write_summaries([read_parity(record) for record in records], junit, markdown, console)
        elif bisect:
            verdict = bisect_bundle(
                opened,
                recorder,
                precision=precision,
                against=against,
                runtime=runtime,
                image=image or 0,
                tolerance=tolerance,
                images=images,
                threads=threads,
            )
        else:
            verdict = check_models(opened, recorder, request, images, flips=flips, junit=junit, markdown=markdown)
    raise typer.Exit(gate_code(verdict))
