"""Validate the models of a bundle, for the stages of a run and for the commands."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.bundles._steps import Steps
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.records.model import TEACHER

if TYPE_CHECKING:
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_cli.console import Console
    from edgedistill_deploy.images.sets import ImageSet, ImageSplits
    from edgedistill_deploy.images.skipped import SkippedFile
    from edgedistill_deploy.parity.validation import Validation, ValidationRequest


def validate_models(
    bundle: Bundle, recorder: "Recorder", request: "ValidationRequest", images: "ImageSet | None" = None
) -> "Validation":
    """Check the models, and write the records, and the choices that follow from those of the bundle."""
    from edgedistill_deploy.parity.validation import validate_bundle

    with Steps(recorder.console, "validate") as steps:
        found = validate_bundle(bundle, request, images, write=True, folder=recorder.folder, progress=steps.tell)
    recorder.note(found.unkept)
    for precision, reason in found.left_out.items():
        recorder.console.say(f"note: {precision} was not judged on {request.provider}: {reason}")
    recorder.keep_choices(bundle)
    return found


def validate_on_added(bundle: Bundle, recorder: "Recorder", request: "ValidationRequest") -> None:
    """Check the experts on the other providers for this processor too; notes say what cannot be run there.

    Nobody asked for these providers: what they do has records, and does not change what a build says of its files.
    """
    from edgedistill_cli.bundles.profiling import providers_nobody_named

    experts = tuple(each for each in bundle.precisions_here(request.runtime) if each != TEACHER)
    for provider in providers_nobody_named():
        validate_models(bundle, recorder, replace(request, provider=provider, precisions=experts, optional=True))


def open_own_images(source: Path | str, bundle: Bundle, console: "Console", max_bad: float | None = None) -> "ImageSet":
    """Open the test split of the source (or another split if it has none), with the bundle's classes only.

    Files that cannot be used are left out and told, as when an expert is built; `max_bad` limits their share.
    Where no image has a label, these are all images; the labels that the bundle records for them count.

    Raises:
        UsageError: the source lacks some of these classes; the message names them all.
        DataError: too much cannot be used.
    """
    from edgedistill_deploy.classes.groups import member_names_of
    from edgedistill_deploy.classes.lookup import ClassList
    from edgedistill_deploy.evaluation.images import choose_classes
    from edgedistill_deploy.images.checks.looking import leave_out_unusable
    from edgedistill_deploy.images.sets import NO_LABEL
    from edgedistill_deploy.images.sources import open_images
    from edgedistill_deploy.progress import noted

    splits = open_images(source)
    chosen = splits.test or splits.validation or splits.train
    split = "test" if splits.test else "validation" if splits.validation else "train"
    for note in splits.notes:
        console.say(f"note: {note}")
    unlabelled = bool((chosen.labels == NO_LABEL).all())
    if not unlabelled and not any(map(ClassList(chosen.class_names).places, member_names_of(bundle.classes))):
        raise UsageError(
            f"{source} has none of the bundle's classes ({_some(bundle.class_names)}), only "
            f"{_some(chosen.class_names)}; name its folders as the bundle spells its classes."
        )
    kept = chosen.rename_classes(bundle.class_names) if unlabelled else choose_classes(chosen, bundle)
    skipped = _skipped_of(splits, split, bundle)
    with console.progress("read") as report:
        usable, notes = leave_out_unusable(kept, skipped, max_bad=max_bad, progress=noted(report, "images"))
    for note in notes:
        console.say(f"note: {note}")
    return usable


def _skipped_of(splits: "ImageSplits", split: str, bundle: Bundle) -> "list[SkippedFile]":
    """Return the files in the class folders of the split that are known to be of no use, by the bundle's classes."""
    from edgedistill_deploy.classes.groups import claim_folders

    owners = claim_folders(splits.class_names, bundle.classes, "The images have").owners
    claimed = {folder: name for folder, name in zip(splits.class_names, owners, strict=True) if name is not None}
    names = {"": "", **claimed}
    ours = [each for each in splits.skipped if each.split == split and each.class_name in names]
    return [replace(each, class_name=names[each.class_name]) for each in ours]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def keep_new_answers(found: "Validation", bundle: Bundle, recorder: "Recorder") -> None:
    """Keep the teacher's answers that were not recorded, in a reference of their own, and say how many."""
    from edgedistill_deploy.bundle.extended import EXTENDED_FILE, extend_reference

    answered = found.answered
    if answered is None:
        recorder.console.say("--extend-reference kept nothing: the answers to all of these images are recorded.")
        return
    recorder.keep(lambda: extend_reference(bundle, answered))
    count = len(answered.answers.labels)
    recorder.console.say(f"{EXTENDED_FILE} keeps the teacher's answers to {count} more images.")


def check_models(
    bundle: Bundle, recorder: "Recorder", request: "ValidationRequest", images: "ImageSet | None", *, flips: Path | None
) -> "Validation":
    """Check the models, and write and show the records."""
    from edgedistill_cli.bundles.decisions import show_chain, write_flips_of
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
        write_flips_of(found.flips, flips, console)
    show_choices(bundle, console)
    return found
