"""Validate the models of a bundle, for the stages of a run and for the commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.bundles._steps import Steps
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import UsageError

if TYPE_CHECKING:
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_deploy.images.sets import ImageSet
    from edgedistill_deploy.parity.validation import Validation, ValidationRequest
    from edgedistill_deploy.statistics.verdicts import Verdict


def validate_models(
    bundle: Bundle, recorder: "Recorder", request: "ValidationRequest", images: "ImageSet | None" = None
) -> "Validation":
    """Check the models, and write the records, and the choices that follow from those of the bundle."""
    from edgedistill_deploy.parity.validation import validate_bundle

    with Steps(recorder.console, "validate") as steps:
        found = validate_bundle(bundle, request, images, write=True, folder=recorder.folder, progress=steps.tell)
    recorder.note(found.unkept)
    recorder.keep_choices(bundle)
    return found


def open_own_images(source: Path | str, bundle: Bundle) -> "ImageSet":
    """Open the test split of the source (or another split if it has none), with the bundle's classes only.

    Raises:
        UsageError: the source lacks some of these classes; the message names them all.
    """
    from edgedistill_deploy.classes.groups import member_names_of
    from edgedistill_deploy.classes.lookup import ClassList
    from edgedistill_deploy.evaluation.images import choose_classes
    from edgedistill_deploy.images.sources import open_images

    splits = open_images(source)
    chosen = splits.test or splits.validation or splits.train
    if not any(map(ClassList(chosen.class_names).places, member_names_of(bundle.classes))):
        raise UsageError(
            f"{source} has none of the bundle's classes ({_some(bundle.class_names)}), only "
            f"{_some(chosen.class_names)}; name its folders as the bundle spells its classes."
        )
    return choose_classes(chosen, bundle)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_models(
    bundle: Bundle,
    recorder: "Recorder",
    request: "ValidationRequest",
    images: "ImageSet | None",
    *,
    flips: Path | None,
    junit: Path | None,
    markdown: str | None,
) -> "Verdict":
    """Check the models, write and show the records, and return the verdict."""
    from edgedistill_cli.bundles.decisions import show_chain, write_flips_of, write_summaries
    from edgedistill_cli.tables.parity import show_choices, show_groups, show_parity
    from edgedistill_deploy.records.writing import plain

    console = recorder.console
    found = validate_models(bundle, recorder, request, images)
    records = [report.to_json() for report in found.reports]
    if request.precisions is not None:
        console.emit(records[0])
    else:
        whole = {"kind": "parity-set", "schema": 1, "records": records, "verdict": found.verdict}
        console.emit({**whole, "chain": plain(found.chain)})
    show_parity(found.reports, console)
    show_groups(bundle, console)
    if request.precisions is None:
        show_chain(found.chain, console)
    if flips is not None:
        write_flips_of(bundle, found.flips, flips, recorder)
    show_choices(bundle, console)
    write_summaries(found.reports, junit, markdown, console)
    return found.verdict
