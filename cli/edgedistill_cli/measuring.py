"""Validate the models of a bundle: the same for the pipeline's stages and for the commands."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle.folder import Bundle, model_role
from edgedistill_deploy.errors import BundleError, UsageError

if TYPE_CHECKING:
    from edgedistill_cli.console import Report
    from edgedistill_cli.decisions import Kept
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
    from edgedistill_cli.decisions import Kept, write_chain_of
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
        checked.limits.confidence,
        progress=lambda done, total: report(done, total, "images, prepared in several ways"),
    )
    return replace(checked, preprocess_drift=drift.rows, notes=(*checked.notes, *drift.notes))


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
