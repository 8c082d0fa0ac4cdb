import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.errors import BundleError, DataError
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.golden import (
    GoldenImages,
    compare_golden_images,
    device_preparation,
    make_golden_images,
    read_golden_images,
    write_golden_images,
)
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.parity.preprocess_drift import sample_bilinear

CONTRACT = Preprocess(size=(32, 48), crop_fraction=0.875)
GOLDEN = make_golden_images(CONTRACT)


def failed(prepare: Callable[[bytes], NDArray[np.uint8]]) -> set[str]:
    return {result.name for result in compare_golden_images(GOLDEN, prepare) if not result.passed}


def test_what_is_written_is_read_and_comes_out_the_same_here(tmp_path: Path) -> None:
    write_golden_images(tmp_path / "golden-images.npz", GOLDEN)
    golden = read_golden_images(tmp_path / "golden-images.npz")
    assert (golden.names, golden.files) == (GOLDEN.names, GOLDEN.files)
    results = compare_golden_images(golden, device_preparation(CONTRACT))
    assert all(result.passed and result.max_abs_difference == 0 for result in results)


def test_the_files_are_of_several_kinds_with_odd_sides_and_fit_the_budget(tmp_path: Path) -> None:
    opened = [Image.open(io.BytesIO(content)) for content in GOLDEN.files]
    assert {image.format for image in opened} == {"PNG", "JPEG"}
    assert {image.mode for image in opened} == {"RGB", "RGBA", "L"}
    assert all(side % 2 == 1 for image in opened for side in image.size)
    assert any(image.height < 32 for image in opened)
    assert any(image.height > 48 for image in opened)
    assert any(image.getexif().get(0x0112) == 6 for image in opened)
    large = make_golden_images(Preprocess(size=(224, 224)))
    write_golden_images(tmp_path / "large.npz", large)
    assert (tmp_path / "large.npz").stat().st_size < 2_000_000


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "lanczos"])
def test_another_filter_fails(interpolation: str) -> None:
    other = replace(CONTRACT, interpolation=interpolation)
    assert failed(device_preparation(other)) >= {"portrait.png", "small.png"}


def test_scaling_without_antialiasing_fails() -> None:
    names = failed(lambda content: CONTRACT.apply_with(read_image(content), sample_bilinear))
    assert names >= {"landscape.jpg", "portrait.png", "grey.png"}


def test_another_channel_order_fails_on_every_coloured_file() -> None:
    plain = device_preparation(CONTRACT)
    assert failed(lambda content: plain(content)[..., ::-1].copy()) == set(GOLDEN.names) - {"grey.png"}


def test_a_decoder_that_forgets_the_orientation_fails_where_there_is_one() -> None:
    assert failed(lambda content: CONTRACT.apply(Image.open(io.BytesIO(content)).convert("RGBA"))) == {"turned.jpg"}


def test_a_rounding_step_in_every_value_passes() -> None:
    plain = device_preparation(CONTRACT)

    def nudged(content: bytes) -> NDArray[np.uint8]:
        moved = plain(content).astype(np.int16) + 1
        return np.clip(moved, 0, 255).astype(np.uint8)

    results = compare_golden_images(GOLDEN, nudged)
    assert all(result.passed and result.max_abs_difference == 1 for result in results)
    assert all((result.differing_share or 0) > 0.9 for result in results)


def test_an_input_of_another_size_or_kind_fails_and_says_so() -> None:
    results = compare_golden_images(GOLDEN, lambda content: np.zeros((4, 4, 3), np.float32))
    assert not any(result.passed for result in results)
    assert results[0].problem == "it became float32 (4, 4, 3) where uint8 (32, 48, 3) was recorded"


def test_a_file_that_the_device_cannot_decode_fails_and_says_so() -> None:
    def refuse(content: bytes) -> NDArray[np.uint8]:
        raise DataError("no such decoder")

    assert compare_golden_images(GOLDEN, refuse)[0].problem == "no such decoder"


def test_files_and_images_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(DataError, match=r"6 names, 5 files and prepared images of shape \(6, 32, 48, 3\) do not fit"):
        GoldenImages(names=GOLDEN.names, files=GOLDEN.files[:5], prepared=GOLDEN.prepared)


@pytest.mark.parametrize("ends", [[5], [200], [9, 4], []])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, ends: list[int]) -> None:
    path = tmp_path / "golden-images.npz"
    np.savez(
        path,
        names=np.array(["a.png"] * len(ends), dtype="U5"),
        content=np.zeros(9, np.uint8),
        ends=np.array(ends, dtype=np.int64),
        prepared=np.zeros((1, 2, 2, 3), np.uint8),
    )
    with pytest.raises(BundleError, match=r"golden-images\.npz is damaged: the ends of its files do not fit"):
        read_golden_images(path)


def test_a_file_with_too_few_images_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "golden-images.npz"
    np.savez(
        path,
        names=np.array(["a.png"]),
        content=np.zeros(9, np.uint8),
        ends=np.array([9]),
        prepared=np.zeros((2, 2, 2, 3), np.uint8),
    )
    with pytest.raises(BundleError, match=r"golden-images\.npz is damaged: 1 names, 1 files"):
        read_golden_images(path)
