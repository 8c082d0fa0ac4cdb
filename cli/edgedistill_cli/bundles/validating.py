"""Validate the models of a bundle: the same for the pipeline's stages and for the commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle.folder import Bundle, model_role
from edgedistill_deploy.errors import BundleError, UsageError

if TYPE_CHECKING:
    from edgedistill_cli.bundles.decisions import Kept
    from edgedistill_cli.bundles.devices import Targets
    from edgedistill_cli.console import Report
    from edgedistill_deploy.images.sets import ImageSet
    from edgedistill_deploy.parity.check import ParityLimits, ParityReport
    from edgedistill_deploy.runtimes.session import Session

# What is judged and measured when nothing is said, in the order of the tables. The TensorRT file is for TensorRT.
PRECISIONS = ("teacher", "fp32", "fp16", "int8")
EXPERT_PRECISIONS = ("fp32", "fp16", "int8")


def precisions_in(bundle: Bundle, known: Sequence[str] = PRECISIONS) -> tuple[str, ...]:
    """Return the precisions that the bundle has a model for.

    Raises:
        BundleError: it has none.
    """
    present = tuple(precision for precision in known if bundle.has(model_role(precision)))
    if not present:
        raise BundleError(
            f"The bundle {bundle.path} holds no model yet; run `edgedistill export {bundle.path}` first."
        )
    return present


def validate_bundle(
    bundle: Bundle,
    console: Console,
    limits: "ParityLimits",
    *,
    precisions: Sequence[str] | None = None,
    images: "ImageSet | None" = None,
    runtime: str = "onnxruntime",
    provider: str = "cpu",
    threads: int | None = None,
    preprocess_drift: bool = False,
    kept: "Kept | None" = None,
) -> "tuple[ParityReport, ...]":
    """Check each model against the teacher's recorded answers and write its record.

    With `preprocess_drift`, what other ways of preparing `images` would cost is measured for each expert too. `kept` gathers
    what is told image by image. Unless `precisions` are chosen, the chain of losses is written as well.

    Raises:
        UsageError: `preprocess_drift` without images.
    """
    from edgedistill_cli.bundles.decisions import Kept, write_chain_of
    from edgedistill_deploy.parity.check import check_parity, write_parity
    from edgedistill_deploy.recommendation.choice import record_choices
    from edgedistill_deploy.runtimes.opening import open_session

    kept = kept or Kept()
    if preprocess_drift and images is None:
        raise UsageError(
            "--preprocess-drift needs image files to prepare in other ways, and those in the bundle are prepared already; name a"
            " folder of images with --data."
        )
    reports = []
    for precision in precisions or precisions_in(bundle):
        with (
            console.progress(f"validate {precision}") as report,
            open_session(
                bundle,
                runtime=runtime,
                precision=precision,
                provider=provider,
                threads=threads,
                progress=report,
            ) as session,
        ):
            checked = check_parity(
                bundle,
                session,
                images,
                limits,
                progress=lambda done, total: report(done, total, "images"),
                keep=kept.receive,
            )
            if preprocess_drift and images is not None and precision != "teacher":
                checked = _with_drift(checked, bundle, session, images, report)
        write_parity(bundle, checked)
        kept.add(bundle, checked)
        reports.append(checked)
    if precisions is None:
        write_chain_of(bundle, kept)
    record_choices(bundle)
    return tuple(reports)


def _with_drift(
    checked: "ParityReport", bundle: Bundle, session: "Session", images: "ImageSet", report: "Report"
) -> "ParityReport":
    from edgedistill_deploy.parity.preprocess_drift import measure_preprocess_drift

    drift = measure_preprocess_drift(
        bundle,
        session,
        images,
        checked.judgement.limits.confidence,
        progress=lambda done, total: report(done, total, "images, prepared in several ways"),
    )
    return checked.with_drift(drift.rows, drift.notes)


def open_own_images(source: Path | str, bundle: Bundle) -> "ImageSet":
    """Open images to validate on: the test split of the source, else the only one, restricted to the bundle's classes.

    Raises:
        UsageError: the source has none of them.
    """
    from edgedistill_deploy.images.sets import find_class
    from edgedistill_deploy.images.sources import open_images

    splits = open_images(source)
    chosen = splits.test or splits.validation or splits.train
    shared = [name for name in bundle.class_names if find_class(name, chosen.class_names) is not None]
    if not shared:
        raise UsageError(
            f"{source} has none of the bundle's classes ({_some(bundle.class_names)}), only {_some(chosen.class_names)}; name its"
            " folders as the bundle spells its classes."
        )
    return chosen.with_classes(shared)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_on_devices(
    bundle: "Bundle",
    console: Console,
    targets: "Targets",
    limits: "ParityLimits",
    precision: str | None,
    images: "ImageSet | None",
    threads: int | None,
    junit: Path | None,
    markdown: str | None,
) -> int:
    """Check the models on devices and return the exit code of all of them together."""
    from edgedistill_cli.bundles.decisions import write_summaries
    from edgedistill_cli.bundles.devices import validate_on_devices
    from edgedistill_deploy.records.parity import read_parity

    code, records = validate_on_devices(
        bundle, console, targets, limits, precision=precision, threads=threads, images=images
    )
    write_summaries([read_parity(record) for record in records], junit, markdown, console)
    return code


def find_difference(
    bundle: "Bundle",
    console: Console,
    precision: str | None,
    against: str | None,
    runtime: str,
    image: int,
    tolerance: float | None,
    images: "ImageSet | None",
    threads: int | None,
) -> int:
    """Find where two models part company and return the exit code: 3 when they do."""
    from edgedistill_cli.bundles.bisecting import bisect_bundle, show_bisect

    found = bisect_bundle(
        bundle,
        console,
        precision=precision,
        against=against,
        runtime=runtime,
        image=image,
        tolerance=tolerance,
        images=images,
        threads=threads,
    )
    console.emit(found.to_json())
    show_bisect(found, console)
    return 0 if found.verdict == "agree" else 3


def check_models(
    bundle: "Bundle",
    console: Console,
    limits: "ParityLimits",
    *,
    precision: str | None,
    images: "ImageSet | None",
    runtime: str,
    provider: str,
    threads: int | None,
    preprocess_drift: bool,
    flips: Path | None,
    junit: Path | None,
    markdown: str | None,
) -> int:
    """Check the models, write and show what was found, and return the gate's exit code."""
    from edgedistill_cli.bundles.decisions import (
        Kept,
        add_unjudged,
        show_chain,
        write_chain_of,
        write_flips_of,
        write_summaries,
    )
    from edgedistill_cli.exit_codes import gate_code
    from edgedistill_cli.tables.parity import show_choices, show_parity
    from edgedistill_deploy.records.writing import plain

    kept = Kept(with_flips=flips is not None)
    reports = validate_bundle(
        bundle,
        console,
        limits,
        precisions=(precision,) if precision is not None else None,
        images=images,
        runtime=runtime,
        provider=provider,
        threads=threads,
        preprocess_drift=preprocess_drift,
        kept=kept,
    )
    records = [report.to_json() for report in reports]
    # The teacher's own file is the baseline: it is judged only when it alone is asked for.
    judged = [report for report in reports if precision is not None or not report.model.is_teacher]
    code = gate_code([report.verdict for report in judged])
    if precision is not None:
        console.emit(records[0])
        show_parity(reports, console)
    else:
        add_unjudged(bundle, kept, console, images, runtime, threads, provider)
        write_chain_of(bundle, kept)
        verdict = {0: "pass", 3: "fail", 4: "inconclusive"}[code]
        chain = plain(list(kept.chain()))
        console.emit(
            {"kind": "parity-set", "schema": 1, "records": records, "verdict": verdict, "chain": chain}
        )
        show_parity(reports, console)
        show_chain(kept.chain(), console)
    if flips is not None:
        write_flips_of(bundle, kept, flips, console)
    show_choices(bundle, console)
    write_summaries(reports, junit, markdown, console)
    return code
