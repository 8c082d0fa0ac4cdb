from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.config import AUGMENTATION_NAMES
from edgedistill.data.augment import AUGMENTATIONS, augmented
from edgedistill.data.loader import open_loader
from edgedistill_deploy.images import open_images
from edgedistill_deploy.preprocess import Preprocess

PREPROCESS = Preprocess(size=(16, 16))


def epoch_of(source: str, epoch: int | None, **settings: object) -> tuple[torch.Tensor, torch.Tensor]:
    images = open_images(source).train
    batches = list(open_loader(images, PREPROCESS, 7, epoch=epoch, **settings))  # type: ignore[arg-type]
    return torch.cat([pixels for pixels, _ in batches]), torch.cat([labels for _, labels in batches])


def test_the_settings_name_every_augmentation() -> None:
    assert tuple(AUGMENTATIONS) == AUGMENTATION_NAMES


def test_an_epoch_is_the_same_each_time_it_is_asked_for(tiny_digits: Path) -> None:
    first = epoch_of(f"npz:{tiny_digits}", 3, augment="resized-crop-flip", seed=1)
    again = epoch_of(f"npz:{tiny_digits}", 3, augment="resized-crop-flip", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_change_nothing(tiny_digits: Path) -> None:
    alone = epoch_of(f"npz:{tiny_digits}", 3, augment="crop-flip", seed=1)
    helped = epoch_of(f"npz:{tiny_digits}", 3, augment="crop-flip", seed=1, workers=2)
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


@pytest.mark.parametrize("other", [{"seed": 2}, {"epoch": 4}])
def test_epoch_and_seed_change_order_and_views(tiny_digits: Path, other: dict[str, int]) -> None:
    settings = {"epoch": 3, "seed": 1, **other}
    first = epoch_of(f"npz:{tiny_digits}", 3, augment="crop", seed=1)
    second = epoch_of(f"npz:{tiny_digits}", settings["epoch"], augment="crop", seed=settings["seed"])
    assert not torch.equal(first[0], second[0])
    assert sorted(first[1].tolist()) == sorted(second[1].tolist())


def test_without_an_epoch_images_come_in_their_own_order(tiny_digits: Path) -> None:
    images = open_images(f"npz:{tiny_digits}").train
    pixels, labels = epoch_of(f"npz:{tiny_digits}", None)
    assert labels.tolist() == images.labels.tolist()
    assert np.array_equal(pixels[5].numpy(), PREPROCESS.apply(images.read(5)))


def test_a_last_batch_of_one_is_left_out_of_training_only(tiny_digits: Path) -> None:
    images = open_images(f"npz:{tiny_digits}").train.select(range(9))
    assert [len(labels) for _, labels in open_loader(images, PREPROCESS, 4, epoch=0)] == [4, 4]
    assert [len(labels) for _, labels in open_loader(images, PREPROCESS, 4)] == [4, 4, 1]


@pytest.mark.parametrize("name", AUGMENTATION_NAMES)
def test_a_view_keeps_shape_and_type(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    view = augmented(pixels, name, np.random.default_rng(1))
    assert view.shape == pixels.shape
    assert view.dtype == np.uint8


def test_a_shift_moves_the_picture_and_repeats_its_edge() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[8, 8] = 255
    seen = set()
    for seed in range(200):
        bright = np.argwhere(augmented(pixels, "crop", np.random.default_rng(seed))[..., 0] == 255)
        assert len(bright) == 1
        seen.add(tuple(bright[0].tolist()))
    assert seen == {(row, column) for row in range(6, 11) for column in range(6, 11)}


def test_a_flip_mirrors_about_half_of_the_time() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 0] = 255
    views = [augmented(pixels, "crop-flip", np.random.default_rng(seed)) for seed in range(200)]
    mirrored = sum(int(view[0, -1, 0] > 0) for view in views)
    assert 70 <= mirrored <= 130
