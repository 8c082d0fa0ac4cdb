"""Measures the accuracy lost if a device prepares its images in another way than the contract.

Each variant is a known difference between pipelines: another library's filter, no antialiasing, a crop in place of
squeezing, blue before red, a JPEG decoder that scales while it decodes. The model runs on the same images prepared both
ways.
"""

import importlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.evaluation.figures import count_lost_and_gained, predicted_classes
from edgedistill_deploy.evaluation.images import choose_classes
from edgedistill_deploy.images.colour import rgb_of
from edgedistill_deploy.images.encoded.sets import EncodedImages
from edgedistill_deploy.images.preprocess import INTERPOLATIONS, Preprocess, Resize
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.parity import DriftRow
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.session import Session
from edgedistill_deploy.statistics.paired import drop_interval

MAX_IMAGES = 1000
BATCH = 64
BASELINE = "as_trained"

Pixels = NDArray[np.uint8]
Prepare = Callable[[ImageSet, int], Pixels]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessDrift:
    """The measured variants, the contract's own way first, and the number of images; `notes` are sentences."""

    rows: tuple[DriftRow, ...]
    image_count: int
    notes: tuple[str, ...] = ()


def measure_preprocess_drift(
    bundle: Bundle, session: Session, images: ImageSet, confidence: float = 0.95, progress: Progress = silent
) -> PreprocessDrift:
    """Run the model on up to `MAX_IMAGES` of the images, spread evenly, prepared in every variant.

    The images have labels and their original sizes. `progress` counts images. Raises DataError if there is no labelled
    image of the bundle's classes.
    """
    chosen = _choose_images(bundle, images)
    variants = _variants(bundle.preprocess, chosen)
    tallies = {name: _Tally() for name in variants}
    for start in range(0, len(chosen), BATCH):
        batch = chosen.select(np.arange(start, min(start + BATCH, len(chosen))))
        _tally(session, batch, variants, tallies)
        progress(start + len(batch), len(chosen), "images, prepared in several ways")
    before = np.concatenate(tallies[BASELINE].right)
    return PreprocessDrift(
        rows=tuple(_row(name, what, before, tallies[name], confidence) for name, (what, _) in variants.items()),
        image_count=len(chosen),
        notes=tuple(_notes(bundle.preprocess, chosen, len(images))),
    )


@dataclass(slots=True, kw_only=True)
class _Tally:
    """The images of one variant so far: which were right, which inputs changed, and by how much on average."""

    right: list[NDArray[np.bool_]] = field(default_factory=list)
    changed: list[NDArray[np.bool_]] = field(default_factory=list)
    difference: list[NDArray[np.float64]] = field(default_factory=list)


def _tally(
    session: Session, batch: ImageSet, variants: dict[str, tuple[str, Prepare]], tallies: dict[str, _Tally]
) -> None:
    """Run one batch in every variant; inputs that did not change are not run again."""
    plain = _prepare_images(batch, variants[BASELINE][1])
    plain_right = _right(session, plain, batch.labels)
    for name, (_, prepare) in variants.items():
        other = plain if name == BASELINE else _prepare_images(batch, prepare)
        difference = np.abs(other.astype(np.int16) - plain).mean(axis=(1, 2, 3))
        changed, right = difference > 0, plain_right.copy()
        if changed.any():
            right[changed] = _right(session, other[changed], batch.labels[changed])
        tallies[name].right.append(right)
        tallies[name].changed.append(changed)
        tallies[name].difference.append(difference)


