"""`validate`: a gate whose exit code says whether the expert is as good as its teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

if TYPE_CHECKING:
    from edgedistill_deploy.records.parity import ParityLimits

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

ExtendReference = Annotated[
    bool,
    typer.Option(
        "--extend-reference",
        help="Keep the teacher's answers to the --data images in the bundle, in a reference of their own.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFlags:
    """What a model must keep."""

    max_drop: options.MaxDrop = None
    max_class_drop: options.MaxClassDrop = None
    min_agreement: options.MinAgreement = None
    allow_class: options.AllowClass = None
    confidence: options.Confidence = None
    strict: Annotated[
        bool, typer.Option("--strict", help="A check that cannot be made, for example without golden outputs, fails.")
    ] = False

    def given(self) -> dict[str, object]:
        """Return the flags, with None for one that was not given."""
        return {
            "--max-drop": self.max_drop,
            "--max-class-drop": self.max_class_drop,
            "--min-agreement": self.min_agreement,
            "--allow-class": self.allow_class or None,
            "--confidence": self.confidence,
            "--strict": self.strict or None,
        }

    def limits(self) -> "ParityLimits":
        """Return the limits; those that were not given have defaults."""
        from edgedistill_deploy.records.parity import ParityLimits

        return ParityLimits(
            **options.not_none(
                max_drop=self.max_drop,
                max_class_drop=self.max_class_drop,
                min_agreement=self.min_agreement,
                allowed_classes=tuple(self.allow_class) if self.allow_class else None,
                confidence=self.confidence,
                strict=self.strict,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryFlags:
    """What is written beside the records."""

    flips: Annotated[
        Path | None, flag("--flips", "DIR", "Write pictures of the images that teacher and expert decide differently.")
    ] = None
    no_pictures: Annotated[
        bool,
        typer.Option("--no-pictures", help="Keep no small pictures of images in the records that the report shows."),
    ] = False
    junit: Annotated[Path | None, flag("--junit", "FILE", "Write what was judged as JUnit XML.")] = None
    markdown: Annotated[str | None, flag("--markdown", "FILE", 'Write a summary as Markdown, "-" for the screen.')] = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFlags:
    """The search for the first bad node, instead of a check."""

    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the first node at which two models differ, instead.")
    ] = False
    against: Annotated[
        str | None,
        flag(
            "--against",
            "WHAT",
            "With --bisect: a precision, FILE.onnx, unoptimised, or RUNTIME:PROVIDER; fp32 by default.",
        ),
    ] = None
    image: Annotated[int | None, flag("--image", "N", "With --bisect: which image, from 0.")] = None
    tolerance: Annotated[
        float | None, flag("--tolerance", "X", "With --bisect: largest relative error of a value.")
    ] = None

    def given(self) -> dict[str, object]:
        """Return the flags that need `--bisect`, with None for one that was not given."""
        return {"--against": self.against, "--image": self.image, "--tolerance": self.tolerance}


def validate(
    context: typer.Context,
    bundles: options.BundlePaths,
    *,
    data: OwnData = None,
    max_bad: MaxBad = None,
    extend_reference: ExtendReference = False,
    device: options.Devices = None,
    keep: options.Keep = False,
    wait: options.Wait = None,
    runtime: options.Runtime = "onnxruntime",
    precision: options.Precision = None,
    provider: options.Provider = "cpu",
    gate: GateFlags,
    threads: options.Threads = None,
    limit_s: options.LimitS = None,
    preprocess_drift: PreprocessDrift = False,
    summary: SummaryFlags,
    search: SearchFlags,
    record: options.Record = None,
    console: Console,
) -> None:
    """Compare the exported models with their teacher on the subtask, on this machine or on devices over SSH.

    Exit code 0: every expert passes; 3: one fails; 4: too few images to decide; 1 or 2: one could not be judged.
    """
    from edgedistill_cli.bundles.bisecting import Search
    from edgedistill_cli.bundles.decisions import require_fitting
    from edgedistill_cli.bundles.devices import Targets, require_devices, require_local
    from edgedistill_cli.bundles.tasks import ValidationTask, require_extensible, validate_each
    from edgedistill_deploy.parity.validation import ValidationRequest

    beside = {
        "--provider": None if provider == "cpu" else provider,
        "--flips": summary.flips,
        "--no-pictures": summary.no_pictures or None,
        "--junit": summary.junit,
        "--markdown": summary.markdown,
        "--preprocess-drift": preprocess_drift or None,
        "--extend-reference": extend_reference or None,
        **gate.given(),
    }
    require_fitting(search.bisect, search.given(), beside, as_json=console.as_json, markdown=summary.markdown)
    require_devices(device, {"--keep": keep, "--wait": wait})
    local = {"--bisect": search.bisect, "--flips": summary.flips, "--preprocess-drift": preprocess_drift}
    require_local(device, {**local, "--extend-reference": extend_reference})
    if extend_reference:
        require_extensible(data, record)
    request = ValidationRequest(
        limits=gate.limits(),
        precisions=None if precision is None else (precision,),
        runtime=runtime,
        provider=provider,
        threads=threads,
        preprocess_drift=preprocess_drift,
        flips=summary.flips is not None,
        pictures=not summary.no_pictures,
        all_files=precision is None,
        **options.not_none(limit_s=limit_s),
    )
    nodes = Search(
        precision=precision,
        against=search.against,
        runtime=runtime,
        image=search.image or 0,
        tolerance=search.tolerance,
        threads=threads,
    )
    task = ValidationTask(
        request=request,
        data=data,
        max_bad=options.read_max_bad(max_bad, data),
        targets=Targets.of(context, device, keep, wait) if device else None,
        search=nodes if search.bisect else None,
        flips=summary.flips,
        record=record,
        extend=extend_reference,
    )
    raise typer.Exit(validate_each(bundles, task, console, junit=summary.junit, markdown=summary.markdown))
