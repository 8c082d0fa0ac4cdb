"""What the teacher says about a fixed set of views of the training images, computed once and kept on disk.

SubDistill does not need the teacher's maps, but only the K projected channels at the student's size.
They are kept in half precision, the logits in single precision and the views as bytes, so that no epoch decodes an
image again. All are .npy files that are mapped into memory.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from edgedistill.compute.transfer import send
from edgedistill.config import read_view_count
from edgedistill.distillation.objective import Guidance
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import naming_no_room, write_text
from edgedistill_deploy.progress import Progress, silent

FORMAT = "edgedistill-teacher-cache-2"
AUTO_VIEWS = 4
AUTO_BYTES = 4 << 30
SPARE_BYTES = 256 << 20  # a full disk would stop other programs too


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The teacher's guidance for one view, uint8 pixels (N, H, W, 3), of the images at `indices` (N,)."""

    indices: Tensor
    pixels: Tensor
    guidance: Guidance


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherCache:
    """Guidance by (view, image index); arrays are mapped from disk."""

    pixels: NDArray[np.uint8]  # (views, images, H, W, 3), what the teacher was shown
    logits: NDArray[np.float32]  # (views, images, C)
    targets: Mapping[str, NDArray[np.float16]]  # {teacher layer: (views, images, ...)}

    @property
    def views(self) -> int:
        """How many views of each image there are."""
        return len(self.logits)

    def guidance(self, view: int, indices: Tensor, device: torch.device) -> Guidance:
        """Return the guidance for one view of the images at `indices` (N,), which are on the host."""
        rows = indices.cpu().numpy()
        return Guidance(
            logits=send(torch.from_numpy(self.logits[view, rows]), device),
            targets={
                name: send(torch.from_numpy(values[view, rows]), device).float()
                for name, values in self.targets.items()
            },
        )


def bytes_per_view(example: Guidance, size: tuple[int, int]) -> int:
    """Return how many bytes one view of one image of `size` (H, W) takes; `example` is guidance for any images."""
    numbers = sum(target[0].numel() for target in example.targets.values())
    return 2 * numbers + 4 * example.logits.shape[1] + 3 * size[0] * size[1]


def views_present(folder: Path) -> int | None:
    """Return the number of views of any finished cache in the folder; None where there is no such cache."""
    try:
        views = json.loads((folder / "cache.json").read_text(encoding="utf-8"))["key"]["views"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return views if isinstance(views, int) else None


def choose_views(teacher_cache: str, view_bytes: int, image_count: int, epochs: int, folder: Path) -> int:
    """Return how many views to keep; 0 keeps none.

    Args:
        teacher_cache: `off`, `auto` or a number.
        view_bytes: size of one view of one image.
        image_count: number of training images.
        epochs: more views than epochs have no use.
        folder: of the cache; it need not exist.

    Raises:
        EdgeDistillError: the number asked for does not fit on the disk.
    """
    asked = read_view_count(teacher_cache)
    views = min(AUTO_VIEWS if asked is None else asked, epochs)
    if views_present(folder) == views:
        return views  # they are on the disk already
    needed = views * image_count * view_bytes
    free = shutil.disk_usage(_existing(folder)).free - SPARE_BYTES
    if asked is None:
        return views if needed <= min(AUTO_BYTES, free // 2) else 0
    if needed > free:
        raise EdgeDistillError(
            f"The teacher cache of {views} views would take {needed / 1e9:.2f} GB, and {max(free, 0) / 1e9:.2f} GB are "
            f"free at {folder}; give fewer views with --teacher-cache, or --teacher-cache off."
        )
    return views


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.absolute().parents) if each.is_dir())


