"""Images mixed with others: every pixel and every label share is what the draws say, whoever loads them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.data.augment import cut_view
from edgedistill.data.loader import Augmentation, Pass, open_loader
from edgedistill.distillation.objective import label_loss
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import NO_LABEL
from edgedistill_deploy.images.sources import open_images

PREPROCESS = Preprocess(size=(16, 16))


def mixed_batches(npz: Path, augmentation: Augmentation, epoch: int, workers: int = 0) -> list[torch.Tensor]:
    images = open_images(f"npz:{npz}").train
    shown = Pass(augmentation=augmentation, epoch=epoch, shuffle=True)
    return [
        torch.cat(parts) for parts in zip(*open_loader(images, PREPROCESS, 20, shown, workers=workers), strict=True)
    ]


def test_every_pixel_is_the_drawn_share_of_two_views(tiny_digits: Path) -> None:
    images = open_images(f"npz:{tiny_digits}").train
    augmentation = Augmentation(name="crop-flip", seed=3, mixup=1.0)
    pixels, labels, indices = mixed_batches(tiny_digits, augmentation, epoch=2)
    assert np.array_equal(labels.numpy(), images.labels[indices.numpy()])

    def view(index: int) -> np.ndarray:
        whole = PREPROCESS.apply(images.read(index))
        return cut_view(whole, augmentation.view((16, 16), 2, index)).astype(np.float64)

    shares = []
    for row, index in enumerate(indices.tolist()):
        other, share = augmentation.partner(2, index, len(images))
        expected = share * view(index) + (1 - share) * view(other)
        assert np.abs(pixels[row].numpy() - expected).max() <= 0.5 + 1e-9
        shares.append(share)
    # Beta(1, 1) makes all proportions equally likely.
    assert 0.4 < np.mean(shares) < 0.6
    assert np.ptp(shares) > 0.8


def test_workers_and_views_that_come_back_change_nothing(tiny_digits: Path) -> None:
    augmentation = Augmentation(name="crop", seed=1, views=2, mixup=0.4)
    alone = mixed_batches(tiny_digits, augmentation, epoch=1)
    for mine, theirs in zip(alone, mixed_batches(tiny_digits, augmentation, epoch=1, workers=2), strict=True):
        assert torch.equal(mine, theirs)
    later = mixed_batches(tiny_digits, augmentation, epoch=3)
    order, other = alone[2].argsort(), later[2].argsort()
    assert torch.equal(alone[0][order], later[0][other])


def test_labels_are_mixed_as_the_images_are() -> None:
    augmentation = Augmentation(seed=5, mixup=1.0)
    labels = np.array([0, 2, 1, 2], dtype=np.int64)
    mixed = augmentation.mix_labels(7, torch.tensor([3, 0]), labels, 3)
    for row, index in enumerate((3, 0)):
        other, share = augmentation.partner(7, index, 4)
        expected = share * np.eye(3)[labels[index]] + (1 - share) * np.eye(3)[labels[other]]
        np.testing.assert_allclose(mixed[row].numpy(), expected, atol=1e-6)


def test_an_image_without_a_label_is_in_no_class() -> None:
    labels, augmentation = np.array([0, NO_LABEL, 1, NO_LABEL]), Augmentation(seed=3, mixup=0.4)
    shares = augmentation.mix_labels(0, torch.arange(4), labels, 2)
    for row in range(4):
        other, share = augmentation.partner(0, row, 4)
        wanted = share * (labels[row] != NO_LABEL) + (1 - share) * (labels[other] != NO_LABEL)
        assert float(shares[row].sum()) == pytest.approx(wanted)
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    by_hand = -sum(shares[row, label] * logits[row].log_softmax(0)[label] for row in range(4) for label in range(2))
    assert float(label_loss(logits, shares)) == pytest.approx(float(by_hand / shares.sum()))
    assert float(label_loss(logits, torch.zeros(4, 2))) == 0
