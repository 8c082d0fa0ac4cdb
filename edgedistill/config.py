"""Settings of the training, checked when they are made. No torch, so that refusing them takes no time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgedistill.checks import check_above_zero, check_at_least, check_choice
from edgedistill_deploy.errors import UsageError

SCHEDULES = ("cosine", "step", "constant")
NORMALISATIONS = ("center", "standardize")
ALIGNMENTS = ("learned", "procrustes")
DIRECTION_WEIGHTS = ("variance", "equal", "relevance")
SUBSPACE_METHODS = ("prca", "prca_indefinite", "pca", "gradient", "random", "identity")
# Beside those: `pca` or `prca`, chosen for each layer (`inspection/choosing.py`).
CHOSEN = "auto"
AUGMENTATION_NAMES = ("none", "crop", "crop-flip", "resized-crop", "resized-crop-flip")
COMPUTES = ("auto", "cpu", "cuda", "mps")
LAMBDA_SCHEDULES = ("constant", "rise", "fall")
LAYER_LOSSES = ("subspace", "attention-transfer", "fitnet", "vid", "vkd", "similarity")
# What a training does with the running means and variances of batch normalisation.
UPDATED, FROZEN = "update", "frozen"
MIXED_PRECISIONS = ("auto", "no", "bf16", "fp16")
TUNED = "auto"
# What `learning_rate = "auto"` means for a student that starts from nothing, for one with trained weights, and for one
# that knows the classes already, because its head starts from trained rows.
RATE_FROM_NOTHING = 3e-3
RATE_FROM_TRAINED = 1e-3
RATE_FROM_KNOWN = 1e-4
# The same for `epochs = "auto"`, chosen by `benchmarks.real.schedules` (docs/students.md): more epochs help all but
# those that know the classes.
EPOCHS = 30
EPOCHS_FROM_KNOWN = 6
# The weights among which `lambda_layer = "auto"` chooses, as in the paper.
LAMBDA_GRID = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Chormai et al. 2026, section 5 and their published settings.
    "paper": {
        "epochs": 100,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "schedule": "step",
        "gradient_clip": 0.0,
        "lambda_kd": 1.0,
        "lambda_layer": TUNED,
        "temperature": 4.0,
        "method": "prca",
        "positions": 20,
        "student_normalisation": "center",
        "alignment": "learned",
    },
    # Beyer et al. 2022, "a good teacher is patient and consistent": the teacher sees the student's crops, which is so
    # here in any case, strong crops, images mixed in any proportion, no label, no layer, and a long schedule.
    "patient": {
        "epochs": 300,
        "schedule": "cosine",
        "lambda_kd": 1.0,
        "lambda_layer": 0.0,
        "augment": "resized-crop-flip",
        "mixup": 1.0,
    },
    # No distillation at all: for true labels under a teacher that is often wrong.
    "labels": {"lambda_kd": 0.0, "lambda_layer": 0.0, "lambda_task": 1.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """How a student is trained (Chormai et al. 2026, section 3; `docs/method.md`).

    The defaults are for a student that is trained in tens of epochs; `PRESETS["paper"]` has the paper's settings.

    Attributes:
        epochs: passes over the training images; `auto` is 6 for a student that starts from trained weights which know
            every class, if no channel was removed, and 30 for all others.
        batch_size: images a step.
        learning_rate: peak learning rate of AdamW; `auto` is 0.003 for a student that starts from nothing, 0.001 for
            one that starts from trained weights, and 0.0001 where these know every class and no channel was removed.
        weight_decay: AdamW's.
        schedule: `cosine` (after a linear warm-up), `step` (halved every quarter of the epochs) or `constant`.
        warmup: the share of the steps over which the rate of `cosine` rises to its peak; None: a tenth.
        gradient_clip: largest norm of the gradient; 0: no limit.
        lambda_kd, lambda_layer, lambda_task: weights of the subtask-logit, layer and label terms. `lambda_layer =
            "auto"` chooses a power of ten from 0.001 to 1000 by short runs, judged on validation images.
        lambda_schedule: the layer term's weight over the run: `constant`; `rise`, from 0 over the first fifth of the
            steps; `fall`, to 0 at the last step along half a cosine.
        temperature: T of the logit term.
        layer_loss: subspace (SubDistill), or a rival: attention-transfer, fitnet, vid, vkd, similarity.
        method: which subspace: prca (default), prca_indefinite, pca, gradient, random, identity. `auto` (not in the
            paper) takes pca in layers where the teacher keeps 99 % of its accuracy on validation images, else prca.
        positions: positions drawn from each image's map for the subspaces; 0 uses all.
        student_normalisation: standardize (as in the authors' code) or center (as in the paper) the student's features.
        alignment: how the rotation is found: procrustes (in closed form) or learned.
        direction_weights: weight of each direction in the layer term: its `variance`, as in the paper; `equal` for all;
            or its `relevance`, its eigenvalue under `method`.
        augment: none, crop, crop-flip, resized-crop or resized-crop-flip. Flips suit photographs, not characters.
        mixup: each training image is mixed with another one, pixel by pixel; the proportion is drawn from Beta(mixup,
            mixup), so 1 makes all proportions equally likely. The teacher is shown the mixture. None or 0: off.
        seed: fixes initialisation, image order, augmentation and drawn positions.
        workers: processes that decode images; `auto` suits the machine and the images.
        compute: where training runs: auto, cpu, cuda or mps.
        teacher_cache: `off` runs the teacher at every step; a number stores its targets for so many augmented views of
            each image on disk; `auto` stores 4 views when they fit (`docs/method.md`).
        batch_norm: whether the running means and variances of batch normalisation follow the training images: `update`,
            or `frozen`, which keeps the student's own. None, as `auto`: frozen for a student that starts from trained
            weights and is no shrunk teacher, because few images know less of them than the many that trained it; else
            update.
        mixed_precision: no, bf16 or fp16 (CUDA alone) for the networks; losses stay in single precision. `auto` is bf16
            on a CUDA GPU that computes in it itself, else no.
        channels_last: keep images and convolutions in channels-last order, which is faster on recent GPUs. `auto` does
            so on CUDA alone.
        compile_student: compile the student's training step with torch.compile.
        ema: decay per step of a moving average of the student's weights, which is validated and kept; 0 is off.
        early_stopping: stop after so many epochs without a better validation accuracy; 0 never does.
        tensorboard: also write the metrics as TensorBoard events.
    """

    epochs: int | Literal["auto"] = "auto"
    batch_size: int = 64
    learning_rate: float | Literal["auto"] = "auto"
    weight_decay: float = 1e-3
    schedule: str = "cosine"
    warmup: float | None = None
    gradient_clip: float = 1.0
    lambda_kd: float = 1.0
    lambda_layer: float | Literal["auto"] = 1.0
    lambda_task: float = 0.0
    lambda_schedule: str = "constant"
    temperature: float = 4.0
    layer_loss: str = "subspace"
    method: str = "prca"
    positions: int = 20
    student_normalisation: str = "standardize"
    alignment: str = "procrustes"
    direction_weights: str = "variance"
    augment: str = "crop-flip"
    mixup: float | None = None
    seed: int = 0
    workers: int | Literal["auto"] = "auto"
    compute: str = "auto"
    teacher_cache: str = "off"
    batch_norm: str | None = None
    mixed_precision: str = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile_student: bool = False
    ema: float = 0.0
    early_stopping: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.epochs, str):
            check_choice("epochs", self.epochs, ("auto",))
        else:
            check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 1)
        for key in ("positions", "seed", "early_stopping"):
            check_at_least(key, getattr(self, key), 0)
        check_workers(self.workers)
        _check_rate(self.learning_rate)
        check_above_zero("temperature", self.temperature)
        for key in ("weight_decay", "gradient_clip", "lambda_kd", "lambda_task"):
            check_at_least(key, getattr(self, key), 0)
        if self.mixup is not None:
            check_at_least("mixup", self.mixup, 0)
        if self.warmup is not None and not 0 <= self.warmup < 1:
            raise UsageError(
                f"warmup is a share of the steps, at least 0 and below 1, such as 0.1, and {self.warmup} was given."
            )
        if self.batch_norm is not None:
            check_choice("batch_norm", self.batch_norm, ("auto", UPDATED, FROZEN))
        _check_lambda(self.lambda_layer)
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema must be a number from 0 to below 1, such as 0.999, and {self.ema} was given.")
        read_view_count(self.teacher_cache)
        check_choice("lambda_schedule", self.lambda_schedule, LAMBDA_SCHEDULES)
        check_choice("layer_loss", self.layer_loss, LAYER_LOSSES)
        check_choice("mixed_precision", self.mixed_precision, MIXED_PRECISIONS)
        if isinstance(self.channels_last, str):
            check_choice("channels_last", self.channels_last, ("auto",))
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("method", self.method, (*SUBSPACE_METHODS, CHOSEN))
        check_choice("student_normalisation", self.student_normalisation, NORMALISATIONS)
        check_choice("alignment", self.alignment, ALIGNMENTS)
        check_choice("direction_weights", self.direction_weights, DIRECTION_WEIGHTS)
        check_choice("augment", self.augment, AUGMENTATION_NAMES)
        check_choice("compute", self.compute, COMPUTES)
        if not (self.lambda_kd or self.lambda_layer or self.lambda_task):
            raise UsageError(
                "lambda_kd, lambda_layer and lambda_task are all 0, which leaves nothing to learn from; set one above "
                "0."
            )

    def for_start(self, *, is_trained: bool, knows_classes: bool = False, is_shrunk: bool = False) -> "DistillConfig":
        """Return the settings for a student that starts from trained weights, or from nothing.

        The statistics of a shrunk teacher are those of a network with more channels, and must follow the images.
        """
        rate, epochs = RATE_FROM_TRAINED if is_trained else RATE_FROM_NOTHING, EPOCHS
        if knows_classes and not is_shrunk:
            rate, epochs = RATE_FROM_KNOWN, EPOCHS_FROM_KNOWN
        given = None if self.batch_norm == "auto" else self.batch_norm
        return replace(
            self,
            epochs=epochs if self.epochs == "auto" else self.epochs,
            learning_rate=rate if self.learning_rate == "auto" else self.learning_rate,
            batch_norm=given or (FROZEN if is_trained and not is_shrunk else None),
        )

    def require_labels(self, labelled_count: int) -> None:
        """Raise UsageError where the labels have a weight and no training image has one."""
        if self.lambda_task and not labelled_count:
            raise UsageError(
                f"lambda_task = {self.lambda_task:g} is the weight of the labels, and no training image has a label. "
                "Give images in class folders, or leave lambda_task at 0: the other terms need no label."
            )

    def for_device(self, *, mixed_precision: str, channels_last: bool) -> "DistillConfig":
        """Return the settings with these formats where they are left to the device."""
        return replace(
            self,
            mixed_precision=mixed_precision if self.mixed_precision == "auto" else self.mixed_precision,
            channels_last=channels_last if self.channels_last == "auto" else self.channels_last,
        )

    def for_any_device(self) -> "DistillConfig":
        """Return the settings as they are for keys: what is left to the device is as on a CPU, wherever it runs."""
        return self.for_device(mixed_precision="no", channels_last=False)

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide the result of a training, for keys; `workers` and `compute` do not.

        What is None does not count, so that a new setting leaves what an earlier version made valid.
        """
        settings = asdict(replace(self.for_any_device(), workers=0, compute="auto"))
        return {key: value for key, value in settings.items() if value is not None}

    @property
    def peak_rate(self) -> float:
        """The peak learning rate as a number; what is `auto` is that of a student that starts from nothing."""
        return float(self.for_start(is_trained=False).learning_rate)

    @property
    def epoch_count(self) -> int:
        """The epochs as a number; what is `auto` is that of a student that starts from nothing."""
        return int(self.for_start(is_trained=False).epochs)


def _check_rate(value: float | str) -> None:
    if isinstance(value, str):
        check_choice("learning_rate", value, ("auto",))
    else:
        check_above_zero("learning_rate", value)


def check_workers(value: int | str) -> None:
    """Refuse what is no number of processes, and not `auto`."""
    if isinstance(value, str):
        check_choice("workers", value, ("auto",))
    else:
        check_at_least("workers", value, 0)


def _check_lambda(value: float | str) -> None:
    if isinstance(value, str):
        check_choice("lambda_layer", value, (TUNED,))
    else:
        check_at_least("lambda_layer", value, 0)


def read_view_count(teacher_cache: str) -> int | None:
    """Return how many views an explicit setting asks for (0 for `off`); None for `auto`.

    Raises:
        UsageError: the text is not `off`, `auto` or a whole number above 0.
    """
    if teacher_cache == "auto":
        return None
    if teacher_cache == "off":
        return 0
    if not (teacher_cache.isascii() and teacher_cache.isdigit() and int(teacher_cache) > 0):
        raise UsageError(
            f"teacher_cache must be off, auto or a number of views such as 4, and {teacher_cache!r} was given."
        )
    return int(teacher_cache)
