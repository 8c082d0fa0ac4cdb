"""`validate --bisect`: choose the two models, search, and say where they first differ."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import UsageError

if TYPE_CHECKING:
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_deploy.diagnosis.bisect import BisectReport, Side
    from edgedistill_deploy.images.sets import ImageSet
    from edgedistill_deploy.statistics.verdicts import Verdict

AS_WRITTEN = "unoptimised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which models are compared, and on which image.

    Args:
        precision: of the model that is searched; None for the bundle's last one.
        against: see `_choose_sides`.
        runtime, threads: of both.
        image: its number, from 0.
        tolerance: largest relative error of a value; None for that of the precision.
    """

    precision: str | None = None
    against: str | None = None
    runtime: str = "onnxruntime"
    image: int = 0
    tolerance: float | None = None
    threads: int | None = None


def bisect_bundle(bundle: Bundle, recorder: "Recorder", search: Search, images: "ImageSet | None") -> "Verdict":
    """Find, record and show the first node at which two models differ on one image; "fail" if they differ.

    Raises:
        UsageError: there is no such image, or `against` names nothing to compare with.
    """
    from edgedistill_deploy.diagnosis.bisect import find_divergence, write_bisect
    from edgedistill_deploy.evaluation.images import open_evaluation

    console, image = recorder.console, search.image
    reference, candidate = _choose_sides(bundle, search.precision, search.against, search.runtime)
    evaluation = open_evaluation(bundle, images)
    count = len(evaluation.labels)
    if not 0 <= image < count:
        raise UsageError(f"There is no image {image}; the {count} images are numbered from 0 to {count - 1}.")
    console.say(f"bisect {candidate.name} against {reference.name}, {evaluation.name(image)}")
    with console.progress("bisect") as report:
        found = find_divergence(
            bundle,
            reference,
            candidate,
            evaluation.images(np.asarray([image])),
            image=image,
            tolerance=search.tolerance,
            threads=search.threads,
            # The number of runs is known only at the end.
            progress=lambda done, total, note="": report(done, done + 1, note),
        )
    recorder.keep(lambda: write_bisect(bundle, found, recorder.folder))
    console.emit(found.to_json())
    _show_bisect(found, console)
    return "pass" if found.verdict == "agree" else "fail"


def _choose_sides(bundle: Bundle, precision: str | None, against: str | None, runtime: str) -> "tuple[Side, Side]":
    """Return the reference and the model to search.

    `against` is a precision of the bundle, an ONNX file, "unoptimised" (the same file, computed as it is written), or
    RUNTIME[:PROVIDER] for the same file elsewhere. The default is fp32, and "unoptimised" for fp32 itself.
    """
    # By default the last precision: its file differs most from the student.
    candidate = _side(bundle, precision or bundle.precisions_for(runtime)[-1], runtime)
    if against is None:
        against = AS_WRITTEN if candidate.precision in ("fp32", "teacher") else "fp32"
    if against == AS_WRITTEN:
        return replace(candidate, optimised=False), candidate
    if against in bundle.precisions:
        return _side(bundle, against, runtime), candidate
    return _elsewhere(candidate, against, runtime, bundle), candidate


def _side(bundle: Bundle, precision: str, runtime: str) -> "Side":
    from edgedistill_deploy.diagnosis.bisect import Side

    return Side(path=bundle.file(bundle.role_for(precision, runtime)), precision=precision, runtime=runtime)


def _elsewhere(candidate: "Side", against: str, runtime: str, bundle: Bundle) -> "Side":
    from edgedistill_deploy.diagnosis.bisect import Side, precision_of
    from edgedistill_deploy.runtimes.opening import RUNTIMES

    name, _, provider = against.partition(":")
    if name in RUNTIMES:
        return replace(candidate, runtime=name, provider=provider or "cpu")
    path = Path(against).expanduser()
    if path.is_file():
        return Side(path=path, precision=precision_of(path), runtime=runtime)
    raise UsageError(
        f"There is nothing called {against} to compare with; name a precision of the bundle "
        f"({', '.join(bundle.precisions)}), an ONNX file, {AS_WRITTEN}, or a runtime with its provider such as "
        "onnxruntime:cpu."
    )


def _show_bisect(report: "BisectReport", console: Console) -> None:
    """Print the finding, the values around it, and the method."""
    console.result(report.sentence)
    first = report.first
    if first is not None:
        rows = [*((each.value, each.node, each.error) for each in first.inputs), (first.value, first.node, first.error)]
        console.table(
            "What it reads, and what it gives",
            ["value", "node", "relative error"],
            [[value, node, f"{error:.3g}"] for value, node, error in rows],
        )
        if len(first.suspects) > 1:
            console.result(f"Between them lie {', '.join(first.suspects)}.")
    reason = f", since {report.method_reason}" if report.method_reason else ""
    console.result(
        f"The output is off by {report.output_error:.3g}. {report.compared_count} of {report.value_count} values that "
        f"both have were compared in {report.run_count} runs, by {report.method}{reason}."
    )
    for note in report.notes:
        console.result(note)
