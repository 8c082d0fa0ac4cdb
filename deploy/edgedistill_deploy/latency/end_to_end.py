"""The time from the bytes of a JPEG to the logits, with decoding and resizing."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.clock import MACHINE_CLOCK, Clock
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.latency._warm_up import warm_up
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.records.writing import PlainRecord
from edgedistill_deploy.runtimes.session import Session
from edgedistill_deploy.statistics.quantiles import OpenInterval, quantile_intervals, quantiles

PARTS = ("decode", "resize", "inference")
JPEG_SIZE = (640, 480)  # a small camera's picture
_JPEG_QUALITY = 90
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTimes:
    """The times of one part; `share` is the part's share of the mean time."""

    name: str
    p50_ms: float
    p90_ms: float
    p99_ms: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEndReport(PlainRecord):
    """Times from the JPEG's bytes to the logits, one image at a time; `source` says what the JPEGs were."""

    source: str
    jpeg_bytes: int
    runs: int
    samples_ms: tuple[float, ...]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    intervals: dict[str, OpenInterval]
    parts: tuple[PartTimes, ...]


def jpegs_of(images: NDArray[np.uint8], size: tuple[int, int] = JPEG_SIZE) -> tuple[bytes, ...]:
    """Enlarge images, uint8 (n, H, W, 3), to `size`, (width, height) in pixels; return JPEG files of quality 90."""
    return tuple(_jpeg(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images)


def measure_bundle_end_to_end(
    session: Session, bundle: Bundle, images: NDArray[np.uint8], config: LatencyConfig
) -> EndToEndReport:
    """Measure on the images of the bundle, enlarged to the size of a camera's picture."""
    source = f"images of the bundle enlarged to {JPEG_SIZE[0]} x {JPEG_SIZE[1]} pixels, JPEG quality {_JPEG_QUALITY}"
    return measure_end_to_end(session, bundle.preprocess, jpegs_of(images), config, source)


def measure_end_to_end(
    session: Session,
    preprocess: Preprocess,
    jpegs: Sequence[bytes],
    config: LatencyConfig,
    source: str,
    clock: Clock = MACHINE_CLOCK,
) -> EndToEndReport:
    """Decode, prepare and run one JPEG after another, for the time and the number of runs in `config`.

    Raises DataError when there is no JPEG, or when one cannot be read.
    """
    if not jpegs:
        raise DataError("Measuring end to end needs at least one JPEG and got none.")
    turn = _Turn(session, preprocess, jpegs, clock)
    warm_up(turn, clock, least_runs=config.warmup_runs, least_s=config.warmup_s, most_s=config.warmup_limit_s)
    turn.moments.clear()
    began = clock.now_ns()
    while len(turn.moments) < config.max_runs:
        turn()
        if clock.now_ns() - began >= config.duration_s * 1e9 and len(turn.moments) >= config.min_runs:
            break
    parts_ms = np.diff(np.asarray(turn.moments, np.float64), axis=1) / _NS_PER_MS
    return _report(parts_ms, source, int(np.mean([len(jpeg) for jpeg in jpegs])))


class _Turn:
    """Run the next image at each call, and keep the moments between the parts."""

    def __init__(self, session: Session, preprocess: Preprocess, jpegs: Sequence[bytes], clock: Clock) -> None:
        self._session, self._preprocess, self._jpegs, self._clock = session, preprocess, jpegs, clock
        self.moments: list[tuple[int, int, int, int]] = []

    def __call__(self) -> None:
        jpeg = self._jpegs[len(self.moments) % len(self._jpegs)]
        began = self._clock.now_ns()
        image = read_image(jpeg)
        decoded = self._clock.now_ns()
        prepared = np.ascontiguousarray(self._preprocess.apply(image)[None])
        resized = self._clock.now_ns()
        self._session.run({"image": prepared})
        self.moments.append((began, decoded, resized, self._clock.now_ns()))


def _report(parts_ms: NDArray[np.float64], source: str, jpeg_bytes: int) -> EndToEndReport:
    totals = parts_ms.sum(axis=1)
    whole = float(totals.mean())
    return EndToEndReport(
        source=source,
        jpeg_bytes=jpeg_bytes,
        runs=len(totals),
        samples_ms=tuple(totals.tolist()),
        **quantiles(totals),
        intervals=quantile_intervals(totals),
        parts=tuple(
            PartTimes(name=name, **quantiles(times), share=float(times.mean()) / whole if whole > 0 else 0.0)
            for name, times in zip(PARTS, parts_ms.T, strict=True)
        ),
    )


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
