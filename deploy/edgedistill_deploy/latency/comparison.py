"""Two latency records side by side: is the one faster than the other, by more than machines vary by themselves?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.records.writing import SCHEMA, plain
from edgedistill_deploy.statistics.quantiles import Samples

ComparisonVerdict = Literal["faster", "slower", "equal", "inconclusive"]

_RESAMPLES = 1000
_LONGEST_BLOCK = 50
_MOST_BYTES = 64 << 20
_MUST_MATCH = ("batch_size",)
_SHOULD_MATCH = ("threads", "provider", "runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyComparison:
    """The ratio of median latencies, candidate over baseline, with a bootstrap interval; below 1 the candidate is
    faster.

    `verdict` is "faster" or "slower" when the whole interval lies beyond `margin` of 1, "equal" when it lies within,
    otherwise "inconclusive". `notes` name what differs between the two beside the candidate, and the flags that either
    carries.
    """

    ratio: float
    interval: tuple[float, float]
    confidence: float
    margin: float
    verdict: ComparisonVerdict
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return dict(plain(self))


def read_latencies(path: Path) -> tuple[dict[str, Any], ...]:
    """Read a latency record, or the set of them that `profile --json` prints; DataError for anything else."""
    record = _read(path)
    if isinstance(record, dict) and record.get("kind") == "latency-set" and isinstance(record.get("records"), list):
        return tuple(_check_record(each, path) for each in record["records"])
    return (_check_record(record, path),)


def _read(path: Path) -> Any:
    try:
        too_big = path.stat().st_size > _MOST_BYTES
        return None if too_big else parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a latency record: {error}.") from error


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

    The interval resamples blocks of consecutive runs, because neighbouring runs resemble each other. It knows nothing
    of how much two processes differ; `margin` stands for that (medians of fresh processes vary by about 1 % on a quiet
    machine). Raises UsageError when the batch sizes differ, or the settings make no sense.
    """
    if not 0 <= margin < 1 or not 0 < confidence < 1:
        raise UsageError(f"margin is {margin} and confidence {confidence}; both must lie between 0 and 1.")
    for name in _MUST_MATCH:
        if candidate[name] != baseline[name]:
            raise UsageError(
                f"The two records cannot be compared: {name} is {candidate[name]} in one and {baseline[name]} in the "
                "other."
            )
    random = np.random.default_rng(seed)
    ours, theirs = _samples(candidate), _samples(baseline)
    ratios = _resample_medians(ours, random) / _resample_medians(theirs, random)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    interval = (float(low), float(high))
    return LatencyComparison(
        ratio=float(np.median(ours) / np.median(theirs)),
        interval=interval,
        confidence=confidence,
        margin=margin,
        verdict=verdict_of(interval, margin),
        notes=tuple(_notes(candidate, baseline)),
    )


def _samples(record: Mapping[str, Any]) -> Samples:
    """Return the samples in ms; only positive finite numbers are accepted."""
    try:
        samples = np.asarray(record.get("samples_ms"), dtype=np.float64)
    except (TypeError, ValueError):
        samples = np.empty(0)
    if samples.ndim != 1 or len(samples) == 0 or not np.isfinite(samples).all() or (samples <= 0).any():
        raise DataError("A latency record holds no usable samples_ms: positive numbers are needed, at least one.")
    return samples


def _resample_medians(samples: Samples, random: np.random.Generator) -> Samples:
    """Medians of circular block bootstrap samples, (1000,)."""
    n = len(samples)
    block = max(1, min(_LONGEST_BLOCK, round(n ** (1 / 2))))
    offsets = np.arange(block)
    medians = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        starts = random.integers(0, n, -(-n // block))
        rows = (starts[:, None] + offsets).ravel()[:n] % n
        medians[index] = np.median(samples[rows])
    return medians


def verdict_of(interval: tuple[float, float], margin: float) -> ComparisonVerdict:
    """Say what an interval of the ratio means at a margin."""
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
