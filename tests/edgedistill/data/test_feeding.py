"""A feed gives the pixels that a plain loader gives, whoever decodes, keeps and cuts them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from edgedistill.config import AUGMENTATION_NAMES
from edgedistill.data.augment import View, cut_view, cut_views, draw_view
from edgedistill.data.feeding import Feed, ahead
from edgedistill.data.keeping import ImageMemory, open_image_memory
from edgedistill.data.loader import Augmentation, Pass, open_loader
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images

PREPROCESS = Preprocess(size=(16, 16))
ROOMY = 1 << 30


class Counted:
    """A set of images that counts how often each is read."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self.reads = [0] * len(images)

    def __len__(self) -> int:
        return len(self._images)

    def __getattr__(self, name: str) -> object:
        return getattr(self._images, name)

    def read(self, index: int) -> Image.Image:
        self.reads[index] += 1
        return self._images.read(index)


@pytest.fixture
def images(tiny_digits: Path) -> Counted:
    return Counted(open_images(f"npz:{tiny_digits}").train.select(range(40)))


def joined(batches: Iterator[tuple[Tensor, ...]]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def expected(images: ImageSet, shown: Pass, epoch: int) -> list[Tensor]:
    whole = Pass(augmentation=shown.augmentation, epoch=epoch, shuffle=shown.shuffle)
    return joined(iter(open_loader(images, PREPROCESS, 7, whole)))


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("workers", "room", "cuts_late", "mixup"),
    [
        (0, ROOMY, False, 0.0),
        (0, ROOMY, True, 0.0),
        (0, ROOMY, True, 1.0),
        (2, 0, False, 0.0),
        (2, ROOMY, False, 0.0),
        (1, ROOMY, True, 0.0),
        (1, ROOMY, False, 1.0),
    ],
)
def test_every_pass_has_the_pixels_of_a_plain_loader(
    images: Counted, workers: int, room: int, cuts_late: bool, mixup: float
) -> None:
    shown = Pass(augmentation=Augmentation(name="resized-crop-flip", seed=3, mixup=mixup), shuffle=True)
    memory = ImageMemory(budget_bytes=room)
    assert memory.admit(images, PREPROCESS) is bool(room)  # type: ignore[arg-type]  # a set in all that counts
    feed = Feed(images, PREPROCESS, 7, shown, workers=workers, memory=memory, cuts_late=cuts_late)  # type: ignore[arg-type]
    assert len(feed) == 6
    for epoch in (0, 1, 4):
        assert_same(joined(feed.batches(epoch)), expected(images._images, shown, epoch))
    feed.close()
    assert memory.to_json()["workers"] == workers


def test_an_image_that_is_kept_is_decoded_once_for_all_passes(images: Counted) -> None:
    memory = ImageMemory(budget_bytes=ROOMY)
    memory.admit(images, PREPROCESS)  # type: ignore[arg-type]
    plain = Feed(images, PREPROCESS, 7, workers=0, memory=memory)  # type: ignore[arg-type]
    varied = Feed(images, PREPROCESS, 7, Pass(augmentation=Augmentation(name="crop"), shuffle=True), memory=memory)  # type: ignore[arg-type]
    joined(plain.batches())
    for epoch in range(3):
        joined(varied.batches(epoch))
    assert images.reads == [1] * 40
    assert memory.to_json()["kept_bytes"] == 40 * 16 * 16 * 3


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_what_processes_decoded_is_kept_too(images: Counted, mixup: float) -> None:
    memory = ImageMemory(budget_bytes=ROOMY)
    memory.admit(images, PREPROCESS)  # type: ignore[arg-type]
    shown = Pass(augmentation=Augmentation(name="crop", mixup=mixup), shuffle=True)
    feed = Feed(images, PREPROCESS, 8, shown, workers=1, memory=memory)  # type: ignore[arg-type]
    for epoch in range(2):
        joined(feed.batches(epoch))
    kept = memory.of(images)  # type: ignore[arg-type]
    assert kept is not None
    assert kept.missing == 0
    assert images.reads == [0] * 40  # none in this process


def test_a_memory_keeps_no_more_than_its_budget(images: Counted) -> None:
    size = 40 * 16 * 16 * 3
    memory = ImageMemory(budget_bytes=2 * size - 1)
    first, second = images.select(range(40)), images.select(range(40))  # type: ignore[operator]
    assert memory.admit(first, PREPROCESS)
    assert memory.admit(first, PREPROCESS)  # again
    assert not memory.admit(second, PREPROCESS)
    assert memory.of(second) is None
    memory.release(first, PREPROCESS)
    assert memory.admit(second, PREPROCESS)
    assert memory.of(first) is None
    assert memory.to_json()["kept_bytes"] == size


