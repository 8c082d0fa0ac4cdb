from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.config import AUGMENTATION_NAMES
from edgedistill.data.augment import AUGMENTATIONS, Pixels, View, cut_view, draw_view
from edgedistill.data.loader import Augmentation, Pass, Share, open_loader
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sources import open_images

PREPROCESS = Preprocess(size=(16, 16))


def epoch_of(
    source: str, epoch: int | None, augment: str = "none", seed: int = 0, views: int = 0, workers: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    loader = open_loader(
        open_images(source).train,
        PREPROCESS,
        7,
        Pass(
            augmentation=Augmentation(name=augment, seed=seed, views=views), epoch=epoch or 0, shuffle=epoch is not None
        ),
        workers=workers,
    )
    pixels, labels, indices = (torch.cat(each) for each in zip(*loader, strict=True))
    return pixels, labels, indices


def augmented(pixels: Pixels, name: str, generator: np.random.Generator) -> Pixels:
    return cut_view(pixels, draw_view(name, (pixels.shape[0], pixels.shape[1]), generator))


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
    pixels, labels, indices = epoch_of(f"npz:{tiny_digits}", None)
    assert indices.tolist() == list(range(len(images)))
    assert labels.tolist() == images.labels.tolist()
    assert np.array_equal(pixels[5].numpy(), PREPROCESS.apply(images.read(5)))


def test_a_last_batch_of_one_is_left_out_of_training_only(tiny_digits: Path) -> None:
    images = open_images(f"npz:{tiny_digits}").train.select(range(9))
    assert [len(labels) for _, labels, _ in open_loader(images, PREPROCESS, 4, Pass(shuffle=True))] == [4, 4]
    assert [len(labels) for _, labels, _ in open_loader(images, PREPROCESS, 4)] == [4, 4, 1]


def test_indices_say_which_image_a_row_is(tiny_digits: Path) -> None:
    images = open_images(f"npz:{tiny_digits}").train
    _, labels, indices = epoch_of(f"npz:{tiny_digits}", 5)
    assert indices.tolist() != sorted(indices.tolist())
    assert labels.tolist() == images.labels[indices.numpy()].tolist()


def test_a_fixed_number_of_views_comes_back_in_turn(tiny_digits: Path) -> None:
    def views_of(epoch: int) -> torch.Tensor:
        pixels, _, indices = epoch_of(f"npz:{tiny_digits}", epoch, augment="resized-crop-flip", views=3)
        return pixels[indices.argsort()]

    assert torch.equal(views_of(1), views_of(4))
    assert torch.equal(views_of(0), views_of(3))
    assert not torch.equal(views_of(1), views_of(2))
    live = epoch_of(f"npz:{tiny_digits}", 1, augment="resized-crop-flip")
    assert torch.equal(views_of(1), live[0][live[2].argsort()])


def test_a_view_cut_by_hand_is_the_same() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="edge")
    moved = cut_view(pixels, View(top=-2, left=1, height=6, width=5))
    assert np.array_equal(moved, padded[0:6, 3:8])
    mirrored = cut_view(pixels, View(top=-2, left=1, height=6, width=5, flipped=True))
    assert np.array_equal(mirrored, padded[0:6, 3:8][:, ::-1])


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


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(("count", "batch_size"), [(20, 6), (18, 6), (19, 6), (9, 12), (24, 12)])
def test_processes_share_every_batch_equally_and_show_no_image_twice(
    tiny_digits: Path, processes: int, count: int, batch_size: int
) -> None:
    images = open_images(f"npz:{tiny_digits}").train.select(range(count))

    def batches(process: int, of: int) -> list[list[int]]:
        loader = open_loader(images, PREPROCESS, batch_size, Pass(shuffle=True), share=Share(index=process, count=of))
        found = [indices.tolist() for *_, indices in loader]
        assert len(found) == len(loader)
        return found

    whole = batches(0, 1)
    for step, shares in enumerate(zip(*(batches(each, processes) for each in range(processes)), strict=True)):
        assert len({len(share) for share in shares}) == 1
        shown = [index for share in shares for index in share]
        assert len(set(shown)) == len(shown)
        assert set(shown) <= set(whole[step])
        assert len(whole[step]) - len(shown) == len(whole[step]) % processes


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_judge_every_image_once_between_them(tiny_digits: Path, processes: int) -> None:
    images = open_images(f"npz:{tiny_digits}").train.select(range(11))
    shown = [
        index
        for process in range(processes)
        for *_, indices in open_loader(images, PREPROCESS, 4, share=Share(index=process, count=processes))
        for index in indices.tolist()
    ]
    assert sorted(shown) == list(range(11))
