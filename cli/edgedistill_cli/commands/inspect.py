"""`inspect`: how many directions of each layer the teacher needs, and the student widths that follow."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import Without, flag, settings_of

OptionalRun = Annotated[
    Path | None, typer.Argument(metavar="[RUN]", help="A run folder, whose settings are taken.", show_default=False)
]
Layers = Annotated[
    str | None, flag("--layers", "L1,L2", "Layers of the teacher; those that would be paired by default.")
]
Methods = Annotated[
    str | None, flag("--methods", "A,B", "prca, pca, gradient, random, ...; the first gives the widths.")
]
Ks = Annotated[str | None, flag("--ks", "1,2,4", "Directions to keep; doubling, then as needed, by default.")]
Target = Annotated[float | None, flag("--target", "X", "Part of the teacher's accuracy to keep; 0.99.")]
Images = Annotated[int | None, flag("--images", "N", "Validation images to measure on; 1000 at most.")]
TrainingImages = Annotated[
    int | None, flag("--training-images", "N", "Training images for the subspaces; 4000 at most.")
]
OutFolder = Annotated[Path | None, flag("--out", "DIR", "Where inspection.json and .svg go; RUN/inspect with a RUN.")]


def inspect(
    *,
    run: OptionalRun = None,
    out: OutFolder = None,
    config: options.Config = None,
    task: options.TaskFlags,
    layers: Layers = None,
    methods: Methods = None,
    ks: Ks = None,
    target: Target = None,
    images: Images = None,
    training_images: TrainingImages = None,
    machine: Annotated[options.RunFlags, Without("augment", "confidence", *options.GATE_FLAGS)],
    console: Console,
) -> None:
    """Show the subspaces of the teacher's layers: spectra, its accuracy on K directions, the widths a student needs.

    Measured on validation images, never on test images.
    """
    from edgedistill.inspection.config import InspectConfig
    from edgedistill.inspection.picture import check_drawing
    from edgedistill_cli.runs.folder import read_run_or_file
    from edgedistill_cli.runs.preflight import Preflight, check_inputs, check_place, check_weights, read_for_checks
    from edgedistill_cli.studies.inspecting import inspect_teacher, keeping, show_inspection

    found = Preflight()
    settings = read_for_checks(lambda: read_run_or_file(run, config, settings_of(task, machine)), found)
    check_place(out or run, found, sharing=out is None)
    check_inputs(settings, console, found)
    check_weights(settings, found, student=False)
    found.require()
    given = options.not_none(
        layers=_words(layers),
        methods=_words(methods),
        ks=_numbers(ks),
        target=target,
        images=images,
        training_images=training_images,
    )
    chosen = InspectConfig(
        positions=settings.distill.positions,
        seed=settings.distill.seed,
        workers=settings.distill.workers,
        compute=settings.distill.compute,
        **given,
    )
    if out is not None or run is not None:
        check_drawing()
    with keeping(run, out, console) as keep:
        inspection = inspect_teacher(settings, chosen, console)
        console.emit(inspection.to_json())
        show_inspection(inspection, console)
        keep(inspection)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(dict.fromkeys(options.split_names(text)))


def _numbers(text: str | None) -> tuple[int, ...] | None:
    from edgedistill_deploy.errors import UsageError

    words = _words(text)
    if words is None:
        return None
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"--ks takes whole numbers such as 1,2,4,8, and {text!r} was given.")
    return tuple(map(int, words))
