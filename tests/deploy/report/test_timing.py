from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.report.page import render_report
from reference.report_bundles import add_record, latency_record, models_only

SUSTAINED = {
    "rate_per_s": 30.0, "arrivals": "poisson", "p50_ms": 2.5, "p99_ms": 9.0, "wait_mean_ms": 0.7, "utilisation": 0.25,
    "keeps_up": True,
}  # fmt: skip
END_TO_END = {
    "p50_ms": 8.0,
    "p99_ms": 12.0,
    "source": "pictures of a camera",
    "parts": [
        {"name": "decode", "p50_ms": 5.0},
        {"name": "resize", "p50_ms": 2.0},
        {"name": "inference", "p50_ms": 1.0},
    ],
}
COLD_START = {
    "repeats": 5,
    "median_ms": {"start": 50.0, "import": 400.0, "load": 40.0, "first_run": 2.0, "total": 492.0},
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return models_only(tmp_path / "bundle")


def comparison(bundle: Bundle, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "latency-comparison",
        "schema": 1,
        "device": {"name": "workbench"},
        "alternatives": [{"model_sha256": bundle.model_sha256(role)} for role in ("model.fp32", "model.int8")],
        "pairs": [{"sentence": "int8 is faster than fp32."}],
        "a_a": {"sentence": "A/A found nothing."},
        **changes,
    }


def test_arrivals_jpegs_and_cold_starts_are_told_in_sentences(bundle: Bundle) -> None:
    record = latency_record(bundle, "fp32", sustained=SUSTAINED, end_to_end=END_TO_END, cold_start=COLD_START)
    add_record(bundle, record)
    page = render_report(bundle)
    assert "expert fp32, batch 1: At 30 images a second (poisson arrivals) p50 2.50 ms and p99 9.00 ms" in page
    assert "of which 700 µs are waiting on average; busy 25.0 % of the time. It keeps up." in page
    assert "From JPEG to logits p50 8.00 ms and p99 12.0 ms: decode 5.00 ms, resize 2.00 ms, inference 1.00 ms" in page
    assert (
        "Cold start 492 ms, the median of 5 processes: start 50.0 ms, imports 400 ms, load 40.0 ms, first run" in page
    )


def test_a_record_without_these_has_no_such_heading(bundle: Bundle) -> None:
    add_record(bundle, latency_record(bundle, "fp32"))
    page = render_report(bundle)
    assert "from a cold start" not in page
    assert "alternating blocks" not in page


def test_a_model_that_does_not_keep_up_is_said_to(bundle: Bundle) -> None:
    add_record(bundle, latency_record(bundle, "fp32", sustained={**SUSTAINED, "keeps_up": False}))
    assert "It does not keep up." in render_report(bundle)


def test_a_damaged_part_leaves_the_record_out_with_a_reason(bundle: Bundle) -> None:
    add_record(bundle, latency_record(bundle, "fp32", cold_start={"repeats": 5, "median_ms": {"total": 1.0}}))
    records = read_records(bundle)
    assert records.latency == ()
    assert records.problems[0].endswith("is left out: it has no start.")


def test_a_comparison_is_shown_while_its_models_are_those_of_the_bundle(bundle: Bundle) -> None:
    write_json(bundle.path / "latency-comparison" / "workbench.json", comparison(bundle))
    assert "workbench: int8 is faster than fp32. A/A found nothing." in render_report(bundle)
    old = comparison(bundle, alternatives=[{"model_sha256": "0" * 64}])
    write_json(bundle.path / "latency-comparison" / "workbench.json", old)
    assert "int8 is faster" not in render_report(bundle)
