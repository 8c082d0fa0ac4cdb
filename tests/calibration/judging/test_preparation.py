"""Prepared images are those of every other reader, and are decoded once where memory allows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from edgedistill_calibration.judging import judge
from edgedistill_calibration.judging.judge import ImageCount, Preparation
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet, batches
from edgedistill_deploy.progress import Phases
from reference.fitted_networks import shape_images
from reference.shape_bundles import labelled

PREPROCESS = Preprocess(size=(16, 12), crop_fraction=0.9)


@dataclass(frozen=True)
class Counted:
    """A set of images that counts how often each is read."""

    images: ImageSet
    reads: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)

    def read(self, index: int) -> Image.Image:
        self.reads.append(self.images.digest(index))
        return self.images.read(index)

    def select(self, indices: Sequence[int]) -> "Counted":
        return Counted(self.images.select(indices), self.reads)


@pytest.fixture
def images(tmp_path: Path) -> Counted:
    return Counted(labelled(tmp_path / "shapes.npz", *shape_images(5, seed=1)))


def preparation() -> Preparation:
    work = ImageCount(phases=Phases(lambda *_: None, {"all": 1.0}))
    work.begin("all", 1)
    return Preparation(preprocess=PREPROCESS, work=work)


def pixels(prepared: Preparation, images: Counted, batch_size: int) -> np.ndarray:
    return np.concatenate(list(prepared.batches(cast(ImageSet, images), batch_size)))


@pytest.mark.parametrize(("kept", "reads"), [(20, 20), (6, 20 + 2 * 14), (0, 3 * 20)])
def test_a_later_pass_and_a_part_of_the_images_decode_what_was_not_kept(
    kept: int, reads: int, images: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "KEPT_BYTES", kept * 16 * 12 * 3)
    wanted = np.concatenate(list(batches(images.images, PREPROCESS, 20)))
    prepared = preparation()
    np.testing.assert_array_equal(pixels(prepared, images, 7), wanted)
    np.testing.assert_array_equal(pixels(prepared, images, 3), wanted)
    backwards = images.select(range(19, -1, -1))
    np.testing.assert_array_equal(pixels(prepared, backwards, 20), wanted[::-1])
    assert len(images.reads) == reads
    assert prepared.work.done == 60
