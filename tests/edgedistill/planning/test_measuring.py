"""Candidates timed once and kept, and what is done where one or all of them fail."""

from pathlib import Path
from typing import Any

import pytest

from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill.planning import measuring
from edgedistill.planning.candidates import Candidate, add_candidate
from edgedistill.planning.measuring import PlanTask, check_device, measure_candidate
from edgedistill.planning.verdicts import PlanRow
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.latency.budget import Budget
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.remote.inventory import Device

RECORD = {"samples_ms": [1.0] * 100, "p50_ms": 1.0, "precision": "fp32", "flags": []}


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("embedded:glyphs100")


def plan_task(teacher: Teacher, folder: Path, **changes: Any) -> PlanTask:
    def refuse(bundle: Bundle) -> Bundle:
        raise EdgeDistillError("no INT8 here.")

    values: dict[str, Any] = {
        "teacher": teacher,
        "subtask": teacher.subtask(["0", "1", "2"], name="digits"),
        "device": None,
        "budget": Budget(budget_ms=5.0, percentile=50),
        "request": ProfileRequest(),
        "folder": folder,
        "quantise": refuse,
    }
    return PlanTask(**{**values, **changes})


def test_a_candidate_is_timed_once_for_each_way_to_ask(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def time(folder: Path, request: ProfileRequest) -> dict[str, Any]:
        asked.append(request.threads)
        return {"records": [RECORD]}

    monkeypatch.setattr(measuring, "run_profile", time)
    candidate, task = Candidate.parse("plain:4-8"), plan_task(teacher, tmp_path)
    first = measure_candidate(task, candidate, None)
    again = measure_candidate(task, candidate, None)
    assert (first.kept, again.kept, first.rows) == (False, True, again.rows)
    assert (first.rows[0].within_budget, first.rows[0].label) == ("pass", "plain:4-8 fp32")
    other = measure_candidate(plan_task(teacher, tmp_path, request=ProfileRequest(threads=2)), candidate, None)
    assert (other.kept, asked) == (False, [1, 2])


def test_one_that_cannot_be_timed_is_a_row_that_says_why(teacher: Teacher, tmp_path: Path) -> None:
    task = plan_task(teacher, tmp_path, request=ProfileRequest(precisions=("int8",)))
    found = measure_candidate(task, Candidate.parse("plain:4-8"), None)
    assert [(row.precision, row.error) for row in found.rows] == [("int8", "no INT8 here.")]
    assert not found.kept


def test_a_device_on_which_nothing_could_be_timed_is_at_fault(teacher: Teacher, tmp_path: Path) -> None:
    failed = PlanRow(student="plain:4-8", width=1.0, precision="fp32", error="no route.")
    timed = PlanRow(student="plain:4-8", width=1.0, precision="fp32", value_ms=1.0)
    there = plan_task(teacher, tmp_path, device=Device(name="pi", host="pi.local"))
    check_device(there, [failed, timed])
    check_device(plan_task(teacher, tmp_path), [failed])
    with pytest.raises(EdgeDistillError, match=r"^pi: no route\.$"):
        check_device(there, [failed])


def test_the_student_that_an_inspection_names_is_added_once() -> None:
    one, other = Candidate.parse("plain:4-8"), Candidate.parse("resnet10t@0.5")
    assert add_candidate([one], None) == (one,)
    assert add_candidate([one], "plain:4-8") == (one,)
    assert add_candidate([one], "timm:resnet10t@0.5") == (one, other)
