"""The comparison of two latency records: whether they differ by more than a machine varies by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.records.writing import SCHEMA, PlainRecord
from edgedistill_deploy.statistics.quantiles import Samples

ComparisonVerdict = Literal["faster", "slower", "equal", "inconclusive"]
Interval = tuple[float, float]

_RESAMPLES = 1000
_LONGEST_BLOCK = 50
_MOST_BYTES = 64 << 20
_SHOULD_MATCH = ("threads", "provider", "runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyComparison(PlainRecord):
    """The ratio of median latencies, candidate over baseline, with a bootstrap interval.

    Below 1 the candidate is faster. `verdict` is "faster" or "slower" when the whole interval lies more than `margin`
    from 1, "equal" when it lies within `margin`, otherwise "inconclusive". `notes` name what else differs between the
    two records, and the flags of both.
    """

    ratio: float
    interval: Interval
    confidence: float
    margin: float
    verdict: ComparisonVerdict
    notes: tuple[str, ...]


def read_latencies(path: Path) -> tuple[dict[str, Any], ...]:
    """Read a latency record, or the set that `profile --json` prints. Raises DataError for anything else."""
    try:
        record = None if path.stat().st_size > _MOST_BYTES else parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a latency record: {error}.") from error
    if isinstance(record, dict) and record.get("kind") == "latency-set" and isinstance(record.get("records"), list):
        return tuple(_check_record(each, path) for each in record["records"])
    return (_check_record(record, path),)


def _check_record(record: Any, path: Path) -> dict[str, Any]:
    if not isinstance(record, dict) or record.get("kind") != "latency" or record.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a latency record of schema {SCHEMA}; `edgedistill profile` writes them.")
    _samples(record)
    return record


def compare_latency(
    candidate: Mapping[str, Any],
    baseline: Mapping[str, Any],
    *,
    margin: float = 0.03,
    confidence: float = 0.95,
    seed: int = 0,
) -> LatencyComparison:
    """Compare two records of `LatencyReport.to_json`.

    The interval resamples blocks of consecutive runs, because neighbouring runs resemble each other. It does not
    contain the difference between two processes; `margin` allows for that (medians of fresh processes vary by about 1 %
    on a quiet machine). Raises UsageError when the batch sizes differ, or a setting is out of range.
    """
    require_settings(margin, confidence)
    one, other = candidate["batch_size"], baseline["batch_size"]
    if one != other:
        raise UsageError(f"The two records cannot be compared: batch_size is {one} in one and {other} in the other.")
    random = np.random.default_rng(seed)
    ours, theirs = _samples(candidate), _samples(baseline)
    ratios = _resample_medians(ours, random) / _resample_medians(theirs, random)
    interval = middle_of(ratios, confidence)
    return LatencyComparison(
        ratio=float(np.median(ours) / np.median(theirs)),
        interval=interval,
        confidence=confidence,
        margin=margin,
        verdict=verdict_of(interval, margin),
        notes=tuple(_notes(candidate, baseline)),
    )


def require_settings(margin: float, confidence: float) -> None:
    """Raise UsageError for a margin or a confidence that does not lie between 0 and 1."""
    if not 0 <= margin < 1 or not 0 < confidence < 1:
        raise UsageError(f"margin is {margin} and confidence {confidence}; both must lie between 0 and 1.")


def middle_of(ratios: Samples, confidence: float) -> Interval:
    """Return the interval in which the middle share `confidence` of the resampled ratios lies."""
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _samples(record: Mapping[str, Any]) -> Samples:
    """Return the samples in ms. Raises DataError unless all are positive and finite, and there is one."""
    try:
        samples = np.asarray(record.get("samples_ms"), dtype=np.float64)
    except (TypeError, ValueError):
        samples = np.empty(0)
    if samples.ndim != 1 or len(samples) == 0 or not np.isfinite(samples).all() or (samples <= 0).any():
        raise DataError("A latency record holds no usable samples_ms: positive numbers are needed, at least one.")
    return samples


def _resample_medians(samples: Samples, random: np.random.Generator) -> Samples:
    """Return the medians of circular block bootstrap samples, (1000,)."""
    n = len(samples)
    block = max(1, min(_LONGEST_BLOCK, round(n ** (1 / 2))))
    resamples = (circular_blocks(random.integers(0, n, -(-n // block)), block, n) for _ in range(_RESAMPLES))
    return np.array([np.median(samples[rows]) for rows in resamples])


def circular_blocks(starts: NDArray[np.int64], length: int, count: int) -> NDArray[np.int64]:
    """Return rows (..., count): `length` rows from each of `starts` (..., blocks), where row 0 follows the last row."""
    rows = (starts[..., None] + np.arange(length)).reshape(*starts.shape[:-1], -1)
    return np.asarray(rows[..., :count] % count, dtype=np.int64)


def verdict_of(interval: Interval, margin: float) -> ComparisonVerdict:
    """Return what an interval of the ratio means at a margin."""
    low, high = interval
    if high < 1 - margin:
        return "faster"
    if low > 1 + margin:
        return "slower"
    return "equal" if 1 - margin <= low and high <= 1 + margin else "inconclusive"


def _notes(candidate: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    notes = [
        f"{name} is {candidate.get(name)} here and {baseline.get(name)} in the baseline."
        for name in _SHOULD_MATCH
        if candidate.get(name) != baseline.get(name)
    ]
    devices = [str((record.get("device") or {}).get("name")) for record in (candidate, baseline)]
    if devices[0] != devices[1]:
        notes.append(f"The devices differ: {devices[0]} here, {devices[1]} in the baseline.")
    for side, record in (("This measurement", candidate), ("The baseline", baseline)):
        if record.get("flags"):
            notes.append(f"{side} is doubtful: {', '.join(map(str, record['flags']))}.")
    return notes
