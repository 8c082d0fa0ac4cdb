"""Comparisons and plans that a user names: real records are read, and what is none is refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.planning.verdicts import PlanRow
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.records.studies.comparison import ComparisonStudy
from edgedistill_deploy.records.studies.reading import read_studies
from reference.study_records import comparison_record, plan_record

RESULTS = Path(__file__).resolve().parents[4] / "benchmarks" / "results"


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*/comparison.json")), ids=lambda file: file.parent.name)
def test_every_real_comparison_is_read(file: Path) -> None:
    record = json.loads(file.read_text(encoding="utf-8"))
    ((name, study),) = read_studies([file.parent], []).comparisons
    assert name == file.parent.name
    assert [(row.method, row.mean) for row in study.rows] == [(row["method"], row["mean"]) for row in record["rows"]]
    for task in study.tasks:
        shown = study.rows_of(task)
        assert len({row.method for row in shown}) == len(shown)
        assert {row.task for row in shown} <= {task.name}


def test_a_plan_is_read_as_plan_writes_its_rows(tmp_path: Path) -> None:
    rows = [
        PlanRow(student="plain:4-8", width=1.0, precision="fp32", parameters=1200, p50_ms=0.14, within_budget="pass"),
        PlanRow(student="timm:resnet18", width=0.5, precision="int8", error="too large"),
    ]
    write_json(tmp_path / "plan.json", plan_record([row.to_json() for row in rows]))
    for path in (tmp_path, tmp_path / "plan.json"):
        ((_, plan),) = read_studies([], [path]).plans
        assert [each.label for each in plan.rows] == ["plain:4-8", "timm:resnet18@0.5"]
        assert [each.student for each in plan.timed] == ["plain:4-8"]
        assert plan.device == "board"


def test_the_task_is_found_by_its_classes_however_they_are_spelt() -> None:
    classes = ["Golden_Retriever", ["cat", ["tabby", "tiger cat"]]]
    study = ComparisonStudy.from_json(comparison_record(classes))
    task = study.task_of(["cat", "golden retriever"])
    assert task is not None
    assert [(row.method, row.train_size) for row in study.rows_of(task)] == [("subdistill", 500), ("labels", 500)]
    assert study.task_of(["cat"]) is None
    every = comparison_record(classes)
    every["rows"].append({**every["rows"][0], "train_size": None, "mean": 0.99})
    whole = ComparisonStudy.from_json(every)
    assert [row.mean for row in whole.rows_of(task)] == [0.99]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "There is no comparison.json in "),
        ("{", "is not a record: "),
        ("[]", "cannot be used: "),
        (json.dumps({"kind": "comparison", "schema": 2}), "it is not a comparison record of schema 1"),
        (json.dumps(plan_record([])), "it is not a comparison record of schema 1"),
        (json.dumps(comparison_record(["a"], rows=[{"method": 1}])), "cannot be used: "),
        (json.dumps(comparison_record(["a"], rows=None)), "cannot be used: "),
        (json.dumps(comparison_record(["a"])).replace("0.94", "94"), "94 stands where a share belongs"),
        ("[" * 5000, "levels are nested"),
    ],
)
def test_what_is_no_record_is_refused(content: str | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(DataError) as refused:
        read_studies([tmp_path], [])
    assert sentence in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    record: dict[str, Any] = comparison_record(["a"])
    record["rows"] = [record["rows"][0]] * 2001
    write_json(tmp_path / "comparison.json", record)
    with pytest.raises(DataError, match=r"it has 2001 rows, more than 2000\."):
        read_studies([tmp_path], [])