def write_teacher_cache(
    folder: Path,
    key: Mapping[str, Any],
    image_count: int,
    views: Iterable[tuple[int, Iterable[Answers]]],
    parameters: Mapping[int, NDArray[np.int16]],
    progress: Progress = silent,
) -> None:
    """Compute and write a cache, whole or not at all.

    Args:
        folder: of the cache; an unfinished cache beside it is replaced.
        key: what the content depends on, as plain values; `open_teacher_cache` needs the same key.
        image_count: number of training images.
        views: for each view its number and the answers, batch by batch.
        parameters: each view's rectangles and flips (images, 5), as `View.numbers` gives them.
        progress: counts the views of images.

    Raises:
        EdgeDistillError: a target does not fit half precision; the error names its layer.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    count = len(parameters)
    arrays: dict[str, Any] = {}
    names: dict[str, str] = {}
    done = 0
    for view, batches in views:
        for answers in batches:
            if not arrays:
                names = {name: f"target-{i}.npy" for i, name in enumerate(answers.guidance.targets)}
                arrays = _create_files(partial, (count, image_count), answers, names)
            rows = answers.indices.cpu().numpy()
            arrays["pixels.npy"][view, rows] = answers.pixels.cpu().numpy()
            arrays["logits.npy"][view, rows] = answers.guidance.logits.float().cpu().numpy()
            for name, target in answers.guidance.targets.items():
                arrays[names[name]][view, rows] = _halve(target, name)
            done += len(rows)
            progress(done, count * image_count)
    for array in arrays.values():
        array.flush()
    np.save(partial / "views.npy", np.stack([parameters[view] for view in sorted(parameters)]))
    header = {"format": FORMAT, "key": dict(key), "targets": names}
    write_text(partial / "cache.json", json.dumps(header, indent=1, sort_keys=True))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _create_files(folder: Path, shape: tuple[int, int], example: Answers, names: Mapping[str, str]) -> dict[str, Any]:
    def create(name: str, inner: Iterable[int], dtype: str) -> Any:
        with naming_no_room(folder / name):
            array = open_memmap(folder / name, mode="w+", dtype=np.dtype(dtype), shape=(*shape, *inner))
            _reserve(folder / name)
        return array

    files = {
        "pixels.npy": create("pixels.npy", example.pixels.shape[1:], "u1"),
        "logits.npy": create("logits.npy", example.guidance.logits.shape[1:], "f4"),
    }
    return files | {names[name]: create(names[name], t.shape[1:], "f2") for name, t in example.guidance.targets.items()}


def _reserve(path: Path) -> None:
    """Take all the room of a file now: a write to a mapped file on a full disk would end the process by a signal."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _halve(target: Tensor, layer: str) -> NDArray[np.float16]:
    halved = target.cpu().half()
    if not bool(halved.isfinite().all()):
        raise EdgeDistillError(
            f"The teacher's features at layer {layer!r} are too large for the half precision of the teacher cache, or "
            "not finite; run with --teacher-cache off."
        )
    return halved.numpy()


def open_teacher_cache(folder: Path, key: Mapping[str, Any]) -> TeacherCache | None:
    """Open a cache, mapped from disk; None where there is none.

    Raises:
        EdgeDistillError: the cache is damaged, or was made for other settings, images or weights.
    """
    header_path = folder / "cache.json"
    if not header_path.is_file():
        return None
    remedy = "delete that folder to make it again"
    try:
        header = json.loads(header_path.read_text(encoding="utf-8"))
        if header.get("format") != FORMAT or header.get("key") != json.loads(json.dumps(dict(key))):
            raise EdgeDistillError(
                f"The teacher cache in {folder} was made for {_difference(header.get('key'), key)}; {remedy}."
            )
        pixels, logits = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pixels", "logits"))
        targets = {name: np.load(folder / file, mmap_mode="r") for name, file in header["targets"].items()}
        if len({each.shape[:2] for each in (pixels, logits, *targets.values())}) > 1 or logits.ndim != 3:
            raise ValueError("its files are not of the same images")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise EdgeDistillError(f"The teacher cache in {folder} is damaged ({error}); {remedy}.") from error
    return TeacherCache(pixels=pixels, logits=logits, targets=targets)


def _difference(found: object, wanted: Mapping[str, Any]) -> str:
    if not isinstance(found, dict):
        return "something else"
    plain = json.loads(json.dumps(dict(wanted)))
    other = sorted(name for name in {*found, *plain} if found.get(name) != plain.get(name))
    return f"another {' and '.join(other)}" if other else "another version"
