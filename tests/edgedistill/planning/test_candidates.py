"""Untrained students that can be timed, and the judgement on what was timed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from edgedistill.models.teacher import load_teacher
from edgedistill.planning.candidates import Candidate, default_candidates, parse_candidates, write_candidate
from edgedistill.planning.verdicts import PlanRow, judge_rows, plan_row, plan_verdict, with_widths
from edgedistill.planning.widths import LayerWidth, SuggestedWidths, find_layer_widths
from edgedistill_deploy.errors import DataError, EdgeDistillError, UsageError
from edgedistill_deploy.latency.budget import Budget
from edgedistill_deploy.onnx_files.content import read_weights
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_session


@pytest.mark.parametrize(
    ("text", "name", "width", "shown"),
    [
        ("timm:resnet10t@0.25", "timm:resnet10t", 0.25, "timm:resnet10t@0.25"),
        ("resnet10t", "timm:resnet10t", 1.0, "timm:resnet10t"),
        (" plain:8-16 ", "plain:8-16", 1.0, "plain:8-16"),
    ],
)
def test_names_with_a_width_are_read(text: str, name: str, width: float, shown: str) -> None:
    candidate = Candidate.parse(text)
    assert (candidate.name, candidate.width, str(candidate)) == (name, width, shown)


@pytest.mark.parametrize("text", ["resnet10t@", "resnet10t@x", "resnet10t@0", "resnet10t@5", "resnet10t@nan"])
def test_widths_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"after an @, such as timm:resnet10t@0.25, and 'resnet10t@"):
        Candidate.parse(text)


def test_unknown_names_are_refused_and_repeats_dropped() -> None:
    with pytest.raises(UsageError, match="resnet10tt"):
        parse_candidates(["timm:resnet10tt"])
    with pytest.raises(UsageError, match="--students takes names with commas between them"):
        parse_candidates([" ", ""])
    assert len(parse_candidates(["resnet10t", "timm:resnet10t", "resnet10t@1.0", "plain:8-8"])) == 2


def test_the_default_students_suit_the_image_size() -> None:
    large, small = default_candidates((224, 224)), default_candidates((32, 32))
    assert len(large) >= 15
    assert all(each.name.startswith("plain:") for each in small)
    assert small
    assert set(small) < set(large)
    assert default_candidates((16, 64)) == ()


@pytest.mark.parametrize("name", ["timm:resnet10t@0.25", "timm:mobilenetv3_small_050"])
def test_no_part_of_an_untrained_student_is_idle(name: str) -> None:
    student = Candidate.parse(name).build(4, (64, 64))
    assert not student.training
    norms = [each for each in student.modules() if isinstance(each, _BatchNorm)]
    assert norms
    assert all(bool(norm.weight.abs().min() > 0) for norm in norms if norm.affine)
    outputs: list[torch.Tensor] = []
    for norm in norms:
        norm.register_forward_hook(lambda _module, _given, output: outputs.append(output.detach()))
    with torch.no_grad():
        student(torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert all(0.3 < float(output.std()) < 3.0 for output in outputs)


def test_building_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Candidate.parse("plain:8-8").build(3, (16, 16))
    assert torch.equal(torch.rand(1), expected)


def test_a_candidate_is_a_bundle_whose_model_runs(tmp_path: Path) -> None:
    teacher = load_teacher("embedded:glyphs100")
    subtask = teacher.subtask(["0", "1", "2"])
    bundle, cost = write_candidate(Candidate.parse("resnet10t@0.125"), teacher, subtask, tmp_path / "bundle")
    with np.load(bundle.file("golden")) as golden, open_session(bundle, threads=1) as session:
        np.testing.assert_allclose(logits_of(session, golden["inputs"]), golden["outputs"], atol=1e-3)
    assert bundle.manifest["student"] == {"name": "timm:resnet10t@0.125", **cost.to_json()}
    weights = [
        values for name, values in read_weights(bundle.file("model.fp32")) if values.ndim == 4 and "model." in name
    ]
    assert len(weights) > 8
    assert all(np.abs(values).reshape(len(values), -1).max(1).min() > 0 for values in weights)


# Judging


def row(name: str, low: float, high: float | None, size: int, **changes: Any) -> PlanRow:
    verdict = "pass" if high is not None and high <= 10 else "fail" if low > 10 else "inconclusive"
    values: dict[str, Any] = {
        "student": f"plain:{name}", "width": 1.0, "precision": "fp32", "parameters": size, "multiply_adds": size,
        "value_ms": low, "interval": (low, high), "within_budget": verdict,
    }  # fmt: skip
    return PlanRow(**{**values, **changes})


def test_what_is_surely_slower_and_no_larger_is_not_proposed() -> None:
    rows = judge_rows(
        [row("small-fast", 1, 2, 10), row("big", 5, 6, 100), row("small-slow", 3, 4, 10), row("late", 11, 12, 200)]
    )
    assert [each.student for each in rows] == ["plain:late", "plain:big", "plain:small-fast", "plain:small-slow"]
    assert {each.student: each.proposed for each in rows} == {
        "plain:late": False,
        "plain:big": True,
        "plain:small-fast": True,
        "plain:small-slow": False,
    }
    assert rows[3].dominated_by == "plain:small-fast fp32"


def test_times_that_cannot_be_told_apart_dominate_nothing() -> None:
    rows = judge_rows([row("a", 1.0, 2.0, 100), row("b", 1.5, 2.5, 50)])
    assert all(each.proposed for each in rows)


def test_both_parameters_and_work_must_be_no_fewer() -> None:
    rows = judge_rows([row("a", 1, 2, 100, multiply_adds=5), row("b", 3, 4, 50)])
    assert all(each.proposed for each in rows)


def test_a_row_with_an_open_interval_dominates_nothing_but_can_be_dominated() -> None:
    rows = judge_rows([row("a", 1, None, 100), row("b", 3, 4, 50), row("c", 6, None, 10)])
    assert {each.student: each.dominated_by for each in rows} == {
        "plain:a": None,
        "plain:b": None,
        "plain:c": "plain:b fp32",
    }


def test_the_verdict_is_the_best_that_any_has() -> None:
    late, unsure, good = row("a", 11, 12, 1), row("b", 9, 11, 1), row("c", 1, 2, 1)
    assert plan_verdict([late, unsure, good]) == "pass"
    assert plan_verdict([late, unsure]) == "inconclusive"
    assert plan_verdict([late]) == "fail"
    broken = PlanRow(student="plain:d", width=1.0, precision="fp32", error="cannot be built.")
    assert plan_verdict([broken, late]) == "fail"
    assert judge_rows([broken, good])[1] == broken
    with pytest.raises(
        EdgeDistillError, match="None of the students could be measured; the first: plain:d fp32: cannot be built"
    ):
        plan_verdict([broken])


def test_a_record_is_judged_by_its_percentile() -> None:
    record = {"samples_ms": [1.0] * 900 + [9.0] * 100, "p50_ms": 1.0, "precision": "int8", "flags": ["noisy"]}
    cost = {"name": "x", "parameters": 5, "multiply_adds": 7}
    candidate = Candidate.parse("plain:8-8")
    median = plan_row(candidate, record, cost, Budget(budget_ms=2.0, percentile=50))
    slow = plan_row(candidate, record, cost, Budget(budget_ms=2.0, percentile=99))
    assert (median.within_budget, slow.within_budget) == ("pass", "fail")
    assert (slow.value_ms, slow.parameters, slow.multiply_adds, slow.flags) == (9.0, 5, 7, ("noisy",))
    assert slow.label == "plain:8-8 int8"


# Beside an inspection

INSPECTION = {
    "suggestion": {"method": "prca", "student": "plain:4-8-12-16"},
    "layers": [
        {"layer": "layer1", "suggested_width": {"prca": 4}},
        {"layer": "layer3", "suggested_width": {"prca": 100}},
        {"layer": "layer4", "suggested_width": {"prca": None}},
    ],
}


def test_widths_stand_beside_the_suggested_ones() -> None:
    suggested_widths = SuggestedWidths.of(INSPECTION)
    assert suggested_widths == SuggestedWidths(widths={"layer1": 4, "layer3": 100}, student="plain:4-8-12-16")
    student = Candidate.parse("resnet10t@0.125").build(3, (64, 64))
    widths = find_layer_widths(load_teacher("embedded:glyphs100"), student, suggested_widths)
    assert widths == (
        LayerWidth(teacher="layer1", suggested=4, student="layer1", width=8),
        LayerWidth(teacher="layer3", suggested=100, student="layer3", width=32),
    )
    good = row("a", 1, 2, 10)
    assert with_widths(good, widths).wide_enough is False
    assert with_widths(good, widths[:1]).wide_enough is True
    assert with_widths(good, None).wide_enough is None


def test_layers_that_were_not_inspected_have_no_widths() -> None:
    suggested_widths = SuggestedWidths(widths={"elsewhere": 8}, student=None)
    student = Candidate.parse("resnet10t@0.125").build(3, (64, 64))
    assert find_layer_widths(load_teacher("embedded:glyphs100"), student, suggested_widths) is None


@pytest.mark.parametrize(
    "record", [{}, {"suggestion": None, "layers": []}, {"suggestion": {"method": "prca"}, "layers": [3]}, []]
)
def test_what_is_no_inspection_is_refused(record: Any) -> None:
    with pytest.raises(DataError, match="inspection is not what `edgedistill inspect` writes"):
        SuggestedWidths.of(record)


def test_a_shrunk_teacher_is_timed_with_half_of_its_channels() -> None:
    teacher = load_teacher("embedded:glyphs100")
    candidate = Candidate.parse("teacher:0.5")
    assert (candidate.name, candidate.width, str(candidate)) == ("teacher:0.5", 1.0, "teacher:0.5")
    student = candidate.build(4, (64, 64), teacher)
    assert tuple(student.get_parameter("layer4.0.conv1.weight").shape[:2]) == (128, 128)
    assert tuple(student.get_parameter("fc.weight").shape) == (4, 256)
    with pytest.raises(UsageError, match=r"has its width in its name.*'teacher:0.5@0.5' was given"):
        Candidate.parse("teacher:0.5@0.5")
