"""The guard: what is recommended was measured faster on that device and holds there, and the manifest says by how
much."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.files.writing import sha256_of_file, write_json
from edgedistill_deploy.recommendation.choice import Choice, choose, record_choices
from edgedistill_deploy.records.model import MeasuredModel
from edgedistill_deploy.records.reading import read_records
from reference.report_bundles import add_record, latency_record, models_only, parity_record


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return models_only(tmp_path / "bundle")


def add(bundle: Bundle, precision: str, median_ms: float | None = None, **changes: Any) -> None:
    """Write a parity record, and a latency record where there is a median; changes of both are shared by name."""
    place = {name: changes.pop(name) for name in ("runtime", "provider", "model_sha256") if name in changes}
    device = changes.pop("device", "workbench")
    timing = {name: changes.pop(name) for name in ("threads", "batch_size", "flags", "warnings") if name in changes}
    stem = f"{device}-{place.get('runtime', 'ort')}-{place.get('provider', 'cpu')}-{precision}.json"
    parity = parity_record(bundle, precision, device=device, **place, **changes)
    write_json(bundle.path / "parity" / stem, parity)
    if median_ms is not None:
        latency = latency_record(bundle, precision, median_ms=median_ms, **place, **timing)
        latency["device"] = {**latency["device"], "name": device}
        write_json(bundle.path / "latency" / stem, latency)


def choice_of(bundle: Bundle, device: str = "workbench") -> Choice:
    return choose(read_records(bundle))[device]


def precision_of(choice: Choice) -> str | None:
    return choice.model.precision if choice.model else None


def test_int8_that_is_faster_and_holds_is_recommended_with_its_figures(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2)
    add(bundle, "int8", 0.1)
    choice = choice_of(bundle)
    model = MeasuredModel(
        device="workbench",
        runtime="onnxruntime",
        provider="cpu",
        precision="int8",
        model_sha256=bundle.model_sha256("model.int8"),
    )
    assert (choice.model, choice.verdict) == (model, "pass")
    medians = [
        np.median(latency_record(bundle, p, median_ms=ms)["samples_ms"]) for p, ms in (("int8", 0.1), ("fp32", 0.2))
    ]
    assert choice.ratio == pytest.approx(medians[0] / medians[1], rel=0.02)
    low, high = choice.ratio_interval
    assert choice.ratio is not None
    assert low is not None
    assert high is not None
    assert low < choice.ratio < high < 0.97
    assert choice.drop == parity_record(bundle, "int8")["accuracy"]["drop"]
    assert choice.reason == choice.timing_reason
    assert choice.reason.startswith("Int8 is recommended: it takes 0.5")
    assert "and its parity holds: it drops by 0.40 points, limit 2.00." in choice.reason


@pytest.mark.parametrize(
    ("int8", "reason"),
    [
        (
            {"median_ms": 0.2},
            r"int8 took 1\.00 times as long as fp32 \(interval .*\), which is not faster by more than the 3%",
        ),
        ({"median_ms": 0.4}, r"int8 took 2\.\d+ times as long as fp32"),
        ({}, r"Fp32 is recommended: int8 was not timed here\."),
        (
            {"median_ms": 0.1, "verdict": "fail", "lost": 120},
            r"int8 does not hold the limit \(drop 5\.40 points, limit 2\.00\)\.",
        ),
        ({"median_ms": 0.1, "verdict": "inconclusive"}, r"int8 needs more images to be judged \(drop 0\.40"),
        ({"median_ms": 0.1, "threads": 2}, r"int8 was timed on 2 threads and fp32 on 1\."),
        ({"median_ms": 0.1, "batch_size": 8}, r"int8 was timed with 8 images a run and fp32 with 1\."),
        ({"median_ms": 0.1, "flags": ["emulated"]}, r"int8 was timed on an emulated processor, which says nothing"),
    ],
)
def test_otherwise_fp32_stays_and_the_reason_is_told(bundle: Bundle, int8: dict[str, Any], reason: str) -> None:
    add(bundle, "fp32", 0.2)
    add(bundle, "int8", **int8)
    choice = choice_of(bundle)
    assert (precision_of(choice), choice.ratio) == ("fp32", None)
    assert re.search(reason, choice.reason), choice.reason
    assert [each.model.precision for each in choice.rejected] == ["int8"]


def test_fp32_that_was_not_timed_leaves_nothing_to_compare_with(bundle: Bundle) -> None:
    add(bundle, "fp32")
    add(bundle, "int8", 0.1)
    assert choice_of(bundle).reason == (
        "Fp32 is recommended: int8 cannot be compared, because fp32 was not timed here."
    )


def test_an_only_model_needs_no_rival(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2)
    assert choice_of(bundle).reason == ("Fp32 is recommended: nothing else that was checked could take its place.")


def test_where_fp32_fails_the_fastest_that_holds_is_taken(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.1, verdict="fail")
    add(bundle, "int8", 0.3)
    choice = choice_of(bundle)
    assert (precision_of(choice), choice.ratio) == ("int8", None)
    assert choice.p50_ms == pytest.approx(0.3, rel=0.05)
    assert choice.reason == (
        "Int8 is recommended because fp32 was not found to hold the limit, and nothing faster does."
    )


def test_where_nothing_holds_nothing_is_recommended(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2, verdict="fail", lost=120)
    add(bundle, "int8", 0.1, verdict="inconclusive")
    choice = choice_of(bundle)
    assert (choice.model, choice.verdict) == (None, None)
    assert choice.reason == (
        "Nothing is recommended: fp32 does not hold the limit (drop 5.40 points, limit 2.00); "
        "int8 needs more images to be judged (drop 0.40 points, limit 2.00)."
    )


def test_an_expert_with_a_dead_class_is_not_recommended_however_fast_and_accurate(bundle: Bundle) -> None:
    dead = {"name": "7", "fault": "dead", "verdict": "fail", "detail": "The class '7' is dead."}
    add(bundle, "fp32", 0.2)
    add(bundle, "int8", 0.1, verdict="fail", class_findings=[dead])
    choice = choice_of(bundle)
    assert precision_of(choice) == "fp32"
    assert choice.reason.startswith("Fp32 is recommended: int8 has a dead class: '7'.")
    add(bundle, "fp32", 0.2, verdict="fail", class_findings=[dead, {**dead, "name": "8"}])
    assert choice_of(bundle).reason == (
        "Nothing is recommended: fp32 has dead classes: '7' and '8'; int8 has a dead class: '7'."
    )


def test_a_dead_class_in_a_record_that_judged_no_class_is_seen_too(bundle: Bundle) -> None:
    record = parity_record(bundle, "fp32")
    dead = {**record["per_class"][3], "candidate": 0.0, "lost_count": 180, "significantly_worse": True}
    rows = [*record["per_class"][:3], dead, *record["per_class"][4:]]
    add(bundle, "fp32", 0.2, per_class=rows, class_findings=None)
    choice = choice_of(bundle)
    assert precision_of(choice) is None
    assert choice.reason == "Nothing is recommended: fp32 has a dead class: '3'."


def test_each_device_chooses_by_its_own_measurements(bundle: Bundle) -> None:
    for device, ms in (("board", 0.4), ("workbench", 0.1)):
        add(bundle, "fp32", 0.2, device=device)
        add(bundle, "int8", ms, device=device)
    choices = choose(read_records(bundle))
    assert {device: precision_of(choice) for device, choice in choices.items()} == {
        "board": "fp32",
        "workbench": "int8",
    }


def test_the_fastest_of_several_places_wins_and_is_compared_with_the_fastest_fp32(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.3)
    add(bundle, "fp32", 0.2, provider="openvino")
    add(bundle, "int8", 0.15)
    add(bundle, "int8", 0.1, provider="openvino")
    choice = choice_of(bundle)
    assert choice.model is not None
    assert (choice.model.precision, choice.model.provider) == ("int8", "openvino")
    assert choice.ratio == pytest.approx(0.5, rel=0.05)
    assert choice.reason.startswith("Int8 on openvino is recommended: it takes 0.5")
    assert "times as long as fp32 on openvino (95%" in choice.reason
    assert choice.rejected[0].reason.startswith("took 1.5")  # fp32 on the slower provider


def test_another_provider_of_the_processor_must_be_clearly_faster_than_cpu(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2)
    add(bundle, "fp32", 0.198, provider="openvino")
    choice = choice_of(bundle)
    assert (precision_of(choice), choice.model and choice.model.provider) == ("fp32", "cpu")
    assert choice.reason.startswith("Fp32 is recommended: fp32 on openvino took 0.99 times as long as fp32 (interval")
    add(bundle, "int8", 0.1)
    add(bundle, "int8", 0.099, provider="openvino")
    choice = choice_of(bundle)
    assert (precision_of(choice), choice.model and choice.model.provider) == ("int8", "cpu")


def test_fp32_on_a_faster_provider_is_recommended_by_name(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.3)
    add(bundle, "fp32", 0.2, provider="openvino")
    add(bundle, "int8", 0.25)
    choice = choice_of(bundle)
    assert (precision_of(choice), choice.model and choice.model.provider) == ("fp32", "openvino")
    assert choice.reason.startswith("Fp32 on openvino is recommended: fp32 took 1.5")
    assert "int8 took 1.2" in choice.reason


def test_a_provider_without_parity_or_on_other_threads_is_not_recommended(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.3)
    add(bundle, "fp32", 0.1, provider="openvino", verdict="fail", lost=120)
    add(bundle, "int8", 0.1, provider="openvino", threads=2)
    latency = latency_record(bundle, "int8", median_ms=0.05, provider="xnnpack")
    write_json(bundle.path / "latency" / "workbench-xnnpack.json", latency)
    choice = choice_of(bundle)
    assert (precision_of(choice), choice.model and choice.model.provider) == ("fp32", "cpu")
    assert "fp32 on openvino does not hold the limit (drop 5.40 points" in choice.reason
    assert "int8 on openvino was timed on 2 threads and fp32 on 1" in choice.reason


def test_a_timing_of_another_file_is_not_paired_with_the_check(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2)
    add(bundle, "int8", 0.1)
    other = latency_record(bundle, "int8", median_ms=0.1, model_sha256=bundle.model_sha256("model.fp32"))
    for path in (bundle.path / "latency").glob("*int8*"):
        write_json(path, other)
    assert choice_of(bundle).reason == "Fp32 is recommended: int8 was not timed here."


def test_doubtful_times_are_said_to_be_doubtful(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2)
    add(bundle, "int8", 0.1, warnings=["The medians of five blocks of runs vary by 9.0%."])
    assert choice_of(bundle).reason.endswith(
        "limit 2.00. The times are doubtful: The medians of five blocks of runs vary by 9.0%."
    )


def test_the_smallest_batch_counts(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2)
    add(bundle, "int8", 0.1)
    large = latency_record(bundle, "int8", median_ms=9.0, batch_size=32)
    write_json(bundle.path / "latency" / "workbench-onnxruntime-int8-b32.json", large)
    assert choice_of(bundle).p50_ms == pytest.approx(0.1, rel=0.05)


# The manifest


def test_the_manifest_keeps_the_choice_with_the_records_that_decided(bundle: Bundle) -> None:
    for precision, ms in (("fp32", 0.2), ("int8", 0.1)):
        add_record(bundle, parity_record(bundle, precision))
        add_record(bundle, latency_record(bundle, precision, median_ms=ms))
    written = record_choices(bundle)
    entry = written.manifest["choices"]["workbench"]
    assert (entry["precision"], entry["provider"], entry["verdict"]) == ("int8", "cpu", "pass")
    assert entry["ratio_interval"][1] < 0.97
    assert entry["model_sha256"] == bundle.model_sha256("model.int8")
    names = {
        "parity": "parity/workbench-onnxruntime-int8.json",
        "latency": "latency/workbench-onnxruntime-int8.json",
        "fp32_latency": "latency/workbench-onnxruntime-fp32.json",
    }
    assert entry["records"] == {
        kind: {"path": name, "sha256": sha256_of_file(bundle.path / name)} for kind, name in names.items()
    }
    assert open_bundle(bundle.path).manifest["choices"] == written.manifest["choices"]


def test_nothing_is_written_before_both_kinds_of_record_exist(bundle: Bundle) -> None:
    before = (bundle.path / "manifest.json").read_bytes()
    add_record(bundle, parity_record(bundle, "fp32"))
    assert record_choices(bundle) is bundle
    assert (bundle.path / "manifest.json").read_bytes() == before


def test_a_choice_from_records_of_a_changed_model_is_dropped_and_made_anew(bundle: Bundle) -> None:
    for precision, ms in (("fp32", 0.2), ("int8", 0.1)):
        add_record(bundle, parity_record(bundle, precision))
        add_record(bundle, latency_record(bundle, precision, median_ms=ms))
    bundle = record_choices(bundle)
    (bundle.path / "model.int8.onnx").write_bytes(b"another model")
    bundle = bundle.with_file("model.int8", bundle.path / "model.int8.onnx")
    bundle = record_choices(bundle)
    assert bundle.manifest["choices"]["workbench"]["precision"] == "fp32"
    for path in bundle.path.glob("latency/*.json"):
        path.unlink()
    assert record_choices(bundle).manifest["choices"] == {}


def test_choosing_twice_writes_once(bundle: Bundle) -> None:
    add_record(bundle, parity_record(bundle, "fp32"))
    add_record(bundle, latency_record(bundle, "fp32"))
    bundle = record_choices(bundle)
    stamp = (bundle.path / "manifest.json").stat().st_mtime_ns
    assert record_choices(open_bundle(bundle.path)).manifest == bundle.manifest
    assert (bundle.path / "manifest.json").stat().st_mtime_ns == stamp
    assert json.loads((bundle.path / "manifest.json").read_text())["choices"]["workbench"]["precision"] == "fp32"


def test_a_file_for_one_device_is_recommended_there_if_it_is_faster_and_nowhere_else(bundle: Bundle) -> None:
    path = bundle.path / "model.int8-workbench.onnx"
    path.write_bytes(b"for the workbench")
    bundle = bundle.with_file("model.int8-workbench", path)
    sha256 = bundle.model_sha256("model.int8-workbench")
    for device in ("workbench", "bench-2"):
        add(bundle, "fp32", 0.2, device=device)
        add(bundle, "int8", 0.3, device=device)
        own = {"precision": "int8-workbench", "model_sha256": sha256}
        parity = {**parity_record(bundle, "int8", device=device), **own}
        latency = {**latency_record(bundle, "int8", median_ms=0.1), **own}
        latency["device"] = {**latency["device"], "name": device}
        for kind, record in (("parity", parity), ("latency", latency)):
            write_json(bundle.path / kind / f"{device}-own.json", record)
    assert precision_of(choice_of(bundle)) == "int8-workbench"
    assert precision_of(choice_of(bundle, "bench-2")) == "fp32"
    assert record_choices(bundle).manifest["choices"]["workbench"]["precision"] == "int8-workbench"


@pytest.mark.parametrize(("median_ms", "wanted"), [(0.099, "int8"), (0.05, "int8-workbench")])
def test_a_file_for_one_device_takes_the_place_of_the_general_one_only_if_it_is_clearly_faster(
    bundle: Bundle, median_ms: float, wanted: str
) -> None:
    path = bundle.path / "model.int8-workbench.onnx"
    path.write_bytes(b"for the workbench")
    bundle = bundle.with_file("model.int8-workbench", path)
    own = {"precision": "int8-workbench", "model_sha256": bundle.model_sha256("model.int8-workbench")}
    add(bundle, "fp32", 0.2)
    add(bundle, "int8", 0.1)
    write_json(bundle.path / "parity" / "own.json", {**parity_record(bundle, "int8"), **own})
    write_json(bundle.path / "latency" / "own.json", {**latency_record(bundle, "int8", median_ms=median_ms), **own})
    assert precision_of(choice_of(bundle)) == wanted


def test_a_gain_is_called_a_rise(bundle: Bundle) -> None:
    add(bundle, "fp32", 0.2)
    record = parity_record(bundle, "int8")
    record["accuracy"] = {**record["accuracy"], "drop": -0.0325}
    write_json(bundle.path / "parity" / "better.json", record)
    write_json(bundle.path / "latency" / "better.json", latency_record(bundle, "int8", median_ms=0.1))
    assert "and its parity holds: it rises by 3.25 points." in choice_of(bundle).reason
