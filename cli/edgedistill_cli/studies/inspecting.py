"""Inspect a teacher and show the result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.models.student_names import SHRUNK, is_shrunk
from edgedistill_cli.console import Console
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.runs.inputs import check_teacher, load_inputs, say_first_teacher
from edgedistill_deploy import wording as words
from edgedistill_deploy.errors import NotWrittenError
from edgedistill_deploy.files.locks import hold_folder
from edgedistill_deploy.files.writing import make_folder, refuse_links_out

if TYPE_CHECKING:
    from edgedistill.inspection.config import InspectConfig
    from edgedistill.inspection.records import Inspection, LayerInspection
    from edgedistill_cli.settings import RunSettings


def inspect_teacher(settings: "RunSettings", config: "InspectConfig", console: Console) -> "Inspection":
    """Inspect the layers of the teacher that the settings name."""
    from edgedistill.inspection.inspecting import inspect_subspaces

    say_first_teacher(settings, console)
    inputs = load_inputs(Run(folder=Path(), settings=settings, console=console))
    check_teacher(inputs, console)
    with console.progress("inspect") as report:
        return inspect_subspaces(
            inputs.teacher,
            inputs.subtask,
            inputs.images,
            config,
            student=settings.student.name,
            student_width=settings.student.width,
            progress=report,
        )


@contextmanager
def keeping(run: Path | None, out: Path | None, console: Console) -> "Iterator[Callable[[Inspection], None]]":
    """Yield a function that writes an inspection to `out`, else to RUN/inspect, where no other command is at work.

    A run folder that is only read gives a note.

    Raises:
        EdgeDistillError: another command is at work there.
        NotWrittenError: `out` cannot be made.
    """
    if out is not None:
        make_folder(out)
        with hold_folder(out, "edgedistill inspect", note=console.say):
            yield lambda found: _write(found, out, out, console)
    elif run is not None:
        refuse_links_out(run, ("inspect",))
        with hold_folder(run, "edgedistill inspect", sharing=True, note=console.say):
            yield lambda found: _write_if_possible(found, run, console)
    else:
        yield lambda found: None


def _write(found: "Inspection", folder: Path, inside: Path, console: Console) -> None:
    from edgedistill.inspection.picture import write_inspection

    for path in write_inspection(found, folder, inside):
        console.say(f"inspect: {path}")


def _write_if_possible(found: "Inspection", run: Path, console: Console) -> None:
    try:
        _write(found, run / "inspect", run, console)
    except NotWrittenError as error:
        console.warn(f"note: The result is not recorded: {error} To keep it in another folder, give --out DIR.")


def show_inspection(found: "Inspection", console: Console) -> None:
    """Print the accuracies, the widths, and the student that they suggest."""
    if found.judged_by == "teacher":
        judged = f"its own answers to {found.validation_count} validation images, which have no labels, count as right"
    else:
        judged = (
            f"{words.percent(found.teacher_accuracy)} ({words.percent_interval(found.teacher_interval)} with 95 % "
            f"confidence) of {found.validation_count} validation images"
        )
    console.result(f"teacher {found.teacher}: {judged}; subspaces from {found.training_count} training images")
    console.result("its accuracy in % when one layer keeps its K leading directions:")
    for layer in found.layers:
        _show_accuracies(layer, console)
    _show_widths(found, console)
    _show_suggestion(found, console)


def _show_accuracies(layer: "LayerInspection", console: Console) -> None:
    """Print the accuracies at the ranks that all methods were measured at."""
    at = {method: {point.k: point for point in points} for method, points in layer.accuracy_at_k.items()}
    ks = sorted(set.intersection(*(set(points) for points in at.values())))
    height, width = layer.map_size
    console.table(
        f"{layer.layer}: {layer.width} channels, {height}x{width}",
        ["K", *map(str, ks)],
        [[method, *(f"{100 * points[k].accuracy:.1f}" for k in ks)] for method, points in at.items()],
    )


def _show_widths(found: "Inspection", console: Console) -> None:
    given = found.suggestion.given
    methods = list(found.layers[0].suggested_width)
    console.table(
        f"Widths that keep {100 * found.target:g} % of the teacher's accuracy, as far as the images can tell",
        ["layer", "width", "rank", "99 %", *methods, *(["student"] if given else [])],
        [
            [
                layer.layer,
                str(layer.width),
                f"{layer.effective_rank.entropy:.1f}",
                str(layer.effective_rank.directions_99),
                *(_width(layer.suggested_width[method]) for method in methods),
                *([_width(given.widths.get(layer.layer))] if given else []),
            ]
            for layer in found.layers
        ],
    )
    console.result(
        "rank: exp of the entropy of the variances; 99 %: directions that hold so much of the variance"
        f"{'; student: channels of the one that was named' if given else ''}"
    )


def _width(width: int | None) -> str:
    return words.MISSING if width is None else str(width)


def _show_suggestion(found: "Inspection", console: Console) -> None:
    suggestion, given = found.suggestion, found.suggestion.given
    if suggestion.refused is not None:
        console.result(f"no width suggested: {suggestion.refused}")
        return
    if suggestion.student is not None:
        console.result(f"suggested: --student {suggestion.student}")
        drops = [f"{layer.layer} {_drop(layer, suggestion.method)}" for layer in found.layers]
        console.result(f"  each layer alone then costs, in points with 95 % confidence: {', '.join(drops)}")
        together = suggestion.together_accuracy, suggestion.together_drop_interval or (None, None)
        console.result(
            f"  all at once leave the teacher {words.percent(together[0])}, a drop of"
            f" {words.points_interval(together[1])} points"
        )
    else:
        missing = [layer.layer for layer in found.layers if layer.suggested_width[suggestion.method] is None]
        console.result(
            f"no student suggested: {suggestion.method} misses the target at every K given, at {', '.join(missing)}"
            if missing
            else "no student suggested: that takes two layers or more"
        )
    if given is not None and is_shrunk(given.name):
        console.result(
            "the teacher cannot be shrunk to these widths: some need all of its channels"
            if given.factor is None
            else f"or: --student {SHRUNK}{given.factor:g}, the least share that is wide enough"
        )
    elif given is not None and given.factor is not None:
        console.result(f"or: --student {given.name} --student-width {given.factor:g}, the least that is wide enough")
    elif given is not None:
        console.result(f"{given.name} has no --student-width up to 4 that gives these widths")


def _drop(layer: "LayerInspection", method: str) -> str:
    """Return the accuracy drop, in points, at the largest measured K within the suggested width."""
    width = layer.suggested_width[method] or 0
    points = [point for point in layer.accuracy_at_k[method] if point.k <= width]
    return words.points_interval(points[-1].drop_interval)
