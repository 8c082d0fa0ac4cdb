"""Image sources by the name a user types."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgedistill_deploy.errors import UsageError, nearest_names, reading
from edgedistill_deploy.images.arrays import open_arrays
from edgedistill_deploy.images.cifar100 import open_cifar10, open_cifar100
from edgedistill_deploy.images.encoded import hub, parquet, shards, tables
from edgedistill_deploy.images.encoded.patterns import absolute_name
from edgedistill_deploy.images.fashion_mnist import INSTALLED, open_fashion_mnist
from edgedistill_deploy.images.folder import open_folder
from edgedistill_deploy.images.sets import ImageSplits

_FASHION_MNIST = "fashion-mnist"
_HUB = "hf"
_OPENERS: Mapping[str, Callable[[Path], ImageSplits]] = {
    "npz": open_arrays,
    _FASHION_MNIST: open_fashion_mnist,
    "cifar10": open_cifar10,
    "cifar100": open_cifar100,
}
# Sources that say in their own words where the images are; with the options that each takes.
_NAMED: Mapping[str, tuple[Callable[..., ImageSplits], Sequence[str]]] = {
    "table": (tables.open_table, tables.OPTIONS),
    "parquet": (parquet.open_parquet_images, parquet.OPTIONS),
    "wds": (shards.open_shards, shards.OPTIONS),
    _HUB: (hub.open_hub, hub.OPTIONS),
}
ALLOWED = (
    "a folder with a folder of images for each class, npz:FILE, table:FILE, parquet:FILE, wds:SHARDS, hf:OWNER/NAME, "
    "fashion-mnist, fashion-mnist:DIR, cifar10:DIR or cifar100:DIR"
)


def open_images(source: str | Path, *, labels: bool = True) -> ImageSplits:
    """Open an image folder, or a source by its kind, such as "npz:FILE" or "wds:train-{000..146}.tar".

    A folder holds class folders directly (everything becomes `train`), or below train/, val/ and test/. Images in no
    class folder have no label. Only names and labels are read here. An .npz file holds `images` uint8 (N, H, W) or
    (N, H, W, 3), `labels` (N,), `class_names` (C,) and optionally `split` (N,), 0 train, 1 validation, 2 test.
    "table:FILE", or a .csv or .tsv file, lists paths and labels. "parquet:FILE" holds images and labels in columns.
    "wds:PATTERN" are tar shards of WebDataset, and "hf:OWNER/NAME" is a data set of Hugging Face's hub. Fashion-MNIST
    is four IDX files, by default those of the Debian package dataset-fashion-mnist. CIFAR-10 and CIFAR-100 are the
    unpacked binary archives. Without `labels`, tables, Parquet files, shards
    and data sets of the hub need none.

    Raises UsageError when there is no such source, DataError when it holds no usable images, MissingDependencyError
    when it needs a library that is not installed.
    """
    kind, rest = _parse_named(str(source))
    if kind:
        return _NAMED[kind][0](rest, labels=labels)
    scheme, path = _parse_source(str(source))
    with reading(path):
        if scheme not in (_FASHION_MNIST, "cifar10", "cifar100"):  # their errors say how to get the files
            _require_existing(path)
        if scheme is not None:
            return _OPENERS[scheme](path)
        if path.is_dir():
            return open_folder(path)
    hint = f"npz:{path}" if path.suffix == ".npz" else f"parquet:{path}" if path.suffix == ".parquet" else ALLOWED
    raise UsageError(f"{path} is a file; name {hint}.")


def must_fetch(source: str) -> str:
    """Return why opening a source takes long because it reads much from a server, as a sentence; "" where it does not.

    Raises the errors of `open_images` that can be told before that.
    """
    kind, rest = _parse_named(source)
    if kind == _HUB and hub.must_fetch(rest):
        return f"{source} is not on this machine yet; it is fetched when the run begins, and not counted here."
    if kind == "wds" and (unread := shards.unread_shards(rest)):
        return (
            f"{unread} shards of {source} were never read; their headers are read when the run begins, and the images "
            "are not counted here."
        )
    return ""


def absolute_source(source: str) -> str:
    """Return the name with its path made absolute, so that it means the same from every working directory."""
    if source in ("", _FASHION_MNIST) or source.startswith(f"{_HUB}:"):
        return source
    kind, rest = _parse_named(source)
    if kind:
        return f"{kind}:{absolute_name(rest, _NAMED[kind][1])}"
    scheme, path = _parse_source(source)
    if scheme is None and re.match(r"[A-Za-z][\w-]+:", source):
        return source  # a kind of source that is opened elsewhere, such as embedded:digits
    return f"{scheme}:{path.absolute()}" if scheme else str(path.absolute())


def _parse_named(source: str) -> tuple[str, str]:
    """Divide into the kind of a source in `_NAMED` and the rest; the kind is "" for all others."""
    kind, colon, rest = source.partition(":")
    if colon and kind in _NAMED:
        return kind, rest
    named = re.match(r"[A-Za-z][\w-]+:", source)
    path = Path(source.partition("?")[0])
    is_table = not named and path.suffix.lower() in tables.SUFFIXES and not path.is_dir()
    return ("table", source) if is_table else ("", source)


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
