"""Flags that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill_cli.flags import Setting, flag
from edgedistill_deploy.errors import UsageError

Duration = Annotated[float | None, flag("--duration", "S", "Seconds to measure; 10 by default.")]
ProfileThreads = Annotated[int, flag("--threads", "N", "CPU threads of the runtime.", min=1)]
Warmup = Annotated[
    float | None, flag("--warmup", "S", "Seconds to warm up; 1 by default, longer until steady, 0 for none.")
]
Percentile = Annotated[float, flag("--percentile", "P", "Which percentile keeps the budget.")]

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The run folder or bundle.", show_default=False)]
BundlePaths = Annotated[
    list[Path], typer.Argument(metavar="BUNDLE...", help="The run folder or bundle, or several.", show_default=False)
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]

Config = Annotated[Path | None, flag("--config", "FILE", "Settings in TOML; flags win over the file.")]
Out = Annotated[Path, flag("--out", "DIR", "The run folder; also the bundle.")]
Restart = Annotated[bool, typer.Option("--restart", help="Delete what the folder holds of an earlier run first.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Go on with a student that is not better than chance.")]

Rivals = Annotated[
    bool, typer.Option("--rivals", help="Also train the student on labels and on logits alone, and compare.")
]

Reject = Annotated[
    float | None,
    flag(
        "--reject",
        "X",
        "Give the expert an output in_domain that accepts this share of its images, such as 0.95; 0 is off.",
    ),
    Setting("export.reject"),
]
AllowCode = Annotated[
    bool | None,
    typer.Option("--allow-code", help="Run the function of a teacher python:MODULE:FUNCTION.", show_default=False),
    Setting("teacher.allow_code"),
]
TeacherLicence = Annotated[
    str | None,
    flag("--teacher-licence", "TEXT", "For the model card: the licence of the teacher, such as apache-2.0."),
    Setting("export.teacher_licence"),
]
DataLicence = Annotated[
    str | None,
    flag("--data-licence", "TEXT", "For the model card: the licence of the images, such as cc-by-4.0."),
    Setting("export.data_licence"),
]
MaxDrop = Annotated[
    float | None, flag("--max-drop", "X", "Largest accuracy drop that passes, absolute."), Setting("validate.max_drop")
]
MaxClassDrop = Annotated[
    float | None,
    flag("--max-class-drop", "X", "Largest accuracy drop of a class; by default only dead classes fail."),
    Setting("validate.max_class_drop"),
]
MinAgreement = Annotated[
    float | None,
    flag("--min-agreement", "X", "Least agreement with the teacher, such as 0.9; 0.95 where no image has a label."),
    Setting("validate.min_agreement"),
]
AllowClass = Annotated[
    list[str] | None,
    flag("--allow-class", "NAME", "A class that may be dead or drop too far; may be given several times."),
    Setting("validate.allowed_classes"),
]
Confidence = Annotated[float | None, flag("--confidence", "X", "Of the intervals."), Setting("validate.confidence")]
Precision = Annotated[
    str | None, flag("--precision", "P", "fp32, fp16, int8 or teacher; all that the bundle has by default.")
]
Runtime = Annotated[str, flag("--runtime", "NAME", "What runs the model.")]
Provider = Annotated[
    str,
    flag(
        "--provider", "NAME[:DEVICE]", "ONNX Runtime's back end: cpu, cuda, tensorrt, openvino, xnnpack, qnn or coreml."
    ),
]
Threads = Annotated[int | None, flag("--threads", "N", "CPU threads; all by default.")]
LimitS = Annotated[
    float | None, flag("--limit-s", "S", "Longest time for one inference, a batch of images; 600 by default.")
]
Devices = Annotated[
    list[str] | None,
    flag(
        "--device",
        "NAME",
        "A device of devices.toml or ssh://user@host[:port] instead of this machine; may be given several times.",
    ),
]
Keep = Annotated[bool, typer.Option("--keep", help="With --device: leave what was sent there for the next time.")]
Wait = Annotated[
    float | None, flag("--wait", "S", "With --device: seconds to wait while another measures there.", min=0)
]
Record = Annotated[
    Path | None, flag("--record", "DIR", "Where the records go instead of the bundle, which then is only read.")
]


# The flags of `RunFlags` about an expert in a bundle; a command that makes none goes without.
GATE_FLAGS = ("reject", "teacher_licence", "data_licence", "max_drop", "max_class_drop", "min_agreement", "allow_class")


def split_names(text: str) -> list[str]:
    """Return the names in A,B,C."""
    return [name.strip() for name in text.split(",") if name.strip()]


def number_or_text(text: str) -> float | str:
    """Return the text as a number if it is one, else the text itself."""
    try:
        return float(text)
    except ValueError:
        return text


def count_or_text(text: str) -> int | str:
    """Return the text as a whole number if it is one, else the text itself."""
    try:
        return int(text)
    except ValueError:
        return text


Workers = Annotated[
    str | None,
    flag("--workers", "N|auto", "Processes that decode images; auto suits this machine and the images."),
    Setting("distill.workers", count_or_text),
]


def share_or_text(text: str) -> float | str:
    """Return "1%" and "0.01" as 0.01, anything else as it is."""
    number = number_or_text(text.strip().removesuffix("%"))
    if isinstance(number, str):
        return text
    return number / 100 if text.strip().endswith("%") else number


def read_max_bad(text: str | None, data: str | None) -> float | None:
    """Return the share that --max-bad allows for the images of --data; None for the usual one.

    Raises:
        UsageError: it is no share, or there is no --data.
    """
    if text is None:
        return None
    if data is None:
        raise UsageError("--max-bad goes with --data: the images that a bundle records can all be used.")
    share = share_or_text(text)
    if isinstance(share, str) or not 0 <= share <= 1:
        raise UsageError(f"--max-bad is {text!r}; it must be a share from 0 to 1, such as 0.01 or 1%.")
    return share


def not_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None; the callee has defaults for the others."""
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlags:
    """The images, the teacher, the classes and the student."""

    data: Annotated[
        str | None,
        flag(
            "--data",
            "SRC",
            "Image folder (class folders, or train/ val/ test/), npz:FILE, table:FILE, parquet:FILE, wds:SHARDS, "
            "hf:OWNER/NAME, torchvision:NAME:DIR, fashion-mnist[:DIR], cifar10:DIR, cifar100:DIR, embedded:digits.",
        ),
        Setting("data.source"),
    ] = None
    unlabelled: Annotated[
        str | None,
        flag("--unlabelled", "SRC", "Images without labels for training: a folder of any depth, or as --data."),
        Setting("data.unlabelled"),
    ] = None
    teacher: Annotated[
        list[str] | None,
        flag(
            "--teacher",
            "NAME",
            "timm:NAME, torchvision:NAME[:WEIGHTS], transformers:OWNER/NAME, a folder of timm or transformers, "
            "python:MODULE:FUNCTION with --allow-code, or embedded:glyphs100. Given again: more teachers beside it.",
        ),
        Setting("teacher.name", lambda names: names[0]),
        Setting("teacher.beside", lambda names: names[1:]),
    ] = None
    teacher_weights: Annotated[
        str | None, flag("--teacher-weights", "FILE", "safetensors or a plain state dict."), Setting("teacher.weights")
    ] = None
    teacher_classes: Annotated[
        str | None, flag("--teacher-classes", "FILE", "One label a line, in output order."), Setting("teacher.classes")
    ] = None
    teacher_pixels: Annotated[
        str | None,
        flag("--teacher-pixels", "P", "imagenet, -1..1, 0..1, 0..255 or caffe, or bgr: and one of them."),
        Setting("teacher.pixels"),
    ] = None
    allow_code: AllowCode = None
    classes: Annotated[
        str | None,
        flag("--classes", "A,B,C", "The subtask: the teacher's classes; a class of several is cat=tabby|tiger cat."),
        Setting("subtask.classes", split_names),
    ] = None
    subtask: Annotated[
        str | None,
        flag("--subtask", "NAME", "A named subtask, such as imagenet/bird; `edgedistill subtasks` lists them."),
        Setting("subtask.name"),
    ] = None
    rest: Annotated[
        bool | None,
        typer.Option(
            "--rest/--no-rest",
            help='One more class, "something else": folders of --data of the teacher\'s other classes.',
            show_default=False,
        ),
        Setting("subtask.rest"),
    ] = None
    student: Annotated[
        str | None,
        flag("--student", "NAME", "timm:NAME, or teacher:0.5, the teacher with half of its channels."),
        Setting("student.name"),
    ] = None
    student_width: Annotated[
        float | None, flag("--student-width", "X", "Factor on its channels."), Setting("student.width")
    ] = None
    student_weights: Annotated[
        str | None,
        flag("--student-weights", "W", "What it starts from: auto, pretrained, none, a file or a folder of timm."),
        Setting("student.weights"),
    ] = None
    student_channels: Annotated[
        str | None,
        flag("--student-channels", "BY", "Which channels teacher:X keeps: by relevance, taylor, magnitude, random."),
        Setting("student.channels"),
    ] = None
    image_size: Annotated[
        int | None, flag("--image-size", "N", "Side of the images, in pixels."), Setting("data.image_size")
    ] = None
    max_bad: Annotated[
        str | None,
        flag("--max-bad", "X%", "Share of pictures that cannot be used and are left out; 10% by default."),
        Setting("data.max_bad", share_or_text),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFlags:
    """The number of training steps, and their size."""

    epochs: Annotated[
        str | None,
        flag("--epochs", "N|auto", "Passes over the training images; auto suits what the student starts from."),
        Setting("distill.epochs", count_or_text),
    ] = None
    batch_size: Annotated[
        int | None, flag("--batch-size", "N", "Images a training step."), Setting("distill.batch_size")
    ] = None
    lr: Annotated[
        str | None,
        flag("--lr", "X|auto", "Peak learning rate; auto suits what the student starts from."),
        Setting("distill.learning_rate", number_or_text),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFlags:
    """How SubDistill trains. `preset` names several settings at once; every other source overrides them."""

    lambda_layer: Annotated[
        str | None,
        flag("--lambda-layer", "X|auto", "Weight of the layer losses; auto chooses it by short runs."),
        Setting("distill.lambda_layer", number_or_text),
    ] = None
    preset: Annotated[
        str | None, flag("--preset", "NAME", "Named training settings, under all others: paper, patient or labels.")
    ] = None
    pairs: Annotated[
        str | None,
        flag("--pairs", "T=S,...", "Layers to match, teacher=student; found automatically by default."),
        Setting("student.pairs", split_names),
    ] = None
    teacher_cache: Annotated[
        str | None,
        flag("--teacher-cache", "off|auto|N", "Keep the teacher's answers for N views of each image on disk."),
        Setting("distill.teacher_cache"),
    ] = None
    mixed_precision: Annotated[
        str | None,
        flag("--mixed-precision", "auto|no|bf16|fp16", "Of the networks in training."),
        Setting("distill.mixed_precision"),
    ] = None
    ema: Annotated[
        float | None, flag("--ema", "X", "Decay of the student's moving average, such as 0.99."), Setting("distill.ema")
    ] = None
    mixup: Annotated[
        float | None,
        flag("--mixup", "X", "Mix each image with another: 1 in all proportions alike, 0.2 mostly one; 0 is off."),
        Setting("distill.mixup"),
    ] = None
    batch_norm: Annotated[
        str | None,
        flag("--batch-norm", "MODE", "Running means and variances of batch normalisation: auto, update or frozen."),
        Setting("distill.batch_norm"),
    ] = None
    assistant: Annotated[
        str | None,
        flag(
            "--assistant",
            "auto|NAME[@W]|none",
            "A student in between, trained first, that teaches the student; auto chooses one, or none, by short runs.",
        ),
        Setting("student.assistant"),
    ] = None
    early_stopping: Annotated[
        int | None,
        flag("--early-stopping", "N", "Stop after N epochs without a better validation."),
        Setting("distill.early_stopping"),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlags:
    """The machine, the seed, and the requirements on the expert."""

    augment: Annotated[
        str | None,
        flag("--augment", "NAME", "none, crop, crop-flip, resized-crop or resized-crop-flip."),
        Setting("distill.augment"),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", metavar="N"), Setting("distill.seed")] = None
    workers: Workers = None
    compute: Annotated[
        str | None, flag("--compute", "auto|cpu|cuda|mps", "Where training runs."), Setting("distill.compute")
    ] = None
    reject: Reject = None
    teacher_licence: TeacherLicence = None
    data_licence: DataLicence = None
    max_drop: MaxDrop = None
    max_class_drop: MaxClassDrop = None
    min_agreement: MinAgreement = None
    allow_class: AllowClass = None
    confidence: Confidence = None
