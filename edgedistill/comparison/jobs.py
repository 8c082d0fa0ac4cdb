"""The jobs of a comparison: one run each, with the key that identifies its content. No torch."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from edgedistill.comparison.methods import is_untrained
from edgedistill.comparison.plan import ComparisonPlan, Task, TaskFacts, key_of
from edgedistill.config import DistillConfig
from edgedistill.explanation.config import ExplainConfig

# Settings that change where and how fast a run is, but not its result.
_EXECUTION = ("workers", "compute", "tensorboard")
_KEY_SCHEMA = 1
# Settings that existed when keys were first made. A later one is part of a key only where it is not at its default, so
# that earlier keys stay valid. When such a default changes, the schema must be raised.
_FIRST_SETTINGS = frozenset(
    [
        "epochs",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "schedule",
        "gradient_clip",
        "lambda_kd",
        "lambda_layer",
        "lambda_task",
        "lambda_schedule",
        "temperature",
        "layer_loss",
        "method",
        "positions",
        "student_normalisation",
        "alignment",
        "augment",
        "seed",
        "teacher_cache",
        "mixed_precision",
        "channels_last",
        "compile_student",
        "ema",
        "early_stopping",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work: train a student, evaluate a trained one on the test images, or evaluate the teacher.

    To begin a student is to keep it as it starts. Equal keys give equal results. `trained` is the key of the training
    (or the beginning) whose student an evaluation judges, or an explanation explains. `floors` explains what a trained
    student's agreement with the teacher is held against.
    """

    kind: Literal["train", "begin", "evaluate", "teacher", "floors", "explain"]
    key: str
    task: Task
    method: str = ""
    size: int | None = None
    seed: int = 0
    config: DistillConfig = field(default_factory=DistillConfig)
    validation_images: int | None = None
    trained: str = ""
    explain: ExplainConfig | None = None
    work: int = 0

    def describe(self) -> str:
        """Say in a few words which run this is."""
        if self.kind == "teacher":
            return f"{self.task.name}, teacher"
        if self.kind == "floors":
            return f"{self.task.name}, floors of agreement, seed {self.seed}"
        return f"{self.task.name}, {self.method}, {self.size or 'all'} images, seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A run of a method: number of training images (None: all), seed, and the layer term's weight (None: not tuned)."""

    size: int | None
    seed: int
    weight: float | None


def training_job(plan: ComparisonPlan, task: Task, facts: TaskFacts, method: str, variant: Variant) -> Job:
    """Make the job that trains one student. Its `work` is the number of images that pass through the student.

    For a method that trains nothing it only begins the student, which is the same for all variants.
    """
    config = plan.config(task, method, variant.seed, variant.weight)
    untrained = is_untrained(plan.methods[method])
    count = variant.size or facts.train_count
    start = {
        "schema": _KEY_SCHEMA,
        "content": facts.fingerprint,
        "classes": task.classes,
        "student": (task.student, task.student_width),
        **({"start": facts.start} if facts.start else {}),
        "image_size": task.image_size,
    }
    training = {"train_images": count, "settings": deciding_settings(config)}
    return Job(
        kind="begin" if untrained else "train",
        key=key_of({**start, **({"begin": True} if untrained else training)}),
        task=task,
        method=method,
        size=variant.size,
        seed=variant.seed,
        config=config,
        validation_images=plan.validation_images,
        work=0 if untrained else count * config.epoch_count,
    )


def deciding_settings(config: DistillConfig) -> dict[str, Any]:
    """Return the settings that the result of a run depends on, for its key."""
    # What is `auto` for the start of the student is decided by the start, which is in the key by itself.
    given = asdict(replace(config.for_any_device(), learning_rate=config.peak_rate))
    plain = asdict(type(config)().for_any_device())
    return {
        key: value
        for key, value in given.items()
        if key in _FIRST_SETTINGS or (key not in _EXECUTION and value != plain[key])
    }


def evaluation_job(trained: Job) -> Job:
    """Make the job that evaluates the student that `trained` trains."""
    return replace(trained, kind="evaluate", key=key_of({"evaluate": trained.key}), trained=trained.key, work=0)


def teacher_job(task: Task, facts: TaskFacts) -> Job:
    """Make the job that evaluates the teacher on the test images."""
    return Job(kind="teacher", key=key_of({"teacher": facts.fingerprint, "classes": task.classes}), task=task)
