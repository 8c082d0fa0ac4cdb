import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.latency.comparison import compare_latency, read_latencies


def record(samples_ms: Any, **changes: Any) -> dict[str, Any]:
    values = samples_ms.tolist() if isinstance(samples_ms, np.ndarray) else samples_ms
    fields = {"batch_size": 1, "threads": 1, "provider": "cpu", "runtime": "onnxruntime", "device": {"name": "board"}}
    return {"kind": "latency", "schema": 1, "samples_ms": values, "flags": [], **fields, **changes}


def noise(scale: float, count: int = 400, seed: int = 0) -> Any:
    return scale * np.random.default_rng(seed).normal(1.0, 0.02, count)


@pytest.mark.parametrize(
    ("scale", "verdict"), [(0.5, "faster"), (1.0, "equal"), (1.5, "slower"), (1.03, "inconclusive")]
)
def test_the_verdict_follows_the_ratio(scale: float, verdict: str) -> None:
    comparison = compare_latency(record(noise(scale, seed=1)), record(noise(1.0, seed=2)))
    assert comparison.verdict == verdict
    assert comparison.ratio == pytest.approx(scale, rel=0.01)
    assert comparison.interval[0] <= comparison.ratio <= comparison.interval[1]
    assert comparison.notes == ()


def test_the_same_record_twice_is_equal_to_itself() -> None:
    same = record(noise(1.0))
    assert compare_latency(same, same).ratio == 1.0


def test_slow_swings_widen_the_interval() -> None:
    steady = noise(1.0)
    swinging = steady * (1 + 0.1 * np.sin(np.arange(400) / 30))
    shuffled = np.random.default_rng(0).permutation(swinging)
    wide = compare_latency(record(swinging), record(steady)).interval
    narrow = compare_latency(record(shuffled), record(steady)).interval
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_the_interval_covers_the_true_ratio_of_correlated_runs() -> None:
    random, covered = np.random.default_rng(3), 0
    for _ in range(40):
        shocks = random.normal(0, 0.02, (2, 600))
        series = np.stack([np.convolve(shock, 0.8 ** np.arange(20), mode="same") for shock in shocks])
        low, high = compare_latency(record(1 + series[0]), record(1 + series[1])).interval
        covered += low <= 1.0 <= high
    assert covered >= 33


def test_a_comparison_repeats_exactly() -> None:
    pair = record(noise(1.0, seed=1)), record(noise(1.1, seed=2))
    assert compare_latency(*pair) == compare_latency(*pair)


def test_one_sample_each_is_compared_without_an_error() -> None:
    assert compare_latency(record([1.0]), record([2.0])).interval == (0.5, 0.5)


def test_what_else_differs_is_noted() -> None:
    ours = record(noise(1.0), flags=["noisy", "drift"], threads=2)
    theirs = record(noise(1.0), device={"name": "other"})
    notes = compare_latency(ours, theirs).notes
    assert notes[0] == "threads is 2 here and 1 in the baseline."
    assert notes[1] == "The devices differ: board here, other in the baseline."
    assert notes[2] == "This measurement is doubtful: noisy, drift."


def test_other_batch_sizes_are_not_compared() -> None:
    with pytest.raises(UsageError, match="cannot be compared: batch_size is 8 in one and 1 in the other"):
        compare_latency(record([1.0], batch_size=8), record([1.0]))


@pytest.mark.parametrize("settings", [{"margin": -0.1}, {"margin": 1.0}, {"confidence": 0.0}, {"confidence": 95.0}])
def test_impossible_settings_are_refused(settings: Any) -> None:
    with pytest.raises(UsageError, match="both must lie between 0 and 1"):
        compare_latency(record([1.0]), record([1.0]), **settings)


@pytest.mark.parametrize("samples", [[], None, [0.0], [-1.0], [float("nan")], ["fast"], [[1.0]], "quick"])
def test_records_without_usable_samples_are_refused(samples: Any) -> None:
    with pytest.raises(DataError, match="no usable samples_ms"):
        compare_latency(record(samples), record([1.0]))


def test_a_written_record_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(record([1.0, 2.0])), encoding="utf-8")
    assert [each["samples_ms"] for each in read_latencies(path)] == [[1.0, 2.0]]


@pytest.mark.parametrize("text", ["[]", "{}", '{"kind": "parity", "schema": 1}', '{"kind": "latency", "schema": 2}'])
def test_other_json_is_not_taken_for_a_latency_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="is not a latency record of schema 1"):
        read_latencies(path)


@pytest.mark.parametrize("content", [b"not json", b"\xff\xfe", None])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken.json cannot be read as a latency record"):
        read_latencies(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.truncate(65 << 20)
    with pytest.raises(DataError, match="is not a latency record"):
        read_latencies(path)
