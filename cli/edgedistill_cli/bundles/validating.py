"""Validate the models of a bundle, for the stages of a run and for the commands."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgedistill_cli.bundles._steps import Steps
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import EdgeDistillError, UsageError

if TYPE_CHECKING:
    from edgedistill_cli.bundles.bisecting import Search
    from edgedistill_cli.bundles.devices import Targets
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_cli.bundles.several import Place
    from edgedistill_cli.console import Console
    from edgedistill_cli.exit_codes import Outcome
    from edgedistill_deploy.images.sets import ImageSet, ImageSplits
    from edgedistill_deploy.images.skipped import SkippedFile
    from edgedistill_deploy.parity.validation import Validation, ValidationRequest
    from edgedistill_deploy.records.parity import ParityReport, UnreadableParity

    Summarised: TypeAlias = ParityReport | UnreadableParity


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationTask:
    """What `validate` does with each bundle.

    Args:
        request: the models and the checks.
        data, max_bad: as for `open_own_images`; None for the images recorded in the bundle.
        targets: the devices that judge; None for this machine.
        search: search for the first node at which two models differ, instead.
        flips: where the pictures of images that are decided differently go.
        record: where the records go, instead of the bundle.
        extend: keep the teacher's new answers in the bundle.
    """

    request: "ValidationRequest"
    data: str | None = None
    max_bad: float | None = None
    targets: "Targets | None" = None
    search: "Search | None" = None
    flips: Path | None = None
    record: Path | None = None
    extend: bool = False

    def judge(self, place: "Place", console: "Console") -> "tuple[Outcome, Sequence[Summarised]]":
        """Judge a bundle, write and show its records; return the verdict, and what a summary for a build says."""
        from edgedistill_cli.bundles.bisecting import bisect_bundle
        from edgedistill_cli.bundles.devices import validate_on_devices
        from edgedistill_cli.bundles.recording import recording
        from edgedistill_deploy.bundle.folder import open_bundle
        from edgedistill_deploy.records.parity import read_parity

        bundle = open_bundle(place.path)
        images = None if self.data is None else open_own_images(self.data, bundle, console, self.max_bad)
        with recording(bundle, "validate", console, place.folder_in(self.record)) as recorder:
            if self.targets is not None:
                verdict, records = validate_on_devices(bundle, recorder, self.targets, self.request, images)
                return verdict, [read_parity(record) for record in records]
            if self.search is not None:
                return bisect_bundle(bundle, recorder, self.search, images), ()
            found = check_models(bundle, recorder, self.request, images, flips=place.folder_in(self.flips))
            if self.extend:
                keep_new_answers(found, bundle, recorder)
            return found.verdict, found.reports


def require_extensible(data: str | None, record: Path | None) -> None:
    """Refuse `--extend-reference` where there are no images, or the bundle is only read.

    Raises:
        UsageError: there is no `--data`, or there is a `--record`.
    """
    if data is None:
        raise UsageError("--extend-reference keeps the answers to the images of --data; give both.")
    if record is not None:
        raise UsageError(
            "--extend-reference writes into the bundle, and --record leaves the bundle as it is; give one of them."
        )


def validate_each(
    paths: Sequence[Path], task: ValidationTask, console: "Console", *, junit: Path | None, markdown: str | None
) -> int:
    """Judge the bundles, write one summary of each kind on all of them, and return the exit code.

    Raises:
        UsageError: a bundle was given twice, or two would write into one folder.
    """
    from edgedistill_cli.bundles.decisions import write_summaries
    from edgedistill_cli.bundles.several import find_places, judge_each
    from edgedistill_deploy.records.parity import UnreadableParity

    places = find_places(paths, (task.flips, task.record))
    summarised: list[Summarised] = []

    def judge(place: "Place", console: "Console") -> "Outcome":
        verdict, reports = task.judge(place, console)
        summarised.extend(reports if place.is_alone else [replace(each, bundle=place.name) for each in reports])
        return verdict

    def note_failure(place: "Place", error: EdgeDistillError) -> None:
        summarised.append(UnreadableParity.of_bundle(place.name, str(error)))

    code = judge_each(places, console, "validate", judge, note_failure)
    if task.search is None:
        write_summaries(summarised, junit, markdown, console)
    return code


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
        write_flips_of(bundle, found.flips, flips, recorder)
    show_choices(bundle, console)
    return found
