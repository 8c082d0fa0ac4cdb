"""CIFAR-100 from the files of its binary version."""

from pathlib import Path

import numpy as np

from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError, UsageError, reading
from edgedistill_deploy.images.arrays import ArrayImages, build_array_images
from edgedistill_deploy.images.sets import ImageSplits

MAX_BYTES = 1 << 30  # seven times the training file
_SIDE = 32
_LABEL_BYTES = 2  # the superclass's number, then the class's
_RECORD_BYTES = _LABEL_BYTES + 3 * _SIDE * _SIDE
_UNPACKED = "cifar-100-binary"  # what the archive unpacks to
_PICKLES = ("train", "test", "meta")
_ARCHIVE = "cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html"


def open_cifar100(folder: Path) -> ImageSplits:
    """Read train.bin, test.bin and fine_label_names.txt from the unpacked binary archive, or from the folder above it.

    Classes are the hundred fine ones, as fine_label_names.txt spells them ("aquarium_fish"); images are 32x32 RGB.

    Raises UsageError when there is no such folder. Raises DataError for the python version, whose files are pickles,
    and for a file that is missing, cut off or holds a label without a name.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder} with CIFAR-100; unpack {_ARCHIVE}.")
    if (folder / _UNPACKED).is_dir():
        folder = folder / _UNPACKED
    _refuse_pickles(folder)
    names = _read_names(folder / "fine_label_names.txt")
    return ImageSplits(
        class_names=names, train=_read_split(folder / "train.bin", names), test=_read_split(folder / "test.bin", names)
    )


def _refuse_pickles(folder: Path) -> None:
    if not (folder / "train.bin").is_file() and all((folder / name).is_file() for name in _PICKLES):
        raise DataError(
            f"{folder} holds the python version of CIFAR-100, whose files are pickles: reading one runs whatever code "
            f"is in it. Take the binary version, {_ARCHIVE}."
        )


def _read_names(path: Path) -> tuple[str, ...]:
    text = _read_bytes(path).decode("utf-8", errors="replace")
    names = tuple(compose_name(line.strip()) for line in text.splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path} must name each class once, one a line; it has {len(names)} lines with text.")
    return names


def _read_split(path: Path, names: tuple[str, ...]) -> ArrayImages:
    content = _read_bytes(path)
    if not content or len(content) % _RECORD_BYTES:
        raise DataError(
            f"{path} has {len(content)} bytes; CIFAR-100's binary files hold whole records of {_RECORD_BYTES} bytes, "
            f"so it is cut off or another file. Unpack {_ARCHIVE} again."
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD_BYTES)
    labels = records[:, _LABEL_BYTES - 1]
    if labels.max() >= len(names):
        raise DataError(
            f"{path} holds the class {labels.max()}, and fine_label_names.txt names {len(names)} classes; is it the "
            "file of CIFAR-100?"
        )
    planes = records[:, _LABEL_BYTES:].reshape(-1, 3, _SIDE, _SIDE)
    return build_array_images(names, labels, planes.transpose(0, 2, 3, 1), f"cifar100 {path.name}")


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path.parent} lacks {path.name}; unpack {_ARCHIVE}.")
    with reading(path):
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes, more than the {MAX_BYTES} that are read.")
        return path.read_bytes()
