"""Eight animals: cut-out photographs before crops of photographs, divided so that a test is a test.

A class with several cut-outs has one of its own in the test images that no training image shows. A class with one
cut-out shows the same animal everywhere, at another place, size and angle, before other backgrounds: `division.json`
names these classes. Backgrounds are divided always. Validation images have the cut-outs of the training images.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.real.pictures import LANDSCAPES, OTHERS, SPLITS, divide, find_photographs, open_cut_out, open_photograph
from edgedistill_deploy.files.writing import write_json

# ImageNet's name of each class, and its cut-outs; the last of several is for the test images.
CUT_OUTS: Mapping[str, tuple[str, ...]] = {
    "lion": ("mammals/cats/lion", "mammals/cats/lion-2"),
    "tiger": ("mammals/cats/tiger_sumatran", "mammals/cats/tiger"),
    "hog": ("mammals/pig", "mammals/pig_golden", "mammals/pig_golden2"),
    "brown bear": ("mammals/bears/bear", "mammals/bears/european-bear"),
    "hen": ("birds/chicken_profile", "birds/hen"),
    "drake": ("birds/drake", "birds/duck"),
    "zebra": ("mammals/equines/zebra",),
    "hippopotamus": ("mammals/hippopotamus",),
}
COUNTS: Mapping[str, int] = {"train": 126, "val": 25, "test": 50}  # images a class
SMALL_COUNTS: Mapping[str, int] = {"train": 38, "val": 12, "test": 100}
# Settings are chosen on a small set whose training and test cut-outs are exchanged; its draws are others too.
EXCHANGED_COUNTS: Mapping[str, int] = {"train": 38, "val": 12, "test": 50}
EXCHANGED_SEED = 7
SIDE = 256
# Of the image's side: how far an animal may reach out of the image.
OUTSIDE = 0.08


# An animal's longer side as shares of the image's, and its largest tilt in degrees.
LENGTHS = (0.45, 0.95)
TILT = 15.0

Generator = np.random.Generator


def make_animals(
    folder: Path, packages: Path, counts: Mapping[str, int] = COUNTS, *, seed: int = 0, exchanged: bool = False
) -> Path:
    """Write train/, val/ and test/ with a folder a class, and `division.json`; a finished folder stays as it is.

    `exchanged` gives the test images' cut-outs to training and validation, and theirs to the test images.
    """
    if (folder / "division.json").is_file():
        return folder
    files = find_photographs(packages)
    landscapes, others = divide(LANDSCAPES), divide(OTHERS)
    backgrounds = {split: (*landscapes[split], *others[split]) for split in SPLITS}
    for place, split in enumerate(SPLITS):
        opened = [open_photograph(files[name]) for name in backgrounds[split]]
        for label, name in enumerate(CUT_OUTS):
            cut_outs = [open_cut_out(each, packages) for each in cut_outs_of(name, split, exchanged=exchanged)]
            for index in range(counts[split]):
                generator = np.random.default_rng((seed, place, label, index))
                background = opened[int(generator.integers(len(opened)))]
                image = compose(cut_outs[index % len(cut_outs)], background, generator)
                path = folder / split / name / f"{name.replace(' ', '-')}-{index:04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, quality=int(generator.integers(75, 95)))
    shutil.rmtree(folder / "division.json", ignore_errors=True)
    write_json(folder / "division.json", describe(backgrounds, counts, exchanged=exchanged))
    return folder


def cut_outs_of(name: str, split: str, *, exchanged: bool = False) -> tuple[str, ...]:
    """Return the cut-outs of a class that a split shows."""
    own = CUT_OUTS[name]
    if len(own) == 1:
        return own
    return own[-1:] if (split == "test") != exchanged else own[:-1]


def describe(
    backgrounds: Mapping[str, tuple[str, ...]], counts: Mapping[str, int], *, exchanged: bool = False
) -> dict[str, object]:
    """Return what each split shows, and which classes show the same cut-out in all of them."""
    return {
        "images_a_class": dict(counts),
        "cut_outs": {
            split: {name: cut_outs_of(name, split, exchanged=exchanged) for name in CUT_OUTS} for split in SPLITS
        },
        "one_cut_out": [name for name, own in CUT_OUTS.items() if len(own) == 1],
        "backgrounds": dict(backgrounds),
    }


def compose(cut_out: Image.Image, background: Image.Image, generator: Generator) -> Image.Image:
    """Paste a changed cut-out somewhere on a random crop of a background; both have random light."""
    image = _light(crop(background, generator), generator)
    animal = _turn(cut_out, generator)
    lit = _light(animal.convert("RGB"), generator)
    spare = [SIDE - length for length in animal.size]
    reach = OUTSIDE * SIDE
    left, top = (int(generator.uniform(min(-reach, gap / 2), max(gap + reach, gap / 2))) for gap in spare)
    image.paste(lit, (left, top), animal.getchannel("A"))
    return image


def crop(photograph: Image.Image, generator: Generator, shares: tuple[float, float] = (0.3, 0.8)) -> Image.Image:
    """Cut a random square, whose side is such a share of the shorter side, and bring it to `SIDE` pixels."""
    side = round(min(photograph.size) * generator.uniform(*shares))
    left, top = (int(generator.integers(0, length - side + 1)) for length in photograph.size)
    box = (left, top, left + side, top + side)
    return photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)


def _turn(cut_out: Image.Image, generator: Generator) -> Image.Image:
    """Mirror every second animal, tilt it, and bring it to a random size."""
    if generator.random() < 0.5:
        cut_out = cut_out.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = cut_out.rotate(generator.uniform(-TILT, TILT), expand=True, resample=Image.Resampling.BICUBIC)
    turned = turned.crop(turned.getchannel("A").getbbox())
    factor = SIDE * generator.uniform(*LENGTHS) / max(turned.size)
    size = tuple(max(1, round(factor * length)) for length in turned.size)
    return turned.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _light(image: Image.Image, generator: Generator) -> Image.Image:
    for change, low, high in (
        (ImageEnhance.Brightness, 0.7, 1.25),
        (ImageEnhance.Contrast, 0.75, 1.2),
        (ImageEnhance.Color, 0.6, 1.3),
    ):
        image = change(image).enhance(generator.uniform(low, high))
    return image
