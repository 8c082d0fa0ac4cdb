"""The tasks of the evidence: which teacher, which classes, which student, under which settings."""

from pathlib import Path
from typing import Any

from edgedistill.comparison import Task
from edgedistill.subtasks.named import named_subtask_classes

# Glyphs-100: five characters each, two Latin groups where the teacher errs most, one each of the others' kinds.
GLYPHS = {"lower-f": tuple("fgijq"), "lower-n": tuple("nmrty"), "upper-t": tuple("TUVYZ"), "cyrillic-i": tuple("ийлпф")}
FASHION = {
    "footwear": ("Sandal", "Sneaker", "Ankle boot"),
    "tops": ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"),
}
# Garments with a digit printed on each: the images and the teacher are the same, the subtask is one or the other.
PRINTED = {
    "printed-footwear": FASHION["footwear"],
    "printed-tops": FASHION["tops"],
    "printed-digits": tuple(f"digit {each}" for each in range(5)),
}
IMAGENET = ("wading-bird", "retriever", "working-dog", "domestic-cat", "bag", "bottle", "box", "truck")

# In the checkout, so that a comparison goes on with the same teacher on any machine.
FASHION_TEACHER = str(Path(__file__).parents[1] / "fashion" / "trained")
GLYPHS_STUDENT, FASHION_STUDENT = "plain:32-24-16-8", "plain:16-12-8-8"
# Narrower in the last two stages than the directions of largest variance need to keep what the teacher knows.
NARROW_GLYPHS, NARROW_FASHION = "plain:32-24-8-4", "plain:16-12-4-4"
WIDE_STUDENT, MOBILE_STUDENT = "plain:56-48-40-32", "timm:mobilenetv4_conv_small_035"

# The paper's temperature and batch size. AdamW at 1e-2 with a cosine schedule, because at 3e-3 logits alone reach 73 %
# of tops and 63 % of lower-f on validation images, at 1e-2 77 and 91 %: a rival held back would prove nothing.
SHARED: dict[str, Any] = {"batch_size": 32, "learning_rate": 1e-2, "temperature": 4.0, "compute": "cpu"}
# A third of the time on this kind of processor; tried once against single precision, see RESULTS.md.
HALF: dict[str, Any] = {"channels_last": True, "mixed_precision": "bf16"}


def glyph_tasks(
    source: str, teacher: str, student: str = GLYPHS_STUDENT, epochs: int = 15, only: tuple[str, ...] = ()
) -> tuple[Task, ...]:
    """Make the tasks on Glyphs-100."""
    settings = {**SHARED, **HALF, "epochs": epochs, "augment": "crop", "teacher_cache": "4"}
    return tuple(
        Task(name=name, teacher=teacher, source=source, classes=classes, student=student, settings=settings)
        for name, classes in GLYPHS.items()
        if not only or name in only
    )


def fashion_tasks(
    source: str,
    teacher: str,
    epochs: int = 30,
    only: tuple[str, ...] = (),
    student: str = FASHION_STUDENT,
    prefix: str = "",
) -> tuple[Task, ...]:
    """Make the tasks on Fashion-MNIST, by default with the paper's authors' widths; 30 epochs at 500 images, 20 at
    2000."""
    # Crops and flips cost every method several points in so few steps, on validation images.
    settings = {**SHARED, "epochs": epochs, "augment": "none", "teacher_cache": "1"}
    return tuple(
        Task(
            name=f"{prefix}{name}", teacher=teacher, source=source, classes=classes, student=student, settings=settings
        )
        for name, classes in FASHION.items()
        if not only or name in only
    )


def printed_tasks(
    garments: str, digits: str, teacher: str, epochs: int = 30, only: tuple[str, ...] = ()
) -> tuple[Task, ...]:
    """Make the tasks on garments with a digit printed on; the sources differ in what the images are labelled by."""
    settings = {**SHARED, "epochs": epochs, "augment": "none", "teacher_cache": "1"}
    return tuple(
        Task(
            name=name,
            teacher=teacher,
            source=digits if classes[0].startswith("digit") else garments,
            classes=classes,
            student=FASHION_STUDENT,
            settings=settings,
        )
        for name, classes in PRINTED.items()
        if not only or name in only
    )


def named_tasks(
    source: str, teacher: str, superclasses: tuple[str, ...], student: str, settings: dict[str, Any]
) -> tuple[Task, ...]:
    """Make a task of each superclass that ships with EdgeDistill, such as cifar100/flowers or imagenet/truck."""
    return tuple(
        Task(
            name=name,
            teacher=teacher,
            source=source,
            classes=named_subtask_classes(name),
            student=student,
            settings={**SHARED, **settings},
        )
        for name in superclasses
    )
