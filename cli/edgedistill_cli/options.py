"""Flags that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill_cli.flags import Setting

Duration = Annotated[float | None, typer.Option("--duration", metavar="S", help="Seconds to measure; 10 by default.")]
ProfileThreads = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="CPU threads of the runtime.")]
Warmup = Annotated[
    float | None,
    typer.Option("--warmup", metavar="S", help="Seconds to warm up; 1 by default, longer until steady, 0 for none."),
]
Percentile = Annotated[float, typer.Option("--percentile", metavar="P", help="Which percentile keeps the budget.")]


BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The run folder or bundle.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; flags win over the file.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The run folder; also the bundle.")]
Restart = Annotated[bool, typer.Option("--restart", help="Delete what the folder holds of an earlier run first.")]

Reject = Annotated[
    float | None,
    typer.Option(
        "--reject",
        metavar="X",
        help="Give the expert an output in_domain that accepts this share of its images, such as 0.95; 0 is off.",
    ),
    Setting("export.reject"),
]
MaxDrop = Annotated[
    float | None,
    typer.Option("--max-drop", metavar="X", help="Largest accuracy drop that passes, absolute."),
    Setting("validate.max_drop"),
]
Confidence = Annotated[
    float | None, typer.Option("--confidence", metavar="X", help="Of the intervals."), Setting("validate.confidence")
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", help="fp32, fp16, int8 or teacher; all that the bundle has by default."),
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
Keep = Annotated[bool, typer.Option("--keep", help="With --device: leave what was sent there for the next time.")]
Wait = Annotated[
    float | None,
    typer.Option("--wait", metavar="S", min=0, help="With --device: seconds to wait while another measures there."),
]


def class_names(text: str) -> list[str]:
    """Split A,B,C."""
    return [name.strip() for name in text.split(",") if name.strip()]


def number_or_text(text: str) -> float | str:
    """Return the number that the text is; the text where it is none."""
    try:
        return float(text)
    except ValueError:
        return text


def not_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None; the callee has defaults for the others."""
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlags:
    """The images, the teacher, the classes and the student."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="SRC",
            help="Image folder (class folders, or train/ val/ test/), npz:FILE, fashion-mnist[:DIR], cifar100:DIR, "
            "embedded:digits.",
        ),
        Setting("data.source"),
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="NAME", help="timm:NAME, a folder in timm's layout, or embedded:glyphs100."),
        Setting("teacher.name"),
    ] = None
    teacher_weights: Annotated[
        str | None,
        typer.Option("--teacher-weights", metavar="FILE", help="safetensors or a plain state dict."),
        Setting("teacher.weights"),
    ] = None
    teacher_classes: Annotated[
        str | None,
        typer.Option("--teacher-classes", metavar="FILE", help="One label a line, in output order."),
        Setting("teacher.classes"),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="A,B,C", help="The subtask: names as the teacher spells them."),
        Setting("subtask.classes", class_names),
    ] = None
    subtask: Annotated[
        str | None,
        typer.Option("--subtask", metavar="NAME", help="A named superclass, such as cifar100/flowers."),
        Setting("subtask.name"),
    ] = None
    student: Annotated[
        str | None, typer.Option("--student", metavar="NAME", help="timm:NAME."), Setting("student.name")
    ] = None
    student_width: Annotated[
        float | None,
        typer.Option("--student-width", metavar="X", help="Factor on its channels."),
        Setting("student.width"),
    ] = None
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", metavar="N", help="Side of the images, in pixels."),
        Setting("data.image_size"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFlags:
    """The number of training steps, and their size."""

    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N"), Setting("distill.epochs")] = None
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", help="Images a training step."),
        Setting("distill.batch_size"),
    ] = None
    lr: Annotated[
        float | None, typer.Option("--lr", metavar="X", help="Peak learning rate."), Setting("distill.learning_rate")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFlags:
    """How SubDistill trains. `preset` names several settings at once; every other source overrides them."""

    lambda_layer: Annotated[
        str | None,
        typer.Option(
            "--lambda-layer", metavar="X|auto", help="Weight of the layer losses; auto chooses it by short runs."
        ),
        Setting("distill.lambda_layer", number_or_text),
    ] = None
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="Named training settings, under all others: paper.")
    ] = None
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs", metavar="T=S,...", help="Layers to match, teacher=student; found automatically by default."
        ),
        Setting("student.pairs", class_names),
    ] = None
    teacher_cache: Annotated[
        str | None,
        typer.Option(
            "--teacher-cache",
            metavar="off|auto|N",
            help="Keep the teacher's answers for N views of each image on disk.",
        ),
        Setting("distill.teacher_cache"),
    ] = None
    mixed_precision: Annotated[
        str | None,
        typer.Option("--mixed-precision", metavar="no|bf16|fp16", help="Of the networks in training."),
        Setting("distill.mixed_precision"),
    ] = None
    ema: Annotated[
        float | None,
        typer.Option("--ema", metavar="X", help="Decay of the student's moving average, such as 0.99."),
        Setting("distill.ema"),
    ] = None
    early_stopping: Annotated[
        int | None,
        typer.Option("--early-stopping", metavar="N", help="Stop after N epochs without a better validation."),
        Setting("distill.early_stopping"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlags:
    """The machine, the seed, and the requirements on the expert."""

    augment: Annotated[
        str | None,
        typer.Option("--augment", metavar="NAME", help="none, crop, crop-flip, resized-crop or resized-crop-flip."),
        Setting("distill.augment"),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", metavar="N"), Setting("distill.seed")] = None
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help="Processes that decode images."),
        Setting("distill.workers"),
    ] = None
    compute: Annotated[
        str | None,
        typer.Option("--compute", metavar="auto|cpu|cuda|mps", help="Where training runs."),
        Setting("distill.compute"),
    ] = None
    reject: Reject = None
    max_drop: MaxDrop = None
    confidence: Confidence = None
