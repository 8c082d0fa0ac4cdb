"""May it be shipped? The answer, what is wrong, the worst classes, and the next steps, from records of every kind."""

from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.recommendation.choice import choose
from edgedistill_deploy.recommendation.shipping import Shipping, judge_shipping
from edgedistill_deploy.recommendation.summary import conclude, summarise_records
from edgedistill_deploy.records.reading import read_records
from reference.report_bundles import add_record, full_bundle, latency_record, models_only, parity_record

DEAD = {"name": "7", "fault": "dead", "verdict": "fail", "detail": "It is dead."}


def shipping_of(bundle: Bundle) -> Shipping:
    records = read_records(bundle)
    return judge_shipping(bundle, records, conclude(summarise_records(bundle, records), choose(records)))


def failing(bundle: Bundle, precision: str, **changes: Any) -> None:
    add_record(bundle, parity_record(bundle, precision, lost=120, gained=5, verdict="fail", **changes))


def test_a_good_expert_may_be_shipped(tmp_path: Path) -> None:
    found = shipping_of(full_bundle(tmp_path / "my expert"))
    assert (found.answer, found.tone) == ("Yes.", "pass")
    assert (found.file, found.file_bytes) == ("model.int8.onnx", 118_000)
    assert found.problems == ()
    assert [step.command for step in found.steps] == [
        "edgedistill predict 'my expert' photo.jpg",
        "edgedistill snippet 'my expert' --language python",
        "edgedistill pack 'my expert' --target onnxruntime",
    ]


def test_nothing_compared_is_not_known(tmp_path: Path) -> None:
    found = shipping_of(models_only(tmp_path / "b"))
    assert (found.answer, found.tone, found.file) == (
        "Not known: nothing was compared with the teacher yet.", "", None,
    )  # fmt: skip
    assert [step.command for step in found.steps] == ["edgedistill validate b"]


