"""Data sets as torchvision lays them out on the disk, read through its own classes. Nothing is downloaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError, MissingDependencyError, UsageError, nearest_names
from edgedistill_deploy.images.arrays import build_array_images
from edgedistill_deploy.images.encoded.paths import pack_files
from edgedistill_deploy.images.encoded.sets import build_encoded_images
from edgedistill_deploy.images.sets import ImageSet, ImageSplits

SCHEME = "torchvision:"
_BY_FLAG: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: Mapping[str, Mapping[str, Any]] = {**_TWO, "validation": {"split": "val"}}
# {class of torchvision: {our split: what the class is called with}}
_KINDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "MNIST": _BY_FLAG,
    "FashionMNIST": _BY_FLAG,
    "KMNIST": _BY_FLAG,
    "Food101": _TWO,
    "GTSRB": _TWO,
    "SVHN": _TWO,
    "STL10": _TWO,
    "Flowers102": _THREE,
    "DTD": _THREE,
    "FGVCAircraft": _THREE,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "Imagenette": {"train": {"split": "train"}, "validation": {"split": "val"}},
    "Caltech101": {"train": {}},
    "EuroSAT": {"train": {}},
    "SUN397": {"train": {}},
}
_OF_PICKLES = {"CIFAR10": "cifar10:DIR", "CIFAR100": "cifar100:DIR"}
_IMAGENETTE_SIZES = {"imagenette2": "full", "imagenette2-320": "320px", "imagenette2-160": "160px"}


def check_torchvision(source: str) -> tuple[str, Path]:
    """Return the name of the data set and the folder in "torchvision:NAME:DIR", without loading torchvision.

    Raises UsageError for a name that is not offered, and where there is no such folder.
    """
    name, colon, folder = source.removeprefix(SCHEME).partition(":")
    if name in _OF_PICKLES:
        raise UsageError(
            f"torchvision reads {name} from pickles, and reading one runs whatever code is in it; unpack the binary "
            f"version, and name {_OF_PICKLES[name]}."
        )
    if name not in _KINDS:
        raise UsageError(f"There is no source {SCHEME}{name}.{nearest_names(name, _KINDS)}")
    if not colon or not folder:
        raise UsageError(
            f"{source} names no folder; write {SCHEME}{name}:DIR, with the folder that torchvision filled."
        )
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UsageError(f"There is no folder {path}. {_how_to_fetch(name, path)}")
    return name, path


def open_torchvision(source: str) -> ImageSplits:
    """Open "torchvision:NAME:DIR" with all splits that torchvision knows. A set without splits is all `train`.

    Raises UsageError as `check_torchvision` does, DataError where the folder does not hold the data set.
    """
    name, folder = check_torchvision(source)
    found = {split: _load(name, folder, dict(given)) for split, given in _KINDS[name].items()}
    own = {split: _class_names(name, each) for split, each in found.items()}
    class_names = tuple(dict.fromkeys(each for names in own.values() for each in names))
    sets = {split: _build(each, own[split], class_names, f"{name} {split}") for split, each in found.items()}
    return ImageSplits(
        class_names=class_names, train=sets["train"], validation=sets.get("validation"), test=sets.get("test")
    )


def absolute_torchvision(source: str) -> str:
    """Return the source with its folder made absolute."""
    name, colon, folder = source.removeprefix(SCHEME).partition(":")
    return f"{SCHEME}{name}:{Path(folder).expanduser().absolute()}" if colon and folder else source


@dataclass(frozen=True, slots=True)
class _Split:
    """What torchvision found: image files, or pixels (N, H, W) or (N, H, W, 3); labels; and class names, if any."""

    files: Sequence[Path]
    pixels: Any
    labels: Sequence[int]
    class_names: Sequence[Any]


def _load(name: str, folder: Path, given: dict[str, Any]) -> _Split:
    from torchvision import datasets

    if name == "Imagenette":
        given["size"] = next((size for sub, size in _IMAGENETTE_SIZES.items() if (folder / sub).is_dir()), "full")
    try:
        if name == "Caltech101" and not (folder / "caltech101").is_dir():  # torchvision would make this folder
            raise RuntimeError("there is no folder caltech101")
        return _take_apart(getattr(datasets, name)(str(folder), download=False, **given))
    except ImportError as error:
        raise MissingDependencyError("scipy", "compare", f"Reading {name}") from error
    except (RuntimeError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        what = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise DataError(
            f"{folder} does not hold {name} as torchvision lays it out ({what[:200]}). {_how_to_fetch(name, folder)}"
        ) from error


def _take_apart(found: Any) -> _Split:
    """Find files or pixels, and labels, under the names that torchvision's classes give them."""
    names = getattr(found, "classes", None) or getattr(found, "categories", None) or ()
    if hasattr(found, "index") and hasattr(found, "y"):  # Caltech101 keeps numbers of files
        root = Path(found.root) / "101_ObjectCategories"
        files = [
            root / found.categories[y] / f"image_{number:04d}.jpg"
            for number, y in zip(found.index, found.y, strict=True)
        ]
        return _Split(files, None, found.y, names)
    if hasattr(found, "data"):
        pixels = np.asarray(found.data)
        if pixels.ndim == 4:  # SVHN and STL10 keep the channels first
            pixels = pixels.transpose(0, 2, 3, 1)
        labels = found.targets if hasattr(found, "targets") else found.labels
        return _Split((), pixels, np.asarray(labels).tolist(), names)
    samples = getattr(found, "samples", None) or getattr(found, "_samples", None)
    if samples:
        return _Split([Path(path) for path, _ in samples], None, [label for _, label in samples], names)
    files = getattr(found, "_image_files", None) or found._images
    pairs = sorted(zip(map(Path, files), found._labels, strict=True))  # SUN397 takes them as the disk lists them
    return _Split([path for path, _ in pairs], None, [label for _, label in pairs], names)


def _class_names(name: str, split: _Split) -> tuple[str, ...]:
    """Return torchvision's names for the labels of a split; where it has none, numbers are their own names."""
    named = split.class_names or range(1 + max(split.labels, default=-1))
    first = [str(each[0] if isinstance(each, (tuple, list)) else each) for each in named]  # of Imagenette's synonyms
    digits = [re.fullmatch(r"(\d) - \w+", each) for each in first]  # "0 - zero"
    composed = tuple(compose_name(match[1] if match else each) for match, each in zip(digits, first, strict=True))
    if len(set(composed)) < len(composed):
        raise DataError(f"torchvision names two classes of {name} alike; its version is not known here.")
    return composed


def _build(split: _Split, own_names: Sequence[str], class_names: tuple[str, ...], called: str) -> ImageSet:
    """Return a split as a set. Some of torchvision's classes number the labels of each split on their own."""
    places = np.array([class_names.index(each) for each in own_names], dtype=np.int64)
    labels = places[np.asarray(split.labels, dtype=np.int64)]
    if split.pixels is not None:
        return build_array_images(class_names, labels, split.pixels, called)
    return build_encoded_images(class_names, labels, pack_files((path.parent, path.name) for path in split.files))


def _how_to_fetch(name: str, folder: Path) -> str:
    return f"Fetch it with python -c \"import torchvision; torchvision.datasets.{name}('{folder}', download=True)\"."