def sample_bilinear(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an RGB image to (width, height) by interpolating between the four nearest pixels, without antialiasing.

    OpenCV's INTER_LINEAR and torch's interpolate(antialias=False) do the same, up to rounding. Pixel centres lie at
    half steps. A strong reduction skips pixels between them.
    """
    pixels = np.asarray(image, dtype=np.float64)
    for axis, wanted in ((0, size[1]), (1, size[0])):
        places = np.clip((np.arange(wanted) + 0.5) * pixels.shape[axis] / wanted - 0.5, 0, pixels.shape[axis] - 1)
        below = np.floor(places).astype(np.int64)
        above = np.minimum(below + 1, pixels.shape[axis] - 1)
        share = (places - below).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = np.take(pixels, below, axis) * (1 - share) + np.take(pixels, above, axis) * share
    return Image.fromarray(np.floor(pixels + 0.5).astype(np.uint8))


def _choose_images(bundle: Bundle, images: ImageSet) -> ImageSet:
    subtask = choose_classes(images, bundle)
    labelled = subtask.select(subtask.labels >= 0)
    if len(labelled) == 0:
        raise DataError("No image of the bundle's classes is there to measure the preprocessing on.")
    return labelled.select(np.unique(np.linspace(0, len(labelled) - 1, MAX_IMAGES).round().astype(np.int64)))


def _variants(preprocess: Preprocess, images: ImageSet) -> dict[str, tuple[str, Prepare]]:
    """Return each variant's name, description and preparation of image i of a set; the contract's own way is first."""
    found = {BASELINE: ("as the contract says", _by(preprocess.apply))}
    unfiltered = "bilinear from the four nearest pixels, without antialiasing"
    found["no_antialias"] = (unfiltered, _with(preprocess, sample_bilinear))
    found.update(_opencv_variants(preprocess))
    for name in INTERPOLATIONS:
        if name != preprocess.interpolation:
            other = replace(preprocess, interpolation=name)
            found[name] = (f"{name} in place of {preprocess.interpolation}", _by(other.apply))
    found.update(_shape_variants(preprocess))
    found["bgr"] = ("blue before red", _by(lambda image: np.ascontiguousarray(preprocess.apply(image)[..., ::-1])))
    if isinstance(images, EncodedImages) and any(_is_jpeg(images.name(row)) for row in range(len(images))):
        found["reduced_decode"] = ("JPEG decoded at reduced size, as fast loaders do", _build_reduced(preprocess))
    return found


def _by(apply: Callable[[Image.Image], Pixels]) -> Prepare:
    return lambda images, index: apply(images.read(index))


def _shape_variants(preprocess: Preprocess) -> Iterator[tuple[str, tuple[str, Prepare]]]:
    squash = preprocess.resize_mode == "squash"
    other = replace(preprocess, resize_mode="shortest" if squash else "squash")
    what = "shorter side scaled, then cropped" if squash else "squeezed to the size, aspect lost"
    yield ("crop" if squash else "squash"), (what, _by(other.apply))
    if preprocess.crop_fraction < 1:
        whole = replace(preprocess, crop_fraction=1.0)
        yield "no_crop", (f"all in place of the middle {preprocess.crop_fraction:.3g}", _by(whole.apply))


def _opencv_variants(preprocess: Preprocess) -> Iterator[tuple[str, tuple[str, Prepare]]]:
    """Yield OpenCV's own filters if it is installed; `no_antialias` is equal to its default."""
    if importlib.util.find_spec("cv2") is None:
        return
    cv2 = importlib.import_module("cv2")
    for name, flag in (("opencv_linear", cv2.INTER_LINEAR), ("opencv_area", cv2.INTER_AREA)):
        resize = _opencv_resize(cv2.resize, flag)
        yield name, (f"OpenCV's {name.partition('_')[2]} filter", _with(preprocess, resize))


def _opencv_resize(scale: Callable[..., Pixels], flag: int) -> Resize:
    return lambda image, size: Image.fromarray(scale(np.asarray(image), size, interpolation=flag))


def _with(preprocess: Preprocess, resize: Resize) -> Prepare:
    return _by(lambda image: preprocess.apply_with(image, resize))


def _is_jpeg(name: str) -> bool:
    return Path(name).suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")


def _build_reduced(preprocess: Preprocess) -> Prepare:
    def prepare(images: ImageSet, index: int) -> Pixels:
        assert isinstance(images, EncodedImages)
        images.read(index)  # raises the same errors as the contract's way
        source = images.source(index)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.draft("RGB", (preprocess.size[1], preprocess.size[0]))
            return preprocess.apply(rgb_of(ImageOps.exif_transpose(image)))

    return prepare


def _prepare_images(images: ImageSet, prepare: Prepare) -> Pixels:
    return np.stack([prepare(images, index) for index in range(len(images))])


def _right(session: Session, prepared: Pixels, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.equal(predicted_classes(raw_logits(session, prepared)), labels)


def _row(name: str, what: str, before: NDArray[np.bool_], tally: _Tally, confidence: float) -> DriftRow:
    after = np.concatenate(tally.right)
    lost, gained = count_lost_and_gained(before, after)
    low, high = drop_interval(lost, gained, len(after), confidence)
    return DriftRow(
        variant=name,
        what=what,
        accuracy=float(after.mean()),
        drop_points=100 * (lost - gained) / len(after),
        interval=(0.0, 0.0) if name == BASELINE else (100 * low, 100 * high),
        changed_share=float(np.concatenate(tally.changed).mean()),
        mean_abs_difference=float(np.concatenate(tally.difference).mean()),
    )


def _notes(preprocess: Preprocess, images: ImageSet, given: int) -> Iterator[str]:
    unscaled = sum(preprocess.leaves_unscaled(images.read(index)) for index in range(len(images)))
    if unscaled == len(images):
        yield (
            "The images have the model's size already: filters and antialiasing change nothing; measure on images of "
            "the size that the camera gives."
        )
    elif unscaled:
        yield f"{unscaled} of {len(images)} images have the model's size already: filters change nothing there."
    if len(images) < given:
        yield f"Measured on {len(images)} of the {given} images given."
