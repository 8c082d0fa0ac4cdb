"""`inspect`: how many directions of each layer the teacher's answers need, and the student widths that follow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console

if TYPE_CHECKING:
    from edgedistill.inspection.config import InspectConfig
    from edgedistill.inspection.records import Inspection, LayerInspection
    from edgedistill_cli.settings import RunSettings

OptionalRun = Annotated[
    Path | None,
    typer.Argument(metavar="[RUN]", help="A run folder, whose settings are taken.", show_default=False),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers", metavar="L1,L2", help="Layers of the teacher; those that would be paired by default."
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods", metavar="A,B", help="prca, pca, gradient, random, ...; the first gives the widths."
    ),
]
Ks = Annotated[
    str | None,
    typer.Option("--ks", metavar="1,2,4", help="Directions to keep; doubling, then as needed, by default."),
]
Target = Annotated[
    float | None, typer.Option("--target", metavar="X", help="Part of the teacher's accuracy to keep; 0.99.")
]
Images = Annotated[
    int | None, typer.Option("--images", metavar="N", help="Validation images to measure on; 1000 at most.")
]
TrainingImages = Annotated[
    int | None,
    typer.Option("--training-images", metavar="N", help="Training images for the subspaces; 4000 at most."),
]
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where inspection.json and .svg go; RUN/inspect with a RUN."),
]


def inspect(
    run: OptionalRun = None,
    out: OutFolder = None,
    config: options.Config = None,
    data: options.Data = None,
    teacher: options.TeacherName = None,
    teacher_weights: options.TeacherWeights = None,
    teacher_classes: options.TeacherClasses = None,
    classes: options.Classes = None,
    subtask: options.SubtaskName = None,
    student: options.StudentName = None,
    student_width: options.StudentWidth = None,
    image_size: options.ImageSize = None,
    layers: Layers = None,
    methods: Methods = None,
    ks: Ks = None,
    target: Target = None,
    images: Images = None,
    training_images: TrainingImages = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    compute: options.Compute = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Show the subspaces of the teacher's layers: spectra, its accuracy on K directions, the widths a student needs.

    Measured on validation images, never on test images.
    """
    given = dict(locals())
    from edgedistill.inspection.picture import check_drawing, write_inspection

    console = options.console_of(as_json, quiet, verbose)
    settings = _settings(run, config, options.training_flags(given))
    chosen = _config(settings, given)
    folder = out if out is not None or run is None else run / "inspect"
    if folder is not None:
        check_drawing()
    found = _inspected(settings, chosen, console)
    console.emit(found.to_json())
    _show(found, console)
    if folder is not None:
        for path in write_inspection(found, folder):
            console.say(f"inspect: {path}")


def _settings(run: Path | None, config: Path | None, flags: dict[str, Any]) -> "RunSettings":
    from edgedistill_cli.settings import read_settings
    from edgedistill_deploy.errors import UsageError

    if run is not None and config is not None:
        raise UsageError(
            "Both a run folder and --config were given; a run has settings of its own, so give one of them."
        )
    if run is not None and not (run / "settings.toml").is_file():
        raise UsageError(
            f"{run} is not a run folder (it has no settings.toml); give one that `edgedistill build` made, or --data,"
            " --teacher and --classes."
        )
    return read_settings(
        run / "settings.toml" if run is not None else config, flags, defaults={"student.name": ""}
    )


def _config(settings: "RunSettings", given: dict[str, Any]) -> "InspectConfig":
    from edgedistill.inspection.config import InspectConfig

    values = {
        "layers": _words(given["layers"]),
        "methods": _words(given["methods"]),
        "ks": _numbers(given["ks"]),
        **{name: given[name] for name in ("target", "images", "training_images")},
    }
    return InspectConfig(
        positions=settings.distill.positions,
        seed=settings.distill.seed,
        workers=settings.distill.workers,
        compute=settings.distill.compute,
        **{name: value for name, value in values.items() if value is not None},
    )


def _words(text: str | None) -> tuple[str, ...] | None:
    names = options.class_names(text)
    return None if names is None else tuple(dict.fromkeys(names))


def _numbers(text: str | None) -> tuple[int, ...] | None:
    from edgedistill_deploy.errors import UsageError

    words = _words(text)
    if words is None:
        return None
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"--ks takes whole numbers such as 1,2,4,8, and {text!r} was given.")
    return tuple(map(int, words))


def _inspected(settings: "RunSettings", config: "InspectConfig", console: Console) -> "Inspection":
    from edgedistill.inspection.inspecting import inspect_subspaces
    from edgedistill_cli.runs.folder import Run
    from edgedistill_cli.runs.inputs import load_inputs

    inputs = load_inputs(Run(folder=Path(), settings=settings, console=console))
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


def _show(found: "Inspection", console: Console) -> None:
    from edgedistill_deploy import wording as words

    console.result(
        f"teacher {found.teacher}: {words.percent(found.teacher_accuracy)}"
        f" ({words.percent_interval(found.teacher_interval)} with 95 % confidence) of {found.validation_count}"
        f" validation images; subspaces from {found.training_count} training images"
    )
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
        f"Widths that keep {100 * found.target:g} % of the teacher's accuracy",
        [
            "layer",
            "width",
            "rank",
            "99 %",
            *methods,
            *(["student"] if given else []),
        ],
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
        "rank: exp of the entropy of the variances; 99 %: directions that hold so much of the variance;"
        " student: channels of the one that was named"
        if given
        else "rank: exp of the entropy of the variances; 99 %: directions that hold so much of the variance"
    )


def _width(width: int | None) -> str:
    return "–" if width is None else str(width)


def _show_suggestion(found: "Inspection", console: Console) -> None:
    from edgedistill_deploy import wording as words

    suggestion, given = found.suggestion, found.suggestion.given
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
    if given is not None and given.factor is not None:
        console.result(
            f"or: --student {given.name} --student-width {given.factor:g}, the least that is wide enough"
        )
    elif given is not None:
        console.result(f"{given.name} has no --student-width up to 4 that gives these widths")


def _drop(layer: "LayerInspection", method: str) -> str:
    """Say what the last measured K within the suggested width costs."""
    from edgedistill_deploy import wording as words

    width = layer.suggested_width[method] or 0
    points = [point for point in layer.accuracy_at_k[method] if point.k <= width]
    return words.points_interval(points[-1].drop_interval)
