"""Landscapes: crops of photographs, named by the teacher, because nobody else has.

ImageNet's geological formations are what wallpapers show. A crop is kept where the teacher's first answer of a thousand
is one of them. So accuracy here is agreement with the teacher, and is called so.

There are too few photographs to keep whole ones for the test: no formation would be in every split. So each photograph
is cut into three upright parts, and a crop lies in one of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.real.animals import crop
from benchmarks.real.pictures import LANDSCAPES, SPLITS, find_photographs, open_photograph
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.images.preprocess import Preprocess

FORMATIONS = (
    "alp",
    "cliff",
    "coral reef",
    "geyser",
    "lakeside",
    "promontory",
    "sandbar",
    "seashore",
    "valley",
    "volcano",
)
# The part of each photograph's width, from the left, that a split shows.
PARTS: Mapping[str, tuple[float, float]] = {"train": (0.0, 0.5), "val": (0.5, 0.7), "test": (0.7, 1.0)}
# Crops of each photograph of a split, and how many kept ones a class needs in each split to be used.
CROPS: Mapping[str, int] = {"train": 60, "val": 30, "test": 50}
NEEDED: Mapping[str, int] = {"train": 20, "val": 5, "test": 10}
MOST: Mapping[str, int] = {"train": 120, "val": 25, "test": 50}  # images a class


def make_landscapes(folder: Path, packages: Path, teacher: Teacher, *, seed: int = 0) -> Path:
    """Write train/, val/ and test/ with a folder a class, and `division.json`; a finished folder stays as it is."""
    if (folder / "division.json").is_file():
        return folder
    files = find_photographs(packages)
    photographs = [open_photograph(files[name]) for name in LANDSCAPES]
    named = {
        split: [
            each
            for place, photograph in enumerate(photographs)
            for each in _name_crops(teacher, part_of(photograph, split), CROPS[split], (seed, part, place))
        ]
        for part, split in enumerate(SPLITS)
    }
    counts = {split: Counter(name for name, _ in crops) for split, crops in named.items()}
    used = [name for name in FORMATIONS if all(counts[split][name] >= NEEDED[split] for split in SPLITS)]
    for split, crops in named.items():
        for name in used:
            own = [image for label, image in crops if label == name]
            _write(folder / split / name, own[:: max(1, len(own) // MOST[split])][: MOST[split]])
    left_out = {name: {split: counts[split][name] for split in SPLITS} for name in FORMATIONS if name not in used}
    write_json(
        folder / "division.json",
        {"named_by": teacher.name.rsplit("/", 1)[-1], "classes": used, "left_out": left_out, "parts": dict(PARTS)},
    )
    return folder


def part_of(photograph: Image.Image, split: str) -> Image.Image:
    """Return the upright part of a photograph that a split shows."""
    left, right = (round(share * photograph.width) for share in PARTS[split])
    return photograph.crop((left, 0, right, photograph.height))


def _name_crops(
    teacher: Teacher, photograph: Image.Image, count: int, seed: tuple[int, int, int]
) -> list[tuple[str, Image.Image]]:
    """Cut crops, and return those that the teacher calls a formation, each with its name."""
    generator = np.random.default_rng(seed)
    crops = [crop(photograph, generator, shares=(0.5, 1.0)) for _ in range(count)]
    names = dict(zip(teacher.subtask(FORMATIONS).class_indices, FORMATIONS, strict=True))
    answers = _answers(teacher, crops)
    return [(names[answer], image) for answer, image in zip(answers, crops, strict=True) if answer in names]


def _answers(teacher: Teacher, crops: Sequence[Image.Image], batch: int = 32) -> list[int]:
    preprocess: Preprocess = teacher.preprocess
    normalise, found = teacher.normalise(), []
    teacher.model.eval()
    with torch.no_grad():
        for first in range(0, len(crops), batch):
            pixels = np.stack([preprocess.apply(each) for each in crops[first : first + batch]])
            found.extend(teacher.model(normalise(torch.from_numpy(pixels))).argmax(dim=1).tolist())
    return found


def _write(folder: Path, images: Sequence[Image.Image]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        image.save(folder / f"{folder.name.replace(' ', '-')}-{index:04d}.jpg", quality=92)
