"""Batches for training and evaluation, the same whatever the number of workers or the point of resumption."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from edgedistill.data.augment import augmented
from edgedistill_deploy.images import ImageSet
from edgedistill_deploy.preprocess import Preprocess

Example = tuple[Tensor, int]


class _PreparedImages(Dataset[Example]):
    """Prepared, augmented images: item (epoch, index) is a pure function of the two, the seed and the image."""

    def __init__(self, images: ImageSet, preprocess: Preprocess, augment: str, seed: int) -> None:
        self._images = images
        self._preprocess = preprocess
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        epoch, index = key
        pixels = self._preprocess.apply(self._images.read(index))
        generator = np.random.default_rng((self._seed, epoch, index))
        view = np.array(augmented(pixels, self._augment, generator))
        return torch.from_numpy(view), int(self._images.labels[index])


class _EpochSampler(Sampler[tuple[int, int]]):
    """Every image once an epoch, in an order that follows from seed and epoch."""

    def __init__(self, count: int, seed: int, epoch: int, shuffle: bool) -> None:
        self._count = count
        self._seed = seed
        self._epoch = epoch
        self._shuffle = shuffle

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self._count)
        if self._shuffle:
            np.random.default_rng((self._seed, self._epoch)).shuffle(order)
        return iter([(self._epoch, int(index)) for index in order])


def open_loader(
    images: ImageSet,
    preprocess: Preprocess,
    batch_size: int,
    *,
    augment: str = "none",
    seed: int = 0,
    epoch: int | None = None,
    workers: int = 0,
) -> DataLoader[Example]:
    """Load batches of (uint8 images (N, H, W, 3), labels (N,)).

    Args:
        images: the split; read anew each epoch, never held.
        preprocess: the contract that every image goes through first.
        batch_size: N; the last batch may be smaller.
        augment: a name of `AUGMENTATIONS`.
        seed: fixes order and augmentation together with the epoch.
        epoch: shuffles the images in the order of this epoch; None keeps them in their own.
        workers: processes that decode; 0 decodes in this one.
    """
    dataset = _PreparedImages(images, preprocess, augment, seed)
    sampler = _EpochSampler(len(images), seed, epoch or 0, epoch is not None)
    # Batch normalisation cannot train on a batch of one, so a last batch of one image waits for another epoch's order.
    lone = epoch is not None and len(images) > 1 and len(images) % batch_size == 1
    batches = BatchSampler(sampler, batch_size, drop_last=lone)  # type: ignore[arg-type]  # its stub wants int items
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers)
