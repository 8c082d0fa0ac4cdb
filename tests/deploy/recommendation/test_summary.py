"""The summary: each figure is the record's own, and the conclusion is the gate's."""

from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.recommendation.choice import choose
from edgedistill_deploy.recommendation.summary import (
    ArtefactSummary,
    Conclusion,
    baseline_of,
    conclude,
    summarise,
    summarise_records,
)
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.statistics.paired import drop_interval
from reference.report_bundles import add_record, full_bundle, latency_record, models_only, parity_record


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return models_only(tmp_path / "bundle")


def row_of(bundle: Bundle, precision: str) -> ArtefactSummary:
    (row,) = [row for row in summarise(bundle) if row.precision == precision]
    return row


def concluded(bundle: Bundle) -> Conclusion:
    records = read_records(bundle)
    return conclude(summarise_records(bundle, records), choose(records))


def add(bundle: Bundle, precision: str, **changes: Any) -> None:
    add_record(bundle, parity_record(bundle, precision, **changes))


def test_rows_are_the_teacher_and_the_experts_with_the_records_own_numbers(tmp_path: Path) -> None:
    bundle = full_bundle(tmp_path / "bundle")
    parity = parity_record(bundle, "int8", lost=29, gained=14)
    latency = latency_record(bundle, "int8", median_ms=0.094)
    assert [row.label for row in summarise(bundle)] == ["teacher fp32", "expert fp32", "expert int8"]
    row = row_of(bundle, "int8")
    assert (row.device, row.runtime) == ("workbench", "onnxruntime")
    assert (row.parameters, row.multiply_adds) == (98_410, 4_120_000)
    assert row.file_bytes == (bundle.path / "model.int8.onnx").stat().st_size
    assert row.accuracy == parity["accuracy"]["candidate"]
    assert row.accuracy_interval == tuple(parity["accuracy"]["candidate_interval"])
    assert (row.drop, row.drop_interval) == (parity["accuracy"]["drop"], tuple(parity["accuracy"]["interval"]))
    assert (row.agreement, row.sample_count, row.max_drop) == (parity["agreement"], 2000, 0.02)
    assert (row.p50_ms, row.p99_ms, row.batch_size) == (latency["p50_ms"], latency["p99_ms"], 1)
    assert (row.verdict, row.reasons) == ("pass", tuple(parity["reasons"]))
    teacher = row_of(bundle, "teacher")
    assert (teacher.parameters, teacher.multiply_adds) == (1_272_036, 38_400_000)
    assert baseline_of(row, summarise(bundle)) == teacher


def test_without_records_the_models_stand_with_their_sizes_alone(bundle: Bundle) -> None:
    rows = summarise(bundle)
    assert [row.precision for row in rows] == ["teacher", "fp32", "int8"]
    assert {(row.device, row.accuracy, row.p50_ms, row.verdict) for row in rows} == {(None, None, None, None)}
    assert all(row.file_bytes for row in rows)


def test_the_teachers_accuracy_is_taken_from_an_experts_record_where_it_has_none(bundle: Bundle) -> None:
    add(bundle, "fp32")
    teacher = row_of(bundle, "teacher")
    assert teacher.accuracy == 0.953
    assert teacher.agreement is None
    assert row_of(bundle, "int8").accuracy is None


def test_each_device_has_its_own_rows(bundle: Bundle) -> None:
    add(bundle, "fp32")
    add(bundle, "fp32", device="board")
    rows = summarise(bundle)
    assert [(row.device, row.precision) for row in rows] == [
        (device, precision) for device in ("board", "workbench") for precision in ("teacher", "fp32", "int8")
    ]
    assert "on board with onnxruntime" in concluded(bundle).sentence


def test_the_file_of_the_measured_model_counts(bundle: Bundle) -> None:
    path = bundle.path / "model.int8-tensorrt.onnx"
    path.write_bytes(b"x" * 77)
    bundle = bundle.with_file("model.int8-tensorrt", path)
    record = parity_record(bundle, "int8", runtime="tensorrt", model_sha256=bundle.model_sha256("model.int8-tensorrt"))
    add_record(bundle, record)
    assert row_of(bundle, "int8").file_bytes == 77


def test_a_place_has_rows_for_what_its_runtime_takes(bundle: Bundle) -> None:
    add(bundle, "fp32", runtime="tensorrt")
    assert [row.precision for row in summarise(bundle)] == ["teacher", "fp32"]
    path = bundle.path / "model.int8-fp16-tensorrt.onnx"
    path.write_bytes(b"x" * 78)
    bundle = bundle.with_file("model.int8-fp16-tensorrt", path)
    assert row_of(bundle, "int8").file_bytes == 78


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "many", 1 << 70])
def test_costs_that_are_no_counts_are_unknown(bundle: Bundle, wrong: object) -> None:
    bundle = bundle.with_fields(student={"parameters": wrong})
    row = row_of(bundle, "fp32")
    assert (row.parameters, row.multiply_adds) == (None, None)


