"""What compare and plan found stands in the plane of accuracy against cost, where it fits this bundle."""

from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.records.studies.reading import Studies, read_studies
from edgedistill_deploy.report.page import render_report
from reference.html_page import Page
from reference.report_bundles import DIGITS, full_bundle, models_only
from reference.study_records import comparison_record, plan_record

PLANNED = {
    "student": "plain:4-8",
    "width": 0.5,
    "precision": "fp32",
    "parameters": 1200,
    "multiply_adds": 479_264,
    "p50_ms": 0.14,
    "within_budget": "pass",
    "proposed": True,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return full_bundle(tmp_path_factory.mktemp("beside") / "bundle")


def studies(folder: Path, comparison: dict[str, Any] | None, plan: dict[str, Any] | None = None) -> Studies:
    for name, record in (("comparison.json", comparison), ("plan.json", plan)):
        if record is not None:
            write_json(folder / "found" / name, record)
    place = [folder / "found"]
    return read_studies(place if comparison else [], place if plan else [])


def costs(bundle: Bundle, found: Studies) -> tuple[Page, list[list[str]]]:
    page = Page(render_report(bundle, studies=found))
    return page, page.rows("costs")


def test_compared_methods_cost_what_the_expert_of_the_same_student_costs(bundle: Bundle, tmp_path: Path) -> None:
    page, rows = costs(bundle, studies(tmp_path, comparison_record(DIGITS)))
    (expert,) = (row for row in rows if row[0] == "expert fp32")
    assert rows[-2:] == [
        ["subdistill, compared", "workbench", "94.0 %", *expert[3:]],
        ["labels, compared", "workbench", "90.0 %", *expert[3:]],
    ]
    assert "found compares timm:resnet18, on 500 training images, by the mean of 3 seeds." in page.text


def test_a_plan_tells_what_another_student_costs(bundle: Bundle, tmp_path: Path) -> None:
    compared = comparison_record(DIGITS, "plain:4-8")
    compared["tasks"][0]["student_width"] = 0.5
    page, rows = costs(bundle, studies(tmp_path, compared, plan_record([PLANNED])))
    assert rows[-1] == ["labels, compared", "board", "90.0 %", "140 µs", "–"]
    assert page.sections["costs"].tables[1][1] == [
        "plain:4-8@0.5", "board", "fp32", "140 µs", "1.20 k", "479 k", "yes", "yes",
    ]  # fmt: skip
    html = render_report(bundle, studies=studies(tmp_path, compared, plan_record([PLANNED])))
    if "The charts are left out" not in html:
        assert "plain:4-8@0.5 fp32, board, not trained: 0.14 ms" in html
        assert "labels, board: 90.0 %, 0.14 ms" in html


def test_a_student_that_nobody_timed_is_in_the_table_alone(bundle: Bundle, tmp_path: Path) -> None:
    page, rows = costs(bundle, studies(tmp_path, comparison_record(DIGITS, "timm:other")))
    assert rows[-1] == ["labels, compared", "–", "90.0 %", "–", "–"]
    assert "How fast the student of found is, timm:other, is not known; `edgedistill plan` times it." in page.text


def test_what_does_not_fit_is_said(bundle: Bundle, tmp_path: Path) -> None:
    page, rows = costs(bundle, studies(tmp_path, comparison_record(["a", "b"])))
    assert not [row for row in rows if "compared" in row[0]]
    assert "The comparison found has other classes, so it is left out." in page.text
    unlabelled = comparison_record(DIGITS)
    unlabelled["tasks"][0]["judged_by"] = "teacher"
    page, _ = costs(bundle, studies(tmp_path / "more", unlabelled))
    assert "measures agreement with the teacher, and this page does not" in page.text


def test_before_any_measurement_the_plan_is_there_all_the_same(tmp_path: Path) -> None:
    page, _ = costs(models_only(tmp_path / "bundle"), studies(tmp_path, None, plan_record([PLANNED])))
    assert page.sections["costs"].tables[0][1][0] == "plain:4-8@0.5"
    assert "costs" not in Page(render_report(models_only(tmp_path / "other"))).sections


def test_many_and_hostile_rows_stay_few_and_texts(bundle: Bundle, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>" + "W" * 200
    many = [{**PLANNED, "student": f"{hostile}{place}", "width": 1.0} for place in range(300)]
    compared = comparison_record(DIGITS)
    compared["rows"] = [{**compared["rows"][0], "method": f"{hostile}{place}"} for place in range(300)]
    page, rows = costs(bundle, studies(tmp_path, compared, plan_record(many, device=hostile)))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert sum("compared" in row[0] for row in rows) == 40
    assert "Of 300 compared methods, the first 40 are shown." in page.text
    assert "Of 300 planned students, the first 40 are shown." in page.text
