"""Validate the models of a bundle: the same for the pipeline's stages and for the commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.bundles._steps import Steps
from edgedistill_cli.console import Console
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import UsageError

if TYPE_CHECKING:
    from edgedistill_cli.bundles.devices import Targets
    from edgedistill_cli.exit_codes import Outcome
    from edgedistill_deploy.images.sets import ImageSet
    from edgedistill_deploy.parity.validation import Validation, ValidationRequest
    from edgedistill_deploy.statistics.verdicts import Verdict


def validate_models(
    bundle: Bundle, console: Console, request: "ValidationRequest", images: "ImageSet | None" = None
) -> "Validation":
    """Check the models as asked, and write the records and what follows from them into the bundle."""
    from edgedistill_deploy.parity.validation import validate_bundle
    from edgedistill_deploy.recommendation.choice import record_choices

    with Steps(console, "validate") as steps:
        found = validate_bundle(bundle, request, images, write=True, progress=steps.tell)
    record_choices(bundle)
    return found


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
            f"{source} has none of the bundle's classes ({_some(bundle.class_names)}), only "
            f"{_some(chosen.class_names)}; name its folders as the bundle spells its classes."
        )
    return chosen.with_classes(shared)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_on_devices(
    bundle: "Bundle",
    console: Console,
    targets: "Targets",
    request: "ValidationRequest",
    images: "ImageSet | None",
    junit: Path | None,
    markdown: str | None,
) -> "Outcome":
    """Check the models on devices and return the verdict on all of them together."""
    from edgedistill_cli.bundles.decisions import write_summaries
    from edgedistill_cli.bundles.devices import validate_on_devices
    from edgedistill_deploy.records.parity import read_parity

    verdict, records = validate_on_devices(bundle, console, targets, request, images)
    write_summaries([read_parity(record) for record in records], junit, markdown, console)
    return verdict


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
) -> "Verdict":
    """Find where two models part company: "fail" when they do."""
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
    return "pass" if found.verdict == "agree" else "fail"


def check_models(
    bundle: "Bundle",
    console: Console,
    request: "ValidationRequest",
    images: "ImageSet | None",
    *,
    flips: Path | None,
    junit: Path | None,
    markdown: str | None,
) -> "Verdict":
    """Check the models, write and show what was found, and return the verdict."""
    from edgedistill_cli.bundles.decisions import show_chain, write_flips_of, write_summaries
    from edgedistill_cli.tables.parity import show_choices, show_parity
    from edgedistill_deploy.records.writing import plain

    found = validate_models(bundle, console, request, images)
    records = [report.to_json() for report in found.reports]
    if request.precisions is not None:
        console.emit(records[0])
        show_parity(found.reports, console)
    else:
        whole = {"kind": "parity-set", "schema": 1, "records": records, "verdict": found.verdict}
        console.emit({**whole, "chain": plain(found.chain)})
        show_parity(found.reports, console)
        show_chain(found.chain, console)
    if flips is not None:
        write_flips_of(bundle, found.flips, flips, console)
    show_choices(bundle, console)
    write_summaries(found.reports, junit, markdown, console)
    return found.verdict