@pytest.mark.parametrize(
    ("fp32", "int8", "verdict", "choice"),
    [
        ("pass", "pass", "pass", "int8"),
        ("pass", "fail", "fail", "fp32"),
        ("pass", "inconclusive", "inconclusive", "fp32"),
        ("inconclusive", "fail", "fail", None),
        ("inconclusive", "inconclusive", "inconclusive", None),
    ],
)
def test_the_conclusion_is_the_gates(bundle: Bundle, fp32: str, int8: str, verdict: str, choice: str | None) -> None:
    for precision, given, median_ms in (("fp32", fp32, 0.2), ("int8", int8, 0.1)):
        add(bundle, precision, verdict=given)
        add_record(bundle, latency_record(bundle, precision, median_ms=median_ms))
    conclusion = concluded(bundle)
    assert conclusion.verdict == verdict
    assert (conclusion.choice.precision if conclusion.choice else None) == choice


def test_the_faster_expert_is_chosen_even_where_it_is_the_larger_file(bundle: Bundle) -> None:
    for precision, median_ms in (("teacher", 1.0), ("fp32", 0.1), ("int8", 0.4)):
        add(bundle, precision)
        add_record(bundle, latency_record(bundle, precision, median_ms=median_ms))
    conclusion = concluded(bundle)
    assert conclusion.choice == row_of(bundle, "fp32")
    assert "The fp32 expert is good enough: 94.9 % accurate where the teacher is 94.9 %" in conclusion.sentence
    assert "10.0 times as fast" in conclusion.sentence
    assert "its file 1/12.4 of the size" in conclusion.sentence


def test_a_slower_expert_is_said_to_be_slower(bundle: Bundle) -> None:
    for precision, median_ms in (("teacher", 0.1), ("fp32", 0.2)):
        add_record(bundle, latency_record(bundle, precision, median_ms=median_ms))
    add(bundle, "fp32")
    assert "2.0 times as slow" in concluded(bundle).sentence


def test_without_a_timing_fp32_stays(bundle: Bundle) -> None:
    for precision in ("fp32", "int8"):
        add(bundle, precision)
    conclusion = concluded(bundle)
    assert conclusion.choice == row_of(bundle, "fp32")
    assert "Fp32 is recommended: int8 was not timed here." in conclusion.sentence


def test_what_makes_times_doubtful_comes_along(bundle: Bundle) -> None:
    add_record(bundle, latency_record(bundle, "fp32", warnings=["It was noisy."]))
    assert row_of(bundle, "fp32").timing_warnings == ("It was noisy.",)
    assert row_of(bundle, "int8").timing_warnings == ()


def test_shortfalls_name_the_drop_its_interval_and_the_limit(bundle: Bundle) -> None:
    add(bundle, "fp32", lost=120, gained=10, verdict="fail")
    add(bundle, "int8", lost=60, gained=20, verdict="inconclusive")
    sentence = concluded(bundle).sentence
    low, high = drop_interval(120, 10, 2000, 0.95)
    interval = f"{100 * (low or 0):.2f} to {100 * (high or 0):.2f}"
    assert sentence.startswith(
        f"The fp32 expert (drop 5.50 points, interval {interval}, limit 2.00) does not hold the limit."
    )
    assert "The int8 expert (drop 2.00 points, interval" in sentence
    assert sentence.endswith("needs more images to be judged.")


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        ("dead", "fail", "has a dead class: '7'"),
        ("beyond_limit", "fail", "loses more than is allowed for a class: '7'"),
        ("dead", "inconclusive", "needs more images of a class to be judged: '7'"),
    ],
)
def test_what_a_class_decides_is_said_before_anything_else(
    bundle: Bundle, fault: str, verdict: str, words: str
) -> None:
    finding = {"name": "7", "fault": fault, "verdict": verdict, "detail": "."}
    add(bundle, "fp32")
    add(bundle, "int8", verdict=verdict, class_findings=[finding])
    conclusion = concluded(bundle)
    assert conclusion.verdict == verdict
    assert conclusion.sentence.startswith(f"The int8 expert {words}. The fp32 expert is good enough")
    assert "hold the limit" not in conclusion.sentence


def test_a_dead_class_that_is_allowed_takes_nothing_from_the_expert(bundle: Bundle) -> None:
    add(bundle, "fp32", class_findings=[{"name": "7", "fault": "dead", "verdict": "pass", "detail": "."}])
    assert concluded(bundle).sentence.startswith("The fp32 expert is good enough")


def test_several_failing_experts_share_a_sentence(bundle: Bundle) -> None:
    nothing = {"labelled_count": 0, "teacher": None, "candidate": None, "drop": None, "interval": [-1.0, 1.0]}
    unlabelled = {**parity_record(bundle, "fp32")["accuracy"], **nothing}
    for precision in ("fp32", "int8"):
        add(bundle, precision, verdict="fail", accuracy=unlabelled)
    told = "(agreement with the teacher 98.4 %)"
    assert concluded(bundle).sentence == f"The fp32 expert {told} and the int8 expert {told} do not hold the limit."


def test_nothing_checked_says_what_to_do(bundle: Bundle) -> None:
    conclusion = concluded(open_bundle(bundle.path))
    assert (conclusion.verdict, conclusion.choice) == (None, None)
    assert conclusion.sentence == (
        "No expert was compared with the teacher yet: run edgedistill validate on this bundle."
    )
