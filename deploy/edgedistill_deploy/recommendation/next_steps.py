"""What to do next with a bundle: sentences in their order, each with the command that does it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.recommendation._alternatives import counted_reports
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import Records
from edgedistill_deploy.wording import whole

_SETTINGS = "settings.toml"
_MOST_CLASSES = 3  # in a command
_RECOVERY_EPOCHS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do: a sentence, and the command for it, "" where there is none."""

    sentence: str
    command: str = ""


def next_steps(bundle: Bundle, records: Records, chosen: ParityReport | None, address: str) -> tuple[Step, ...]:
    """Return what to do next; `chosen` is the report on the model to deploy, None if there is none.

    Commands name the bundle by its `address`. A model that failed comes first, then what was not measured. Where all is
    well, the steps lead to an application.
    """
    reports = [each.report for each in records.parity if not each.report.model.is_teacher]
    name = shlex.quote(address)
    if not reports:
        return (Step(sentence="Compare the files with the teacher.", command=f"edgedistill validate {name}"),)
    failed = [each for each in counted_reports(reports) if each.verdict == "fail"]
    undecided = [each for each in counted_reports(reports) if each.verdict == "inconclusive"]
    steps = [*_after_failure(bundle, name, failed, chosen)] if failed else []
    if undecided and not chosen:
        if not failed and any((each.accuracy.drop or 0.0) > each.judgement.limits.max_drop for each in undecided):
            steps += _train_again(bundle, name)
        steps += _more_images(bundle, name, undecided)
    if not records.latency:
        steps.append(Step(sentence="Measure how fast it is.", command=f"edgedistill profile {name}"))
    if chosen and not failed:
        steps += _into_an_application(name)
    return tuple(steps)


def _after_failure(
    bundle: Bundle, name: str, failed: Sequence[ParityReport], chosen: ParityReport | None
) -> Iterator[Step]:
    worst = next((each for each in failed if each.model.precision == "fp32"), failed[0])
    precision = worst.model.precision
    if chosen:
        yield Step(
            sentence=f"Ship the file that passes, and leave the others out: {chosen.model.precision}.",
            command=f"edgedistill pack {name} --target onnxruntime --precision {_plain(chosen.model.precision)}",
        )
    if any(not each.passed for each in worst.soundness.tests):
        yield Step(
            sentence="Find where its numbers go wrong.",
            command=f"edgedistill validate {name} --bisect --precision {_plain(precision)}",
        )
    yield Step(
        sentence="Look at the images that it answers otherwise than the teacher.",
        command=f"edgedistill validate {name} --flips flips",
    )
    if precision == "fp32":
        yield from _train_again(bundle, name)
    else:
        yield Step(sentence="See which step and which node lost the accuracy.", command=f"edgedistill ledger {name}")
        yield Step(
            sentence="Train the rounded model against its teacher.",
            command=f"edgedistill calibrate {name} --recover {_RECOVERY_EPOCHS}",
        )
    yield _accept_it(name, worst)


def _train_again(bundle: Bundle, name: str) -> Iterator[Step]:
    if not (bundle.path / _SETTINGS).is_file():
        return
    epochs = _epochs_of(bundle.manifest)
    longer = f" --epochs {2 * epochs}" if epochs else ""
    yield Step(
        sentence="Train again: longer, from trained weights, and with more images of the worst classes.",
        command=f"edgedistill build --config {name}/{_SETTINGS}{longer} --student-weights auto --out {name}-2",
    )


def _epochs_of(manifest: Mapping[str, Any]) -> int | None:
    noted = manifest.get("distillation")
    epochs = noted.get("epochs") if isinstance(noted, Mapping) else None
    return epochs if type(epochs) is int and 0 < epochs < 10**6 else None


def _accept_it(name: str, worst: ParityReport) -> Step:
    judged = worst.judgement
    classes = [*judged.classes_with("fail", "dead"), *judged.classes_with("fail", "beyond_limit")]
    if classes:
        allowed = " ".join(f"--allow-class {shlex.quote(each)}" for each in classes[:_MOST_CLASSES])
        return Step(
            sentence="If you can do without these classes, allow it.", command=f"edgedistill validate {name} {allowed}"
        )
    limit = min(0.99, 2 * judged.limits.max_drop or 0.01)
    return Step(
        sentence="If a larger loss is good enough for you, allow it.",
        command=f"edgedistill validate {name} --max-drop {limit:g}",
    )


def _more_images(bundle: Bundle, name: str, undecided: Sequence[ParityReport]) -> Iterator[Step]:
    needed = [each.judgement.images_to_decide for each in undecided]
    known = [each for each in needed if each is not None]
    if not known:
        return
    count = f"about {whole(max(known))} in all would decide"
    settings = (bundle.path / _SETTINGS).is_file()
    yield Step(
        sentence=f"Add images to the test split of your data, and build again: {count}.",
        command=f"edgedistill build --config {name}/{_SETTINGS} --out {name}-2" if settings else "",
    )


def _into_an_application(name: str) -> Iterator[Step]:
    yield Step(sentence="Ask it about a photograph of your own.", command=f"edgedistill predict {name} photo.jpg")
    yield Step(sentence="Put it into a program.", command=f"edgedistill snippet {name} --language python")
    yield Step(
        sentence="Make the smallest folder for a device.", command=f"edgedistill pack {name} --target onnxruntime"
    )


def _plain(precision: str) -> str:
    return shlex.quote(precision)
