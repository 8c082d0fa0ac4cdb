"""Image sources by the name a user types."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from edgedistill_deploy.errors import UsageError, nearest_names, reading
from edgedistill_deploy.images.arrays import open_arrays
from edgedistill_deploy.images.cifar100 import open_cifar100
from edgedistill_deploy.images.fashion_mnist import INSTALLED, open_fashion_mnist
from edgedistill_deploy.images.folder import open_folder
from edgedistill_deploy.images.sets import ImageSplits

_FASHION_MNIST = "fashion-mnist"
_OPENERS: Mapping[str, Callable[[Path], ImageSplits]] = {
    "npz": open_arrays,
    _FASHION_MNIST: open_fashion_mnist,
    "cifar100": open_cifar100,
}
ALLOWED = "a folder with a folder of images for each class, npz:FILE, fashion-mnist, fashion-mnist:DIR or cifar100:DIR"


def open_images(source: str | Path) -> ImageSplits:
    """Open an image folder, "npz:FILE", "fashion-mnist", "fashion-mnist:DIR" or "cifar100:DIR".

    A folder holds class folders directly (everything becomes `train`), or below train/, val/ and test/. Images in no
    class folder have no label. Only names and labels are read here. An .npz file holds `images` uint8 (N, H, W) or
    (N, H, W, 3), `labels` (N,), `class_names` (C,) and optionally `split` (N,), 0 train, 1 validation, 2 test.
    Fashion-MNIST is four IDX files, by default those of the Debian package dataset-fashion-mnist. CIFAR-100 is the
    unpacked binary archive.

    Raises UsageError when there is no such source, DataError when it holds no usable images.
    """
    scheme, path = _parse_source(str(source))
    with reading(path):
        if scheme not in (_FASHION_MNIST, "cifar100"):  # the errors of these two say how to get the files
            _require_existing(path)
        if scheme is not None:
            return _OPENERS[scheme](path)
        if path.is_dir():
            return open_folder(path)
    hint = f"npz:{path}" if path.suffix == ".npz" else ALLOWED
    raise UsageError(f"{path} is a file; name {hint}.")


def absolute_source(source: str) -> str:
    """Return the name with its path made absolute, so that it means the same from every working directory."""
    if source in ("", _FASHION_MNIST):
        return source
    scheme, path = _parse_source(source)
    if scheme is None and re.match(r"[A-Za-z][\w-]+:", source):
        return source  # a kind of source that is opened elsewhere, such as embedded:digits
    return f"{scheme}:{path.absolute()}" if scheme else str(path.absolute())


def _parse_source(source: str) -> tuple[str | None, Path]:
    """Divide into the kind of source, None for a plain path, and the path."""
    if source == _FASHION_MNIST:
        return source, INSTALLED
    scheme, colon, rest = source.partition(":")
    if colon and scheme in _OPENERS:
        return scheme, Path(rest).expanduser()
    return None, Path(source).expanduser()


def _require_existing(path: Path) -> None:
    if path.exists():
        return
    scheme = re.match(r"[A-Za-z][\w-]+:", str(path))
    if scheme:
        raise UsageError(f"There is no image source {scheme[0]!r} here; name a folder, {ALLOWED.split(', ', 1)[1]}.")
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]", str(path)):
        raise UsageError(
            f"There are no images at {path}, a path of Windows. Name the folder as this machine sees it, such as "
            "/mnt/c/... for C: under WSL."
        )
    parent = path.parent
    siblings = sorted(each.name for each in parent.iterdir() if each.name[0] != ".") if parent.is_dir() else []
    raise UsageError(f"There are no images at {path}: it does not exist.{nearest_names(path.name, siblings)}")
