"""CIFAR-10 and CIFAR-100 from the files of their binary versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError, UsageError, reading
from edgedistill_deploy.images.arrays import ArrayImages, build_array_images
from edgedistill_deploy.images.sets import ImageSplits

MAX_BYTES = 1 << 30  # seven times the training file
_SIDE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edition:
    """What the archive of a data set holds.

    Attributes:
        called: the data set.
        archive: the file to unpack, and where it is.
        unpacked: the folder that it unpacks to.
        names: the file of class names.
        train: the files of the training images.
        test: the file of the test images.
        pickles: files of the python version.
        label_bytes: before the pixels of each image; the last of them is the class.
    """

    called: str
    archive: str
    unpacked: str
    names: str
    train: tuple[str, ...]
    test: str
    pickles: tuple[str, ...]
    label_bytes: int

    @property
    def record_bytes(self) -> int:
        """The length of one image with its labels."""
        return self.label_bytes + 3 * _SIDE * _SIDE


_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_TEN = _Edition(
    called="CIFAR-10",
    archive=f"cifar-10-binary.tar.gz from {_PAGE}",
    unpacked="cifar-10-batches-bin",
    names="batches.meta.txt",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    pickles=("data_batch_1", "test_batch", "batches.meta"),
    label_bytes=1,
)
_HUNDRED = _Edition(
    called="CIFAR-100",
    archive=f"cifar-100-binary.tar.gz from {_PAGE}",
    unpacked="cifar-100-binary",
    names="fine_label_names.txt",
    train=("train.bin",),
    test="test.bin",
    pickles=("train", "test", "meta"),
    label_bytes=2,  # the superclass's number, then the class's
)


def open_cifar10(folder: Path) -> ImageSplits:
    """Read data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt, as `open_cifar100` does."""
    return _open(folder, _TEN)


def open_cifar100(folder: Path) -> ImageSplits:
    """Read train.bin, test.bin and fine_label_names.txt from the unpacked binary archive, or from the folder above it.

    Classes are the hundred fine ones, as fine_label_names.txt spells them ("aquarium_fish"); images are 32x32 RGB.

    Raises UsageError when there is no such folder. Raises DataError for the python version, whose files are pickles,
    and for a file that is missing, cut off or holds a label without a name.
    """
    return _open(folder, _HUNDRED)


def _open(folder: Path, edition: _Edition) -> ImageSplits:
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder} with {edition.called}; unpack {edition.archive}.")
    if (folder / edition.unpacked).is_dir():
        folder = folder / edition.unpacked
    _refuse_pickles(folder, edition)
    names = _read_names(folder / edition.names, edition)
    return ImageSplits(
        class_names=names,
        train=_read_split([folder / each for each in edition.train], names, edition),
        test=_read_split([folder / edition.test], names, edition),
    )


def _refuse_pickles(folder: Path, edition: _Edition) -> None:
    if not (folder / edition.train[0]).is_file() and all((folder / name).is_file() for name in edition.pickles):
        raise DataError(
            f"{folder} holds the python version of {edition.called}, whose files are pickles: reading one runs "
            f"whatever code is in it. Take the binary version, {edition.archive}."
        )


def _read_names(path: Path, edition: _Edition) -> tuple[str, ...]:
    text = _read_bytes(path, edition).decode("utf-8", errors="replace")
    names = tuple(compose_name(line.strip()) for line in text.splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path} must name each class once, one a line; it has {len(names)} lines with text.")
    return names


def _read_split(paths: Sequence[Path], names: tuple[str, ...], edition: _Edition) -> ArrayImages:
    content = b"".join(_read_records(path, edition) for path in paths)
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, edition.record_bytes)
    labels = records[:, edition.label_bytes - 1]
    if labels.max() >= len(names):
        raise DataError(
            f"{paths[0]} holds the class {labels.max()}, and {edition.names} names {len(names)} classes; is it the "
            f"file of {edition.called}?"
        )
    planes = records[:, edition.label_bytes :].reshape(-1, 3, _SIDE, _SIDE)
    called = paths[0].name if len(paths) == 1 else "train"
    source = f"{edition.called.lower().replace('-', '')} {called}"
    return build_array_images(names, labels, planes.transpose(0, 2, 3, 1), source)


def _read_records(path: Path, edition: _Edition) -> bytes:
    content = _read_bytes(path, edition)
    if not content or len(content) % edition.record_bytes:
        raise DataError(
            f"{path} has {len(content)} bytes; {edition.called}'s binary files hold whole records of "
            f"{edition.record_bytes} bytes, so it is cut off or another file. Unpack {edition.archive} again."
        )
    return content


def _read_bytes(path: Path, edition: _Edition) -> bytes:
    if not path.is_file():
        raise DataError(f"{path.parent} lacks {path.name}; unpack {edition.archive}.")
    with reading(path):
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes, more than the {MAX_BYTES} that are read.")
        return path.read_bytes()
