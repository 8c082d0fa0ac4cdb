import io
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill_deploy.errors import BundleError, DataError, UsageError
from edgedistill_deploy.latency import end_to_end
from edgedistill_deploy.latency.end_to_end import jpegs_of, measure_bundle_end_to_end, measure_end_to_end
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.profiling.cold_start import measure_cold_start, summary_of
from edgedistill_deploy.runtimes.opening import open_session
from played_clock import PlayedClock
from reference.measured_bundles import bundle_of
from reference.measured_models import images_of

CONFIG = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.0, min_runs=8)
CHOICE = {"runtime": "onnxruntime", "precision": "fp32", "provider": "cpu", "threads": 1}


def test_each_part_is_timed_and_the_parts_add_up(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    # A picture begins, is decoded, resized, and run.
    clock = PlayedClock(readings_ns=cycle((0, 5_000_000, 2_000_000, 1_000_000)))
    with open_session(bundle, threads=1) as session:
        report = measure_bundle_end_to_end(session, bundle, images_of([0, 1]), CONFIG)
        assert report.runs >= 8
        assert sum(part.share for part in report.parts) == pytest.approx(1.0)
        assert report.p50_ms >= max(part.p50_ms for part in report.parts)
        assert report.to_json()["jpeg_bytes"] > 1000
        turn = end_to_end._Turn(session, bundle.preprocess, jpegs_of(images_of([0])), clock)
        turn()
        turn()
    assert turn.moments == [(0, 5_000_000, 7_000_000, 8_000_000), (8_000_000, 13_000_000, 15_000_000, 16_000_000)]
    summed = end_to_end._report(np.diff(np.array(turn.moments, np.float64)) / 1e6, "two pictures", 10)
    assert [(part.name, part.p50_ms, part.share) for part in summed.parts] == [
        ("decode", 5.0, 5 / 8), ("resize", 2.0, 2 / 8), ("inference", 1.0, 1 / 8)
    ]  # fmt: skip
    assert summed.samples_ms == (8.0, 8.0)


def test_the_pictures_have_a_cameras_size() -> None:
    [jpeg] = jpegs_of(images_of([0]))
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (640, 480))


def test_no_picture_and_no_jpeg_are_refused(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    with open_session(bundle, threads=1) as session:
        with pytest.raises(DataError, match="needs at least one JPEG and got none"):
            measure_end_to_end(session, bundle.preprocess, (), CONFIG, "nothing")
        with pytest.raises(DataError, match="cannot be read as an image"):
            measure_end_to_end(session, bundle.preprocess, (b"\xff\xd8\xff?",), CONFIG, "noise")


def test_cold_starts_are_summed_up_part_by_part() -> None:
    starts = [
        {"start": 10.0, "import": 100.0, "load": 20.0, "first_run": 3.0},
        {"start": 12.0, "import": 90.0, "load": 50.0, "first_run": 1.0},
        {"start": 11.0, "import": 95.0, "load": 22.0, "first_run": 2.0},
    ]
    report = summary_of(starts)
    assert report.median_ms == {"start": 11.0, "import": 95.0, "load": 22.0, "first_run": 2.0, "total": 133.0}
    assert report.slowest_ms == 153.0
    assert report.parts_ms["load"] == (20.0, 50.0, 22.0)
    assert report.to_json()["repeats"] == 3


def test_every_cold_start_is_a_process_of_its_own(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    told: list[tuple[int, int]] = []
    report = measure_cold_start(
        bundle.path, CHOICE, repeats=2, progress=lambda done, total, note="": told.append((done, total))
    )
    assert told == [(1, 2), (2, 2)]
    for part in ("start", "import", "load", "first_run"):
        assert min(report.parts_ms[part]) > 0
    assert min(report.parts_ms["import"]) > max(report.parts_ms["first_run"])  # numpy is not there beforehand


def test_cold_starts_that_cannot_be_are_refused(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    with pytest.raises(UsageError, match="repeats is 0; it must be 1 or more"):
        measure_cold_start(bundle.path, CHOICE, repeats=0)
    with pytest.raises(BundleError, match="has no model of precision int8"):
        measure_cold_start(bundle.path, {**CHOICE, "precision": "int8"}, repeats=1)


def test_a_session_is_not_asked_for_more_than_the_most_runs(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    config = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=3600.0, min_runs=2, max_runs=3)
    with open_session(bundle, threads=1) as session:
        report = measure_end_to_end(session, bundle.preprocess, jpegs_of(images_of([0])), config, "one")
    assert report.runs == 3
