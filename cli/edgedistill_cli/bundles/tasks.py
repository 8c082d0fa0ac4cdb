"""What `validate` and `profile` do with each of the bundles that they are given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgedistill_deploy.errors import EdgeDistillError, UsageError

if TYPE_CHECKING:
    from edgedistill_cli.bundles.bisecting import Search
    from edgedistill_cli.bundles.devices import Targets
    from edgedistill_cli.bundles.profiling import Gates
    from edgedistill_cli.bundles.several import Place
    from edgedistill_cli.console import Console
    from edgedistill_cli.exit_codes import Outcome
    from edgedistill_deploy.parity.validation import ValidationRequest
    from edgedistill_deploy.profiling.request import ProfileRequest
    from edgedistill_deploy.records.parity import ParityReport, UnreadableParity

    Summarised: TypeAlias = ParityReport | UnreadableParity


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
        from edgedistill_cli.bundles.validating import check_models, keep_new_answers, open_own_images
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileTask:
    """What `profile` does with each bundle.

    `targets` are the devices, None for this machine; `record` is where the records go, instead of the bundle.
    `is_one_model` if one precision was asked for, whose record is the document then, on the provider asked for.
    """

    request: "ProfileRequest"
    gates: "Gates"
    targets: "Targets | None" = None
    record: Path | None = None
    is_one_model: bool = False

    def measure(self, place: "Place", console: "Console") -> "Outcome":
        """Measure a bundle, write and show its records, and return the verdict on its latencies."""
        from edgedistill_cli.bundles.devices import profile_on_devices
        from edgedistill_cli.bundles.profiling import asked_records, profile_bundle, say_unjudged
        from edgedistill_cli.bundles.recording import recording
        from edgedistill_cli.tables.latency import show_profile
        from edgedistill_cli.tables.parity import show_choices
        from edgedistill_deploy.bundle.folder import open_bundle

        bundle = open_bundle(place.path)
        with recording(bundle, "profile", console, place.folder_in(self.record)) as recorder:
            if self.targets is not None:
                return profile_on_devices(bundle, recorder, self.targets, self.request, self.gates)
            measured = self.gates.judge(profile_bundle(bundle, recorder, self.request))
        asked = asked_records(measured)
        console.emit(asked[0] if self.is_one_model and len(asked) == 1 else measured)
        show_profile(measured, console)
        show_choices(bundle, console)
        if self.record is None:
            say_unjudged(bundle, measured, place.path, console)
        return self.gates.verdict(measured)


def profile_each(paths: Sequence[Path], task: ProfileTask, console: "Console") -> int:
    """Measure the bundles one after another, and return the exit code.

    Raises:
        UsageError: a bundle was given twice, two would write into one folder, or several with earlier records.
    """
    from edgedistill_cli.bundles.several import find_places, judge_each

    if task.gates.source is not None and len(paths) > 1:
        raise UsageError(
            f"--against {task.gates.source} is compared with one bundle, and {len(paths)} were given; profile them one "
            "by one."
        )
    return judge_each(find_places(paths, (task.record,)), console, "profile", task.measure)