def test_a_memory_takes_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.data.keeping.read_free_memory_bytes", lambda: 1000)
    assert open_image_memory().budget_bytes == 250
    monkeypatch.setattr("edgedistill.data.keeping.read_free_memory_bytes", lambda: None)
    assert open_image_memory().budget_bytes == 0


def test_a_feed_draws_from_torch_what_a_loader_draws(images: Counted) -> None:
    torch.manual_seed(5)
    joined(iter(open_loader(images._images, PREPROCESS, 7)))
    wanted = torch.rand(3)
    for room in (0, ROOMY):
        memory = ImageMemory(budget_bytes=room)
        memory.admit(images, PREPROCESS)  # type: ignore[arg-type]
        feed = Feed(images, PREPROCESS, 7, workers=0, memory=memory)  # type: ignore[arg-type]
        for _ in range(2):
            torch.manual_seed(5)
            joined(feed.batches())
            assert torch.equal(torch.rand(3), wanted)


@given(st.data(), st.sampled_from(AUGMENTATION_NAMES), st.integers(2, 40), st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_views_of_a_batch_are_those_of_single_images_bit_for_bit(
    data: st.DataObject, name: str, height: int, width: int
) -> None:
    seed = data.draw(st.integers(0, 10_000))
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    views = [draw_view(name, (height, width), generator) for _ in pixels]
    found = cut_views(torch.from_numpy(pixels), views)
    assert found.dtype is torch.uint8
    for mine, image, view in zip(found.numpy(), pixels, views, strict=True):
        np.testing.assert_array_equal(mine, cut_view(image, view))


def one_by_one(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Cut a view with Pillow alone, or pixel by pixel where it is only moved."""
    height, width = image.shape[:2]
    if (view.height, view.width) == (height, width):
        rows = np.clip(np.arange(height) + view.top, 0, height - 1)
        columns = np.clip(np.arange(width) + view.left, 0, width - 1)
        cut = Image.fromarray(image[rows[:, None], columns])
    else:
        box = (view.left, view.top, view.left + view.width, view.top + view.height)
        cut = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(ImageOps.mirror(cut) if view.flipped else cut)


@pytest.mark.parametrize("name", AUGMENTATION_NAMES)
@pytest.mark.parametrize("room", [0, ROOMY])
def test_batches_are_what_a_slow_loop_over_images_cuts(images: Counted, name: str, room: int) -> None:
    shown = Pass(augmentation=Augmentation(name=name, seed=8), shuffle=True)
    memory = ImageMemory(budget_bytes=room)
    memory.admit(images, PREPROCESS)  # type: ignore[arg-type]
    feed = Feed(images, PREPROCESS, 7, shown, workers=0, memory=memory)  # type: ignore[arg-type]
    for epoch in (0, 3):
        pixels, labels, indices = joined(feed.batches(epoch))
        for mine, label, index in zip(pixels.numpy(), labels.tolist(), indices.tolist(), strict=True):
            whole = PREPROCESS.apply(images._images.read(index))
            np.testing.assert_array_equal(mine, one_by_one(whole, shown.augmentation.view((16, 16), epoch, index)))
            assert label == images._images.labels[index]


@given(st.integers(-30, 30), st.integers(-30, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_shift_by_any_length_repeats_the_edge(top: int, left: int, flipped: bool) -> None:
    image = np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    before = image.copy()
    view = View(top=top, left=left, height=9, width=13, flipped=flipped)
    np.testing.assert_array_equal(cut_view(image, view), one_by_one(image, view))
    np.testing.assert_array_equal(image, before)  # what memory keeps stays as it is


def test_rectangles_as_thin_as_a_pixel_are_stretched_as_pillow_does() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 224, 224, 3), dtype=np.uint8)
    views = [
        View(top=224 - h, left=0, height=h, width=w, flipped=h % 2 == 0)
        for h, w in [
            (1, 1),
            (1, 224),
            (224, 1),
            (2, 3),
            (3, 223),
            (223, 3),
            (100, 7),
            (5, 5),
            (223, 223),
            (112, 56),
            (9, 200),
            (64, 64),
        ]
    ]
    found = cut_views(torch.from_numpy(pixels), views).numpy()
    for mine, image, view in zip(found, pixels, views, strict=True):
        np.testing.assert_array_equal(mine, cut_view(image, view))


def test_what_is_made_ahead_comes_in_order_and_errors_come_where_they_belong() -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the sixth")

    source = ahead(numbers(), 2)
    assert [next(source) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="the sixth"):
        next(source)


def test_a_reader_who_stops_early_leaves_no_thread() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for each in range(100):
            made.append(each)
            yield each

    source = ahead(numbers(), 2)
    assert next(source) == 0
    source.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(made) <= 4
