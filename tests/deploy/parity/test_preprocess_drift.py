from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from edgedistill_deploy.parity.preprocess_drift import PreprocessDrift, measure_preprocess_drift, sample_bilinear
from edgedistill_deploy.records.parity import DriftRow
from edgedistill_deploy.runtimes.opening import open_session
from reference.image_sources import write_shard
from reference.measured_bundles import bundle_of, image_set
from reference.measured_models import CLASS_NAMES, images_of

CLASSES = [0, 1, 2] * 8


def measured(bundle: Bundle, images: ImageSet) -> PreprocessDrift:
    with open_session(bundle) as session:
        return measure_preprocess_drift(bundle, session, images)


def by_name(drift: PreprocessDrift) -> dict[str, DriftRow]:
    return {row.variant: row for row in drift.rows}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)[0]


def photos(folder: Path, kind: str = "png") -> ImageSet:
    """Write pictures of 40 x 56 whose every eighth pixel shows the class, and the others another, and open them as the
    product does."""
    for index, channel in enumerate(CLASSES):
        pixels = np.full((40, 56, 3), 20, dtype=np.uint8)
        pixels[..., (channel + 1) % 3] = 200
        pixels[4::10, :, (channel + 1) % 3] = 20
        pixels[5::10, :, (channel + 1) % 3] = 20
        pixels[4::10, :, channel] = pixels[5::10, :, channel] = 200
        path = folder / CLASS_NAMES[channel] / f"{index:02}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return open_images(folder).train


def test_at_the_models_size_filters_change_nothing_and_the_channel_order_does(tmp_path: Path, bundle: Bundle) -> None:
    images = image_set(tmp_path / "i.npz", images_of(CLASSES, seed=4), CLASSES)
    drift = measured(bundle, images)
    rows = by_name(drift)
    unchanged = {name for name, row in rows.items() if row.changed_share == 0}
    of_opencv = {name for name in rows if name.startswith("opencv_")}
    assert unchanged == {"as_trained", "no_antialias", "nearest", "bicubic", "lanczos", "squash"} | of_opencv
    assert all(rows[name].drop_points == 0 and rows[name].accuracy == 1 for name in unchanged)
    # Red and blue are taken for each other, green stays.
    assert rows["bgr"].accuracy == pytest.approx(1 / 3)
    assert rows["bgr"].drop_points == pytest.approx(200 / 3)
    low, high = rows["bgr"].interval
    assert 0 < low < 200 / 3 < high < 100
    assert "change nothing" in drift.notes[0]


def test_what_antialiasing_is_worth_is_measured_in_points(tmp_path: Path, bundle: Bundle) -> None:
    """Averaged over each tenth of the picture the background wins; the four nearest pixels see the stripes alone."""
    images = photos(tmp_path / "photos")
    drift = measured(bundle, images)
    rows = by_name(drift)
    assert rows["as_trained"].accuracy == 0.0
    assert rows["no_antialias"].accuracy == 1.0
    assert rows["no_antialias"].drop_points == pytest.approx(-100)
    assert rows["no_antialias"].changed_share == 1.0
    assert drift.notes == ()
    assert drift.image_count == len(CLASSES)


def test_a_reduced_decode_is_a_variant_of_jpeg_files_only(tmp_path: Path, bundle: Bundle) -> None:
    assert "reduced_decode" not in by_name(measured(bundle, photos(tmp_path / "png")))
    row = by_name(measured(bundle, photos(tmp_path / "jpg", kind="jpg")))["reduced_decode"]
    assert row.changed_share > 0


def test_images_in_shards_are_decoded_like_those_in_files(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    photos(tmp_path / "jpg", kind="jpg")
    files = sorted((tmp_path / "jpg").rglob("*.jpg"))
    samples = [(each.stem, {"jpg": each.read_bytes(), "cls": each.parent.name.encode()}) for each in files]
    shard = write_shard(tmp_path / "photos.tar", samples)
    wanted = by_name(measured(bundle, open_images(tmp_path / "jpg").train))
    assert by_name(measured(bundle, open_images(f"wds:{shard}").train)) == wanted


def test_a_crop_is_dropped_only_where_there_is_one(tmp_path: Path, bundle: Bundle) -> None:
    cropping = Preprocess(size=(4, 4), crop_fraction=0.8, resize_mode="squash").to_json()
    cropped = bundle.with_fields(preprocess=cropping)
    images = photos(tmp_path / "photos")
    assert "no_crop" not in by_name(measured(bundle, images))
    names = set(by_name(measured(cropped, images)))
    assert {"no_crop", "crop"} <= names
    assert "squash" not in names


def test_images_at_the_models_size_among_others_are_counted(tmp_path: Path, bundle: Bundle) -> None:
    photos(tmp_path / "mixed")
    Image.fromarray(images_of([0])[0]).save(tmp_path / "mixed" / "red" / "small.png")
    drift = measured(bundle, open_images(tmp_path / "mixed").train)
    assert drift.notes == ("1 of 25 images have the model's size already: filters change nothing there.",)


def test_a_large_set_is_sampled_and_said(tmp_path: Path, bundle: Bundle) -> None:
    classes = [0, 1, 2] * 400
    drift = measured(bundle, image_set(tmp_path / "many.npz", images_of(classes), classes))
    assert drift.image_count == 1000
    assert drift.notes[1] == "Measured on 1000 of the 1200 images given."


def test_progress_counts_images(tmp_path: Path, bundle: Bundle) -> None:
    classes = [0, 1, 2] * 30
    images = image_set(tmp_path / "some.npz", images_of(classes), classes)
    seen: list[tuple[int, int]] = []
    with open_session(bundle) as session:
        measure_preprocess_drift(
            bundle, session, images, progress=lambda done, total, note="": seen.append((done, total))
        )
    assert seen == [(64, 90), (90, 90)]


def test_without_images_nothing_is_measured(tmp_path: Path, bundle: Bundle) -> None:
    images = image_set(tmp_path / "i.npz", images_of([0]), [0])
    with pytest.raises(DataError, match="No image of the bundle's classes is there"):
        measured(bundle, images.select([]))


@pytest.mark.parametrize("size", [(5, 4), (31, 17), (90, 41), (30, 20)])
def test_sampling_is_torchs_interpolation_without_antialiasing(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    expected = torch.nn.functional.interpolate(tensor, (size[1], size[0]), mode="bilinear", antialias=False)
    given = np.asarray(sample_bilinear(Image.fromarray(pixels), size)).astype(np.float64)
    assert np.abs(given - expected[0].permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-6


def test_sampling_is_what_opencv_does() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is a variant where it is installed")
    pixels: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)
    for size in ((13, 29), (100, 80)):
        expected = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR).astype(np.int16)
        given = np.asarray(sample_bilinear(Image.fromarray(pixels), size)).astype(np.int16)
        assert np.abs(given - expected).max() <= 1


def test_opencvs_filters_are_variants_where_it_is_installed(tmp_path: Path, bundle: Bundle) -> None:
    pytest.importorskip("cv2", reason="OpenCV is a variant where it is installed")
    rows = by_name(measured(bundle, photos(tmp_path / "photos")))
    assert rows["opencv_linear"].accuracy == rows["no_antialias"].accuracy
    assert rows["opencv_area"].accuracy == rows["as_trained"].accuracy
