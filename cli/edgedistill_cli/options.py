"""Flags that several commands share, declared once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill_cli.console import Console

Duration = Annotated[
    float | None, typer.Option("--duration", metavar="S", help="Seconds to measure; 10 by default.")
]
ProfileThreads = Annotated[
    int, typer.Option("--threads", metavar="N", min=1, help="CPU threads of the runtime.")
]
Warmup = Annotated[
    float | None,
    typer.Option(
        "--warmup", metavar="S", help="Seconds to warm up; 1 by default, longer until steady, 0 for none."
    ),
]
Percentile = Annotated[
    float, typer.Option("--percentile", metavar="P", help="Which percentile keeps the budget.")
]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages and no progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More messages.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an expected failure.")]

BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="The run folder or bundle.", show_default=False)
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; flags win over the file.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The run folder; also the bundle.")]
Restart = Annotated[
    bool, typer.Option("--restart", help="Delete what the folder holds of an earlier run first.")
]

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SRC",
        help="Image folder (class folders, or train/ val/ test/), npz:FILE, fashion-mnist[:DIR], cifar100:DIR, embedded:digits.",
    ),
]
TeacherName = Annotated[
    str | None,
    typer.Option(
        "--teacher", metavar="NAME", help="timm:NAME, a folder in timm's layout, or embedded:glyphs100."
    ),
]
TeacherWeights = Annotated[
    str | None, typer.Option("--teacher-weights", metavar="FILE", help="safetensors or a plain state dict.")
]
TeacherClasses = Annotated[
    str | None, typer.Option("--teacher-classes", metavar="FILE", help="One label a line, in output order.")
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", metavar="A,B,C", help="The subtask: names as the teacher spells them."),
]
SubtaskName = Annotated[
    str | None,
    typer.Option("--subtask", metavar="NAME", help="A named superclass, such as cifar100/flowers."),
]
StudentName = Annotated[str | None, typer.Option("--student", metavar="NAME", help="timm:NAME.")]
StudentWidth = Annotated[
    float | None, typer.Option("--student-width", metavar="X", help="Factor on its channels.")
]
ImageSize = Annotated[
    int | None, typer.Option("--image-size", metavar="N", help="Side of the images, in pixels.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", metavar="N", help="Images a training step.")]
LearningRate = Annotated[float | None, typer.Option("--lr", metavar="X", help="Peak learning rate.")]
LambdaLayer = Annotated[
    str | None,
    typer.Option(
        "--lambda-layer", metavar="X|auto", help="Weight of the layer losses; auto chooses it by short runs."
    ),
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Named training settings, under all others: paper."),
]
Pairs = Annotated[
    str | None,
    typer.Option(
        "--pairs", metavar="T=S,...", help="Layers to match, teacher=student; found automatically by default."
    ),
]
TeacherCache = Annotated[
    str | None,
    typer.Option(
        "--teacher-cache",
        metavar="off|auto|N",
        help="Keep the teacher's answers for N views of each image on disk.",
    ),
]
MixedPrecision = Annotated[
    str | None, typer.Option("--mixed-precision", metavar="no|bf16|fp16", help="Of the networks in training.")
]
Ema = Annotated[
    float | None,
    typer.Option("--ema", metavar="X", help="Decay of the student's moving average, such as 0.99."),
]
EarlyStopping = Annotated[
    int | None,
    typer.Option("--early-stopping", metavar="N", help="Stop after N epochs without a better validation."),
]
Augment = Annotated[
    str | None,
    typer.Option(
        "--augment", metavar="NAME", help="none, crop, crop-flip, resized-crop or resized-crop-flip."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N")]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes that decode images.")]
Compute = Annotated[
    str | None, typer.Option("--compute", metavar="auto|cpu|cuda|mps", help="Where training runs.")
]
Reject = Annotated[
    float | None,
    typer.Option(
        "--reject",
        metavar="X",
        help="Give the expert an output in_domain that accepts this share of its images, such as 0.95; 0 is off.",
    ),
]
MaxDrop = Annotated[
    float | None, typer.Option("--max-drop", metavar="X", help="Largest accuracy drop that passes, absolute.")
]
Confidence = Annotated[float | None, typer.Option("--confidence", metavar="X", help="Of the intervals.")]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision", metavar="P", help="fp32, fp16, int8 or teacher; all that the bundle has by default."
    ),
]
Runtime = Annotated[str, typer.Option("--runtime", metavar="NAME", help="What runs the model.")]
Provider = Annotated[
    str,
    typer.Option(
        "--provider",
        metavar="NAME[:DEVICE]",
        help="ONNX Runtime's back end: cpu, cuda, tensorrt, openvino, xnnpack, qnn or coreml.",
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="CPU threads; all by default.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="A device of devices.toml or ssh://user@host[:port] instead of this machine; may be given several times.",
    ),
]
Keep = Annotated[
    bool, typer.Option("--keep", help="With --device: leave what was sent there for the next time.")
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait", metavar="S", min=0, help="With --device: seconds to wait while another measures there."
    ),
]


def console_of(as_json: bool, quiet: bool, verbose: bool) -> Console:
    """Make the console from the three output flags."""
    return Console(as_json=as_json, quiet=quiet, verbose=verbose)


def class_names(text: str | None) -> list[str] | None:
    """Split A,B,C; None when the flag was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def training_flags(given: dict[str, Any]) -> dict[str, Any]:
    """Translate the flags of `build` and `distill`, by their parameter names, to keys of the settings."""
    keys = {
        "data": "data.source",
        "image_size": "data.image_size",
        "teacher": "teacher.name",
        "teacher_weights": "teacher.weights",
        "teacher_classes": "teacher.classes",
        "subtask": "subtask.name",
        "student": "student.name",
        "student_width": "student.width",
        "epochs": "distill.epochs",
        "batch_size": "distill.batch_size",
        "lr": "distill.learning_rate",
        "teacher_cache": "distill.teacher_cache",
        "mixed_precision": "distill.mixed_precision",
        "ema": "distill.ema",
        "early_stopping": "distill.early_stopping",
        "augment": "distill.augment",
        "seed": "distill.seed",
        "workers": "distill.workers",
        "compute": "distill.compute",
        "reject": "export.reject",
        "max_drop": "validate.max_drop",
        "confidence": "validate.confidence",
    }
    flags = {keys[name]: value for name, value in given.items() if name in keys}
    if given.get("classes") is not None:
        flags["subtask.classes"] = class_names(given["classes"])
    if given.get("pairs") is not None:
        flags["student.pairs"] = class_names(given["pairs"])
    if given.get("lambda_layer") is not None:
        flags["distill.lambda_layer"] = _number_or_text(given["lambda_layer"])
    return flags


def preset_settings(name: str | None) -> dict[str, Any]:
    """Return the settings {"distill.KEY": value} of a preset, for the keys that neither file nor flags give."""
    if name is None:
        return {}
    from edgedistill.checks import check_choice
    from edgedistill.config import PRESETS

    check_choice("--preset", name, tuple(PRESETS))
    return {f"distill.{key}": value for key, value in PRESETS[name].items()}


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
