"""Batches for several passes over one set of images, from processes and a memory that outlive a pass."""

import collections
import concurrent.futures
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from edgedistill.data.augment import AUGMENTATIONS, View, cut_batch, cut_views
from edgedistill.data.keeping import ImageMemory, KeptImages
from edgedistill.data.loader import PLAIN, WHOLE, Augmentation, Batch, Loader, Pass, Share, open_loader
from edgedistill.data.workers import Workers, choose_workers
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet

Made = TypeVar("Made")

_AHEAD = 2  # batches that are made ready while the device computes


class Feed:
    """Gives a set's images to a training, pass after pass, as (pixels, labels, indices).

    Pixels are uint8 (N, H, W, 3) on the device; labels and indices (N,) are on the host. The images of a pass depend on
    the set, the augmentation and the pass alone: not on the workers, on what the memory keeps, or on the device.

    An image that the memory keeps is decoded once, by the first pass. What it does not keep is decoded anew in every
    pass, by processes that stay. Beside a GPU batches are made ready ahead, in pinned memory, and views are cut on the
    GPU. Close it to end the processes.

    Args:
        images: the set.
        preprocess: is applied to every image first.
        batch_size: N; the last batch may be smaller.
        shown: views and order of every pass; its epoch does not count.
        workers: processes that decode, see `choose_workers`.
        passes: how many there will be, for that choice.
        share: this process's part of every batch.
        memory: keeps the images, if it has admitted the set.
        device: where the pixels go.
        cuts_late: whether views are cut on the device; None: on a GPU.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocess: Preprocess,
        batch_size: int,
        shown: Pass = PLAIN,
        *,
        workers: Workers = "auto",
        passes: int = 1,
        share: Share = WHOLE,
        memory: ImageMemory | None = None,
        device: torch.device | None = None,
        cuts_late: bool | None = None,
    ) -> None:
        self._images = images
        self._preprocess = preprocess
        self._batch_size = batch_size
        self._shown = shown
        self._share = share
        self._memory = memory or ImageMemory()
        self._device = device or torch.device("cpu")
        self._on_gpu = self._device.type == "cuda"
        self._asked, self._passes = workers, passes
        self._mixes = bool(shown.augmentation.mixup)
        self._varies = bool(AUGMENTATIONS[shown.augmentation.name]) and shown.kept is None
        self._cuts_late = (self._on_gpu if cuts_late is None else cuts_late) and self._varies and not self._mixes
        self._chosen: int | None = None
        self._staying: Loader | None = None

    def __len__(self) -> int:
        """The number of batches of a pass."""
        return len(self._open(self._shown, workers=0))

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one pass."""
        # One number, as torch's loader draws it: without it, the training's dropout would draw others than it did.
        torch.empty((), dtype=torch.int64).random_()
        shown = replace(self._shown, epoch=epoch)
        if self._mixes and self._store is not None and not self._reads_memory and self._workers():
            self._fill(self._store)  # a mixture needs a second image, which may come much later
        workers = 0 if self._reads_memory else self._workers()
        if not workers:
            self.close()
        for pixels, labels, indices in self._from_processes(shown) if workers else self._from_here(shown):
            moved = pixels.to(self._device, non_blocking=True)
            if self._cuts_late:
                moved = cut_views(moved, self._views(shown, indices))
            yield moved, labels, indices

    def close(self) -> None:
        """End the processes that decode; another pass would start them again."""
        self._staying = None

    @property
    def _store(self) -> KeptImages | None:
        return self._memory.of(self._images)

    @property
    def _reads_memory(self) -> bool:
        if self._shown.kept is not None:
            return True
        # A pass in training may leave a few out.
        return self._store is not None and self._store.missing < self._batch_size

    def _workers(self) -> int:
        if self._chosen is None:
            self._chosen = choose_workers(
                self._asked,
                self._images,
                self._preprocess,
                -(-self._batch_size // self._share.count),
                passes=self._passes if self._store is None else 1,
                beside_gpu=self._on_gpu,
            )
            self._memory.note_workers(self._chosen)
        return self._chosen

    def _from_here(self, shown: Pass) -> Iterator[Batch]:
        """Load in this process, which keeps what it decodes."""
        loader = self._open(_whole(shown) if self._cuts_late else shown, workers=0, store=self._store)
        if not self._on_gpu:
            yield from loader
            return
        yield from ahead((_pinned(batch) for batch in loader), _AHEAD)

    def _from_processes(self, shown: Pass) -> Iterator[Batch]:
        """Load in others. What they decode is kept here, so they send whole images, and views are cut afterwards."""
        store = self._store
        whole = self._cuts_late or store is not None
        if self._staying is None:
            self._staying = self._open(_whole(shown) if whole else shown, workers=self._workers())
        self._staying.show(_whole(shown) if whole else shown)
        for pixels, labels, indices in self._staying:
            if store is not None:
                _keep(store, pixels, indices)
            if whole and self._varies and not self._cuts_late:
                pixels = _cut_here(pixels, self._views(shown, indices))
            yield pixels, labels, indices

    def _fill(self, store: KeptImages) -> None:
        """Let processes decode all images before anything else."""
        for pixels, _, indices in self._open(PLAIN, workers=self._workers()):
            _keep(store, pixels, indices)

    def _views(self, shown: Pass, indices: Tensor) -> list[View]:
        return [shown.augmentation.view(self._preprocess.size, shown.epoch, index) for index in indices.tolist()]

    def _open(self, shown: Pass, *, workers: int, store: KeptImages | None = None) -> Loader:
        return open_loader(
            self._images,
            self._preprocess,
            self._batch_size,
            shown,
            workers=workers,
            share=self._share,
            store=store,
            stays=True,
            pinned=self._on_gpu and workers > 0,
        )


def ahead(made: Iterable[Made], count: int) -> Iterator[Made]:
    """Yield the same, made by a thread of its own, `count` ahead of the one that takes them."""
    source = iter(made)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        waiting = collections.deque(thread.submit(next, source, None) for _ in range(count))
        while (each := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, source, None))
            yield each


def _whole(shown: Pass) -> Pass:
    """Return the same images in the same order, whole."""
    return replace(shown, augmentation=Augmentation(seed=shown.augmentation.seed))


def _keep(store: KeptImages, pixels: Tensor, indices: Tensor) -> None:
    for index, image in zip(indices.tolist(), pixels.numpy(), strict=True):
        store.keep(index, image)


def _pinned(batch: Batch) -> Batch:
    pixels, labels, indices = batch
    return pixels.pin_memory(), labels.pin_memory(), indices.pin_memory()


def _cut_here(pixels: Tensor, views: Sequence[View]) -> Tensor:
    cut = np.empty_like(pixels.numpy())
    cut_batch(cut, pixels.numpy(), views)
    return torch.from_numpy(cut)
