"""The cells of the grid: which subtask, which teacher and student, how many training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.real.animals import CUT_OUTS
from edgedistill.comparison import ComparisonPlan, Task, named_methods
from edgedistill.comparison.methods import AS_IS, LABELS, LOGITS, PATIENT, REFERENCE, Methods
from edgedistill.comparison.methods import METHODS as METHODS_OF_COMPARE
from edgedistill.models.names import STARTS
from edgedistill.models.student_names import CHANNEL_CHOICES
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.json_text import read_json

# The other layer losses are the two that came nearest to SubDistill on the small tasks.
METHODS = (REFERENCE, AS_IS, LABELS, LOGITS, PATIENT, "similarity", "vid", "subdistill-pca", "subdistill-random")
# What a user with true labels can add to the teacher's answers.
WITH_LABELS: Methods = {
    "subdistill-labels": {**METHODS_OF_COMPARE[REFERENCE], "lambda_task": 1.0},
    "logits-labels": {**METHODS_OF_COMPARE[LOGITS], "lambda_task": 1.0},
}
LAMBDAS = (1.0, 10.0)
SEEDS = 3
IMAGE_SIZE = 128
SETTINGS: Mapping[str, Any] = {
    "batch_size": 32,
    "temperature": 4.0,
    "compute": "cpu",
    "augment": "crop-flip",
    "channels_last": True,
    "teacher_cache": "4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A teacher, and a student with what it starts from: a folder of `prepare`, `none`, or `auto`.

    `channels` says by what those of a shrunk teacher are chosen.
    """

    teacher: str
    student: str
    weights: str
    epochs: int
    channels: str = ""
    methods: tuple[str, ...] = METHODS


PAIRS: Mapping[str, Pair] = {
    "lite0-under-lite2": Pair(teacher="lite2", student="timm:tf_efficientnet_lite0", weights="lite0", epochs=6),
    "mobilenet-under-lite0": Pair(
        teacher="lite0", student="timm:mobilenetv4_conv_small_050", weights="none", epochs=25
    ),
    "resnet-under-lite0": Pair(teacher="lite0", student="timm:resnet10t", weights="none", epochs=25),
}


# The teacher with half of its channels, which are chosen in four ways, and the same network from nothing. They are no
# part of the table: each is run when it is named.
SHRUNK_PAIRS: Mapping[str, Pair] = {
    **{
        f"half-lite0-{by}": Pair(
            teacher="lite0", student="teacher:0.5", weights="auto", epochs=4, channels=by, methods=(REFERENCE, AS_IS)
        )
        for by in CHANNEL_CHOICES
    },
    "half-lite0-nothing": Pair(
        teacher="lite0", student="teacher:0.5", weights="none", epochs=4, methods=(REFERENCE, AS_IS)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One comparison of the grid. `count` None takes all training images."""

    subtask: str
    pair: str
    count: int | None

    @property
    def name(self) -> str:
        """The cell's folder, such as `animals-lite0-under-lite2-300`."""
        return f"{self.subtask}-{self.pair}-{self.count or 'all'}"

    @property
    def is_labelled(self) -> bool:
        """Whether the labels are true; else the teacher gave them, and accuracy is agreement with it."""
        return self.subtask == "animals"


# In the order of what matters most: the first two are required.
CELLS = (
    Cell(subtask="animals", pair="lite0-under-lite2", count=300),
    Cell(subtask="animals", pair="mobilenet-under-lite0", count=300),
    Cell(subtask="animals", pair="lite0-under-lite2", count=100),
    Cell(subtask="animals", pair="mobilenet-under-lite0", count=100),
    Cell(subtask="animals", pair="lite0-under-lite2", count=1000),
    Cell(subtask="animals", pair="mobilenet-under-lite0", count=1000),
    Cell(subtask="landscapes", pair="lite0-under-lite2", count=None),
    Cell(subtask="animals", pair="resnet-under-lite0", count=300),
)
SHRUNK_CELLS = tuple(Cell(subtask="animals", pair=pair, count=300) for pair in SHRUNK_PAIRS)


def find_cell(name: str) -> Cell:
    """Look a cell up by its name.

    Raises:
        UsageError: there is none of this name.
    """
    for cell in (*CELLS, *SHRUNK_CELLS):
        if cell.name == name:
            return cell
    raise UsageError(f"There is no cell {name!r}; there are {', '.join(each.name for each in CELLS)}.")


def plan_of(
    cell: Cell,
    data: Path,
    *,
    seeds: int = SEEDS,
    epochs: int | None = None,
    count: int | None = None,
    lambdas: tuple[float, ...] = LAMBDAS,
) -> ComparisonPlan:
    """Plan a cell on the folder that `prepare` filled; `epochs` and `count` replace the cell's, for a trial.

    Raises:
        UsageError: `prepare` has not made what the cell needs.
    """
    pair = {**PAIRS, **SHRUNK_PAIRS}[cell.pair]
    needed = [data / cell.subtask / "division.json", data / pair.teacher / "model.safetensors"]
    for path in needed:
        if not path.is_file():
            raise UsageError(f"There is no {path}; `python -m benchmarks.real.prepare {data}` makes it.")
    task = Task(
        name=cell.subtask,
        teacher=str(data / pair.teacher),
        source=str(data / cell.subtask),
        classes=_classes(cell, data),
        student=pair.student,
        student_weights=pair.weights if pair.weights in STARTS else str(data / pair.weights),
        student_channels=pair.channels,
        settings={**SETTINGS, "epochs": epochs or pair.epochs},
        image_size=IMAGE_SIZE,
    )
    return ComparisonPlan(
        tasks=(task,),
        methods={
            **named_methods(pair.methods),
            **(WITH_LABELS if pair.methods == METHODS and cell.is_labelled else {}),
        },
        sizes=(count or cell.count,),
        seeds=tuple(range(seeds)),
        lambdas=lambdas,
    )


def _classes(cell: Cell, data: Path) -> tuple[str, ...]:
    if cell.subtask == "animals":
        return tuple(CUT_OUTS)
    return tuple(read_json(data / cell.subtask / "division.json")["classes"])
