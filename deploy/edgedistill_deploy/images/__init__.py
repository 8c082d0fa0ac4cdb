"""Labelled images from folders and arrays, read one at a time."""

import re
from pathlib import Path

from edgedistill_deploy.errors import DataError, UsageError, nearest_names
from edgedistill_deploy.images.arrays import ArrayImages, open_arrays
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.folder import FolderImages, open_folder
from edgedistill_deploy.images.sets import ImageSet, ImageSplits, batches

__all__ = ["ArrayImages", "FolderImages", "ImageSet", "ImageSplits", "batches", "open_images", "read_image"]

_NPZ = "npz:"


def open_images(source: str | Path) -> ImageSplits:
    """Open an image folder, or "npz:FILE".

    A folder holds class folders directly (everything becomes `train`), or below train/, val/ and test/. An .npz file holds
    `images` uint8 (N, H, W) or (N, H, W, 3), `labels` (N,), `class_names` (C,) and optionally `split` (N,), 0 train,
    1 validation, 2 test. Only names and labels of a folder are read here.

    Raises UsageError when there is no such source, DataError when it holds no usable images.
    """
    path = Path(str(source).removeprefix(_NPZ)).expanduser()
    try:
        _require_existing(path)
        if str(source).startswith(_NPZ):
            return open_arrays(path)
        if path.is_dir():
            return open_folder(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    hint = (
        f"npz:{path}"
        if path.suffix == ".npz"
        else "a folder with a folder of images for each class, or npz:FILE"
    )
    raise UsageError(f"{path} is a file; name {hint}.")


def _require_existing(path: Path) -> None:
    if path.exists():
        return
    scheme = re.match(r"[A-Za-z][\w-]+:", str(path))
    if scheme:
        raise UsageError(f"There is no image source {scheme[0]!r} here; name a folder, or npz:FILE.")
    parent = path.parent
    siblings = (
        sorted(each.name for each in parent.iterdir() if each.name[0] != ".") if parent.is_dir() else []
    )
    raise UsageError(f"There are no images at {path}: it does not exist.{nearest_names(path.name, siblings)}")
