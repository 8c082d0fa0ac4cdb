"""The range of every activation, measured on a few images at a time: memory does not grow with their number."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_calibration.config import PERCENTILES
from edgedistill_calibration.graphs.reading import GROUP, ActivationReader, Floats, Images, blocks
from edgedistill_calibration.ranges._least_squares import least_squares_range
from edgedistill_deploy.errors import BundleError, EdgeDistillError
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.files.writing import write_json

Range = tuple[float, float]
Ranges = Mapping[str, Range]

AVERAGING = 0.1
BINS = 8192
COUNTED_VALUES = 600_000_000  # enough for the histograms of a model; large ones need fewer images for so many
FEWEST_COUNTED = 64  # images
SMALLEST_SPAN = np.float32(1e-30)  # a value with a smaller span is constant: its bins would overflow float32
AS_TRAINED = "as-trained"  # ranges of the student's training, not measured


def measure_ranges(
    reader: ActivationReader, groups: Callable[[int], Iterable[Images]], candidates: Sequence[str]
) -> dict[str, dict[str, Range]]:
    """Return each candidate's range of every value.

    `minmax` is the smallest and largest value seen. `moving-average` averages the extremes of `GROUP` images at a
    time exponentially. `percentile-P` leaves (100 - P) / 2 percent of the values outside on either side, by a histogram
    of `BINS` bins over the extremes, which takes a second pass over the images, or over those that hold
    `COUNTED_VALUES`, but not fewer than `FEWEST_COUNTED`. `least-squares` is the clipping of least squared error
    in the same histogram; the ranges for types with zero point 0 differ and are `least-squares-symmetric`.

    For each pass `groups` is called with `GROUP`; it gives so many prepared images (n, H, W, 3) at a time.

    Raises:
        EdgeDistillError: a value is not finite.
    """
    extremes, averages = _measure_extremes(reader, groups(GROUP))
    measured = {"minmax": extremes, "moving-average": averages}
    if needs_histograms(candidates):
        counts = _count_values(reader, groups(GROUP), extremes)
        for name, percentile in PERCENTILES.items():
            measured[name] = _inner_ranges(counts, extremes, percentile)
        measured["least-squares"] = _least_squares(counts, extremes, symmetric=False)
        measured[symmetric("least-squares")] = _least_squares(counts, extremes, symmetric=True)
    names = [name for method in candidates for name in dict.fromkeys((method, symmetric(method))) if name in measured]
    return {name: _by_value(reader.names, measured[name]) for name in names}


def needs_histograms(candidates: Sequence[str]) -> bool:
    """Say whether one of these ways needs a second pass over the images."""
    return any(name in PERCENTILES or name == "least-squares" for name in candidates)


def range_passes(candidates: Sequence[str]) -> int:
    """Return how often `measure_ranges` reads the images."""
    return 1 + needs_histograms(candidates)


def symmetric(method: str) -> str:
    """Return the name in `measure_ranges` of a method's ranges for types with zero point 0."""
    return f"{method}-symmetric" if method in ("least-squares", AS_TRAINED) else method


def read_ranges(path: Path) -> dict[str, Ranges]:
    """Return what `write_ranges` wrote, as ranges of a student's training.

    Raises:
        BundleError: the file holds something else.
    """
    try:
        record = read_json(path)
        return {
            name: {value: (float(low), float(high)) for value, (low, high) in record[key].items()}
            for name, key in ((AS_TRAINED, "ranges"), (symmetric(AS_TRAINED), "symmetric_ranges"))
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} does not hold the ranges of a calibration; calibrate the bundle again.") from error


def write_ranges(bundle_path: Path, ranges: Ranges, symmetric_ranges: Ranges, method: str, model_sha256: str) -> Path:
    """Write the ranges of every value of the prepared float graph, by its name, to calibration/ranges.json.

    `ranges` is for types with a zero point, `symmetric_ranges` for types without.
    """
    record = {"kind": "ranges", "schema": 1, "method": method, "model_sha256": model_sha256}
    path = bundle_path / "calibration" / "ranges.json"
    write_json(path, {**record, "ranges": ranges, "symmetric_ranges": symmetric_ranges}, inside=bundle_path)
    return path


def _measure_extremes(reader: ActivationReader, groups: Iterable[Images]) -> tuple[Floats, Floats]:
    """Return the extremes (V, 2) over all images and their moving average over groups."""
    extremes = averages = None
    for group in groups:
        seen = _group_extremes(reader, group)
        extremes = seen if extremes is None else _merge(extremes, seen)
        averages = seen if averages is None else averages + np.float32(AVERAGING) * (seen - averages)
    if extremes is None or averages is None:
        raise EdgeDistillError("There are no images to measure ranges on.")
    return extremes, averages


def _group_extremes(reader: ActivationReader, group: Images) -> Floats:
    parts = [np.array([(value.min(), value.max()) for value in values], np.float32) for values in reader.read(group)]
    bounds = np.stack([np.min(parts, axis=0)[:, 0], np.max(parts, axis=0)[:, 1]], axis=1)
    bad = np.flatnonzero(~np.isfinite(bounds).all(axis=1))
    if bad.size:
        raise EdgeDistillError(
            f"The student's value {reader.names[bad[0]]!r} is not finite on calibration images, so it has no"
            " INT8 range; train the student again."
        )
    return bounds


def _merge(first: Floats, second: Floats) -> Floats:
    return np.stack([np.minimum(first[:, 0], second[:, 0]), np.maximum(first[:, 1], second[:, 1])], axis=1)


def _count_values(reader: ActivationReader, groups: Iterable[Images], extremes: Floats) -> NDArray[np.int64]:
    """Return histograms (V, BINS) of every value, over bins of equal width between its extremes."""
    counts = np.zeros((len(reader.names), BINS), np.int64)
    images = 0
    for group in groups:
        for values in reader.read(group):
            _count(counts, values, extremes)
        images += len(group)
        if images >= FEWEST_COUNTED and counts.sum() >= COUNTED_VALUES:
            break
    return counts


def _count(counts: NDArray[np.int64], values: Sequence[Floats], extremes: Floats) -> None:
    for row, value, (low, high) in zip(counts, values, extremes, strict=True):
        if high - low > SMALLEST_SPAN:
            for block in blocks(value):
                place = ((block - low) * (np.float32(BINS) / (high - low))).astype(np.int32)
                row += np.bincount(np.clip(place, 0, BINS - 1, out=place), minlength=BINS)


def _inner_ranges(counts: NDArray[np.int64], extremes: Floats, percentile: float) -> Floats:
    """Return the range (V, 2) that holds `percentile` percent of each value, interpolated in its histogram."""
    tail = (1 - percentile / 100) / 2
    inner = extremes.copy()
    for row, bounds in zip(counts, inner, strict=True):
        if row.any():
            share = np.concatenate([[0.0], np.cumsum(row) / row.sum()])
            edges = np.linspace(bounds[0], bounds[1], BINS + 1)
            bounds[:] = np.interp([tail, 1 - tail], share, edges)
    return inner


def _least_squares(counts: NDArray[np.int64], extremes: Floats, *, symmetric: bool) -> Floats:
    found = [
        least_squares_range(row, float(low), float(high), symmetric=symmetric)
        for row, (low, high) in zip(counts, extremes, strict=True)
    ]
    return np.array(found, np.float32).reshape(extremes.shape)


def _by_value(names: Sequence[str], bounds: Floats) -> dict[str, Range]:
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, bounds, strict=True)}