def test_a_failed_expert_is_not_shipped_and_the_steps_come_in_order(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b")
    failing(bundle, "fp32")
    (bundle.path / "settings.toml").write_text("")
    found = shipping_of(bundle.with_fields(distillation={"epochs": 15}))
    assert (found.answer, found.tone, found.file) == ("No.", "fail", None)
    assert found.places == ("nowhere yet; it was tried on workbench",)
    assert "model.fp32.onnx loses 5.75 of 100 answers against the teacher, and you allow 2.00." in found.problems
    assert [step.command for step in found.steps] == [
        "edgedistill validate b --flips flips",
        "edgedistill build --config b/settings.toml --epochs 30 --student-weights auto --out b-2",
        "edgedistill validate b --max-drop 0.04",
        "edgedistill profile b",
    ]


def test_only_the_file_that_passes_is_shipped(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b")
    add_record(bundle, parity_record(bundle, "fp32"))
    failing(bundle, "int8", class_findings=[DEAD])
    found = shipping_of(bundle)
    assert (found.answer, found.tone, found.file) == (
        "Yes, but only this file; the others fail.", "inconclusive", "model.fp32.onnx",
    )  # fmt: skip
    assert found.problems[0] == "model.int8.onnx never gives the answer 7, which the teacher does give."
    assert [step.command for step in found.steps][:4] == [
        "edgedistill pack b --target onnxruntime --precision fp32",
        "edgedistill validate b --flips flips",
        "edgedistill ledger b",
        "edgedistill calibrate b --recover 5",
    ]
    assert found.steps[4].command == "edgedistill validate b --allow-class 7"


def test_what_fails_on_another_provider_of_the_processor_is_told_and_spoils_nothing(tmp_path: Path) -> None:
    bundle = full_bundle(tmp_path / "b")
    before = shipping_of(bundle)
    failing(bundle, "int8", provider="openvino")
    found = shipping_of(bundle)
    assert (found.answer, found.tone, found.file) == ("Yes.", "pass", before.file)
    assert found.problems == (
        "model.int8.onnx with openvino loses 5.75 of 100 answers against the teacher, and you allow 2.00.",
    )
    assert found.steps == before.steps
    failing(bundle, "int8", provider="cuda")  # not beside cpu: it counts
    assert shipping_of(bundle).tone == "inconclusive"


def test_where_cpu_was_not_judged_another_provider_counts(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b")
    failing(bundle, "fp32", provider="openvino")
    assert shipping_of(bundle).answer == "No."


def test_the_place_of_a_model_on_another_provider_names_it(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b")
    for provider, ms in (("cpu", 0.3), ("openvino", 0.1)):
        add_record(bundle, parity_record(bundle, "fp32", provider=provider))
        add_record(bundle, latency_record(bundle, "fp32", median_ms=ms, provider=provider))
    (place,) = shipping_of(bundle).places
    assert place.startswith("workbench: model.fp32.onnx with openvino, half of its answers take at most ")


def test_too_few_images_ask_for_more(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b", ("cat", "dog"))
    record = parity_record(bundle, "fp32", lost=3, gained=2, count=60, verdict="inconclusive", images_to_decide=4100)
    add_record(bundle, record)
    found = shipping_of(bundle)
    assert (found.answer, found.tone) == ("Not yet: there are too few images to tell.", "inconclusive")
    assert "60 images are too few to be sure (about 4,100 would decide)" in found.problems[0]
    assert "Only 60 images were used to judge it, so these figures are rough." in found.problems
    assert "about 4,100 in all would decide" in found.steps[0].sentence


def test_a_broken_file_is_searched_for_the_first_wrong_node(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b")
    broken = [{"name": "row-permutation", "passed": False, "detail": "Row 3 differs by 4.1.", "inputs": []}]
    failing(bundle, "fp32", metamorphic=broken)
    found = shipping_of(bundle)
    assert found.problems[0] == (
        "model.fp32.onnx does not compute what it should (row-permutation: Row 3 differs by 4.1)."
    )
    assert found.steps[0].command == "edgedistill validate b --bisect --precision fp32"


def test_an_allowed_class_doubtful_times_and_a_failed_teacher_are_told(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b")
    add_record(bundle, parity_record(bundle, "fp32", class_findings=[{**DEAD, "verdict": "pass"}]))
    add_record(bundle, parity_record(bundle, "teacher", verdict="fail", reasons=["Its logits are not finite."]))
    add_record(bundle, latency_record(bundle, "fp32", warnings=["It was noisy."]))
    assert shipping_of(bundle).problems == (
        "You allowed it to be bad at 7.",
        "The teacher’s own file fails: Its logits are not finite.",
        "Some of the times are doubtful, because the machine was not quiet.",
    )


def test_the_worst_classes_are_those_that_lose_most(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "b", ("cat", "dog", "owl", "hen", "cow"))
    record = parity_record(bundle, "fp32")
    losses = {"cat": 0.1, "dog": 0.0, "owl": 0.3, "hen": 0.2, "cow": -0.1}
    for row in record["per_class"]:
        row.update(drop=losses[row["name"]], candidate=0.9 - losses[row["name"]])
    add_record(bundle, record)
    found = shipping_of(bundle)
    assert [each.name for each in found.worst] == ["owl", "hen", "cat"]
    assert str(found.worst[0]) == "owl: 60.0 % of 400 images where the teacher is right on 90.0 %"


@pytest.mark.parametrize("count", [2, 50])
def test_many_devices_are_bounded_and_a_problem_is_told_once(tmp_path: Path, count: int) -> None:
    bundle = models_only(tmp_path / "b")
    good = parity_record(bundle, "fp32")
    bad = parity_record(bundle, "int8", lost=120, gained=5, verdict="fail")
    for number in range(count):
        add_record(bundle, {**good, "device": f"pi-{number:02d}"})
        add_record(bundle, {**bad, "device": f"pi-{number:02d}"})
    found = shipping_of(bundle)
    assert len(found.places) == min(count, 6)
    assert found.places[0] == "pi-00: model.fp32.onnx, not timed there"
    lost = [each for each in found.problems if each.startswith("model.int8.onnx")]
    assert len(lost) == 1
    assert lost[0].endswith("(on pi-00 and pi-01)." if count == 2 else "(on pi-00, pi-01, pi-02 and 47 more).")
