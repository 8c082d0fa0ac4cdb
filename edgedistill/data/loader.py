"""Batches for training and evaluation; they depend neither on the number of workers nor on interruptions."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, get_worker_info

from edgedistill.data._shared_memory import naming_shared_memory, require_shared_memory
from edgedistill.data.augment import AUGMENTATIONS, Pixels, View, cut_batch, draw_view, mix
from edgedistill.data.keeping import KeptImages
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet

Batch = tuple[Tensor, Tensor, Tensor]
# Sets the draws that mix images apart from those of the views.
_MIXING = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Which random views of its images a training run sees.

    Attributes:
        name: of `edgedistill.data.augment.AUGMENTATIONS`.
        seed: fixes all draws, together with the image's index and the number of the view.
        views: number of different views of each image; epoch e shows view e modulo this number. 0: every epoch has
            views of its own.
        mixup: every view is mixed with that of another image, see `DistillConfig`; 0: none is.
    """

    name: str = "none"
    seed: int = 0
    views: int = 0
    mixup: float = 0.0

    def view_number(self, epoch: int) -> int:
        """Return the number of the view that an epoch shows."""
        return epoch % self.views if self.views else epoch

    def view(self, size: tuple[int, int], epoch: int, index: int) -> View:
        """Return the view that an epoch shows of the image at `index`, of `size` (H, W)."""
        if not AUGMENTATIONS[self.name]:
            return View(top=0, left=0, height=size[0], width=size[1])
        generator = np.random.default_rng((self.seed, self.view_number(epoch), index))
        return draw_view(self.name, size, generator)

    def partner(self, epoch: int, index: int, count: int) -> tuple[int, float]:
        """Return which of `count` images an epoch mixes into the image at `index`, and the share that is left of it."""
        generator = np.random.default_rng((self.seed, self.view_number(epoch), index, _MIXING))
        return int(generator.integers(count)), float(generator.beta(self.mixup, self.mixup))

    def mix_labels(self, epoch: int, indices: Tensor, labels: NDArray[np.int64], class_count: int) -> Tensor:
        """Return the shares of the classes (N, C) in the views of the images at `indices` (N,).

        `labels` are those of all images that the indices count. An image without a label is in no class.
        """
        shares = torch.zeros(len(indices), class_count)
        for row, index in enumerate(indices.tolist()):
            other, share = self.partner(epoch, index, len(labels))
            for label, part in ((labels[index], share), (labels[other], 1 - share)):
                if label != NO_LABEL:
                    shares[row, label] += part
        return shares.to(indices.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over a split's images: their views and their order.

    Attributes:
        augmentation: which views; the whole images by default.
        epoch: chooses the views; with the augmentation's seed it also fixes the order.
        shuffle: False keeps the images in their own order. True makes batches for training: a last batch that gives
            a process one image is left out, and a last batch loses the images that do not divide among the processes.
        kept: all prepared and augmented images (views, images, H, W, 3). Images are then read from there, in this
            process, because that takes less time than fetching them from another.
    """

    augmentation: Augmentation = Augmentation()
    epoch: int = 0
    shuffle: bool = False
    kept: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The part of every batch that process `index` of `count` loads."""

    index: int = 0
    count: int = 1


PLAIN = Pass()
WHOLE = Share()


class _PreparedImages(Dataset[Batch]):
    """Prepared, augmented images, read a batch at a time.

    What key (epoch, index) stands for depends on these two, the augmentation and the image alone.
    """

    def __init__(
        self, images: ImageSet, preprocess: Preprocess, augmentation: Augmentation, store: KeptImages | None = None
    ) -> None:
        self._images = images
        self._preprocess = preprocess
        self._augmentation = augmentation
        self._store = store

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        pixels = self._cut(keys)
        if self._augmentation.mixup:
            partners = [self._augmentation.partner(epoch, index, len(self)) for epoch, index in keys]
            others = self._cut([(epoch, other) for (epoch, _), (other, _) in zip(keys, partners, strict=True)])
            for cut, other, (_, share) in zip(pixels, others, partners, strict=True):
                cut[...] = mix(cut, other, share)
        rows = np.array([index for _, index in keys])
        return _handed_on(torch.from_numpy(pixels)), torch.from_numpy(self._images.labels[rows]), torch.from_numpy(rows)

    def _cut(self, keys: list[tuple[int, int]]) -> Pixels:
        size = self._preprocess.size
        pixels = np.empty((len(keys), *size, 3), dtype=np.uint8)
        views = [self._augmentation.view(size, epoch, index) for epoch, index in keys]
        cut_batch(pixels, (self._prepared(index) for _, index in keys), views)
        return pixels

    def _prepared(self, index: int) -> Pixels:
        kept = self._store.find(index) if self._store is not None else None
        if kept is not None:
            return kept
        pixels = self._preprocess.apply(self._images.read(index))
        if self._store is not None:
            self._store.keep(index, pixels)
        return pixels


class _KeptViews(Dataset[Batch]):
    """Stored views, read a batch at a time; the items are those of `_PreparedImages`."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], augmentation: Augmentation) -> None:
        self._pixels = pixels
        self._labels = labels
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._labels)

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        view = self._augmentation.view_number(keys[0][0])
        rows = np.array([index for _, index in keys])
        pixels, labels = self._pixels[view, rows], self._labels[rows]
        return torch.from_numpy(pixels), torch.from_numpy(labels), torch.from_numpy(rows)


class _EpochSampler(Sampler[tuple[int, int]]):
    """Every image once an epoch, in an order that depends on seed and epoch."""

    def __init__(self, count: int, shown: Pass) -> None:
        self._count = count
        self.shown = shown

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self._count)
        if self.shown.shuffle:
            np.random.default_rng((self.shown.augmentation.seed, self.shown.epoch)).shuffle(order)
        return iter([(self.shown.epoch, int(index)) for index in order])


def open_loader(
    images: ImageSet,
    preprocess: Preprocess,
    batch_size: int,
    shown: Pass = PLAIN,
    *,
    workers: int = 0,
    share: Share = WHOLE,
    store: KeptImages | None = None,
    stays: bool = False,
    pinned: bool = False,
) -> "Loader":
    """Load batches of (uint8 images (N, H, W, 3), labels (N,), indices (N,) in `images`).

    Args:
        images: the split; read again in each epoch.
        preprocess: is applied to every image first.
        batch_size: N; the last batch may be smaller.
        shown: views and order; whole images in their own order by default.
        workers: processes that decode; 0 decodes in this one.
        share: this process's part of every batch.
        store: prepared images are taken from there, and what it lacks is added, where this process decodes.
        stays: the workers stay for further passes of the loader, and torch's generator is left alone.
        pinned: batches come in memory from which a GPU copies without waiting.
    """
    sampler = _EpochSampler(len(images), shown)
    batches = BatchSampler(sampler, batch_size, drop_last=False)  # type: ignore[arg-type]  # its stub wants int items
    shares = _SharedBatches(batches, len(images), share, training=shown.shuffle)
    if shown.kept is not None:
        return Loader(_KeptViews(shown.kept, images.labels, shown.augmentation), sampler, shares)
    dataset = _PreparedImages(images, preprocess, shown.augmentation, store)
    batch_bytes = -(-batch_size // share.count) * math.prod(preprocess.size) * 3
    return Loader(dataset, sampler, shares, workers, batch_bytes, stays=stays, pinned=pinned)


class Loader(DataLoader[Batch]):
    """Loads in other processes if asked, and says in one sentence where shared memory is too small for that."""

    def __init__(
        self,
        dataset: Dataset[Batch],
        sampler: "_EpochSampler",
        batches: Sampler[list[tuple[int, int]]],
        workers: int = 0,
        batch_bytes: int = 0,
        *,
        stays: bool = False,
        pinned: bool = False,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_as_it_is,
            persistent_workers=stays and workers > 0,
            pin_memory=pinned,
            generator=torch.Generator() if stays else None,
        )
        self._epochs = sampler
        self._batch_bytes = batch_bytes

    def show(self, shown: Pass) -> None:
        """Make the next pass this one; its views must be of the same augmentation."""
        self._epochs.shown = shown

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch promises a class of its own
        require_shared_memory(self.num_workers, self._batch_bytes, len(self))
        with naming_shared_memory(self.num_workers, self._batch_bytes):
            yield from super().__iter__()


def _handed_on(pixels: Tensor) -> Tensor:
    """Return pixels in shared memory, where another process is to get them.

    They would be put there anyway, but by a thread that loses errors: where there is no room, all would wait for ever.
    """
    if get_worker_info() is not None:
        pixels.share_memory_()  # type: ignore[no-untyped-call]  # torch gives it no types
    return pixels


def _as_it_is(batch: Any) -> Any:
    """Return a batch, which the sets of this module read whole; torch's stub expects a list of items."""
    return batch


def batch_shares(image_count: int, batch_size: int, process_count: int) -> tuple[int, ...]:
    """Return the different sizes of one process's batches in training, the largest first."""
    sizes = [min(batch_size, image_count)]
    rest = image_count % batch_size
    if rest and not _leaves_out_last(image_count, batch_size, process_count):
        sizes.append(rest)
    return tuple(dict.fromkeys(size // process_count for size in sizes if size >= process_count))


def _leaves_out_last(image_count: int, batch_size: int, process_count: int) -> bool:
    """Return whether the last batch is left out in training: batch normalisation cannot train on one image."""
    return 0 < image_count % batch_size < min(2 * process_count, image_count)


class _SharedBatches(Sampler[list[tuple[int, int]]]):
    """One process's share of every batch; no image comes twice, and in training all shares are equal."""

    def __init__(self, batches: BatchSampler, image_count: int, share: Share, training: bool) -> None:
        self._batches = batches
        self._share = share
        self._training = training
        self._skips_last = training and _leaves_out_last(image_count, batches.batch_size, share.count)

    def __len__(self) -> int:
        return len(self._batches) - self._skips_last

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in itertools.islice(self._batches, len(self)):
            usable = len(batch) - len(batch) % self._share.count if self._training else len(batch)
            part: list[tuple[int, int]] = batch[self._share.index : usable : self._share.count]  # type: ignore[assignment]  # as above
            if part:
                yield part
