"""`inspect`: how many directions of each layer the teacher's answers need, and the student widths that follow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill_cli import options

if TYPE_CHECKING:
    from edgedistill.inspection.config import InspectConfig
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
    from edgedistill_cli.studies.inspecting import inspect_teacher, show_inspection

    console = options.console_of(as_json, quiet, verbose)
    settings = _settings(run, config, options.training_flags(given))
    chosen = _config(settings, given)
    folder = out if out is not None or run is None else run / "inspect"
    if folder is not None:
        check_drawing()
    found = inspect_teacher(settings, chosen, console)
    console.emit(found.to_json())
    show_inspection(found, console)
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
