"""`plan`: students timed untrained by the real runtime, and what the command makes of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from command import Outcome, run_command

SMALL = "resnet10t@0.125"
TWO = f"plain:4-8,{SMALL}"


def planned(data: Path, *argv: str | Path, budget: str = "1000", students: str = TWO) -> Outcome:
    return run_command(
        "plan",
        "--budget-ms",
        budget,
        "--data",
        f"npz:{data}",
        "--teacher",
        "embedded:glyphs100",
        "--classes",
        "0,1,2,3",
        "--students",
        students,
        "--duration",
        "0.1",
        "--warmup",
        "0",
        "--percentile",
        "50",
        *argv,
    )


def document(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.stderr
    record: dict[str, Any] = json.loads(outcome.stdout)
    return record


def test_students_are_timed_in_both_precisions_and_kept(tiny_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan"
    record = document(
        planned(tiny_digits, "--precision", "fp32,int8", "--no-inspect", "--out", out, "--json", "--quiet")
    )
    assert record == json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["verdict"], record["device"]) == ("student-plan", "pass", "this machine")
    rows = {(row["student"], row["width"], row["precision"]): row for row in record["rows"]}
    assert set(rows) == {
        (*student, precision)
        for student in (("plain:4-8", 1.0), ("timm:resnet10t", 0.125))
        for precision in ("fp32", "int8")
    }
    assert all(row["interval"][0] <= row["value_ms"] for row in rows.values())
    assert [row["multiply_adds"] for row in record["rows"]] == sorted(
        (row["multiply_adds"] for row in record["rows"]), reverse=True
    )
    assert record["proposed"]
    # What was measured is not measured again.
    bundles = {path: path.stat().st_mtime_ns for path in out.glob("students/*/model.fp32.onnx")}
    assert len(bundles) == 2
    again = document(
        planned(tiny_digits, "--precision", "fp32,int8", "--no-inspect", "--out", out, "--json", "--quiet")
    )
    assert {path: path.stat().st_mtime_ns for path in bundles} == bundles
    assert again == record


@pytest.fixture(scope="module")
def timed(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plan that has timed a small student, which other plans with it need not export and time again."""
    out = tmp_path_factory.mktemp("timed") / "plan"
    document(planned(tiny_digits, "--no-inspect", "--out", out, "--json", students=SMALL))
    return out


@pytest.fixture
def measured(timed: Path, tmp_path: Path) -> Path:
    """A copy of it for a plan to add to."""
    return shutil.copytree(timed, tmp_path / "plan")


def test_the_table_says_which_are_wide_enough_for_the_teacher(
    tiny_digits: Path, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    outcome = planned(tiny_digits, "--out", measured, students=SMALL)
    assert outcome.code == 0, outcome.stderr
    assert "wide enough" in outcome.stdout
    assert "The suggested widths are from" in outcome.stdout
    assert (
        "Worth distilling, the largest first: --student timm:resnet10t --student-width 0.125 (fp32)" in outcome.stdout
    )


def test_a_budget_that_none_keeps_is_exit_code_3(tiny_digits: Path, measured: Path) -> None:
    outcome = planned(tiny_digits, "--no-inspect", "--out", measured, budget="0.000001", students=SMALL)
    assert outcome.code == 3
    assert "None fits 1e-06 ms; the fastest is timm:resnet10t@0.125 fp32 with" in outcome.stdout


def test_a_budget_on_the_time_itself_is_undecided(tiny_digits: Path, measured: Path) -> None:
    first = document(planned(tiny_digits, "--no-inspect", "--out", measured, "--json", students=SMALL))
    outcome = planned(
        tiny_digits, "--no-inspect", "--out", measured, budget=str(first["rows"][0]["value_ms"]), students=SMALL
    )
    assert outcome.code == 4, outcome.stdout
    assert "ms is undecided" in outcome.stdout


def test_a_student_that_cannot_be_built_does_not_spoil_the_others(tiny_digits: Path, measured: Path) -> None:
    outcome = planned(tiny_digits, "--no-inspect", "--out", measured, students=f"{SMALL},timm:lcnet_050@0.5")
    assert outcome.code == 0
    assert "timm:lcnet_050@0.5 fp32 failed: The width of lcnet_050 cannot be scaled by a factor" in outcome.stdout


def test_an_inspection_of_a_run_is_taken_and_a_broken_one_refused(
    tiny_digits: Path, measured: Path, tmp_path: Path
) -> None:
    file = tmp_path / "inspection.json"
    suggested = [{"layer": "layer1", "suggested_width": {"prca": 400}}]
    file.write_text(
        json.dumps({"suggestion": {"method": "prca", "student": None}, "layers": suggested}), encoding="utf-8"
    )
    record = document(planned(tiny_digits, "--inspection", file, "--out", measured, "--json", students=SMALL))
    assert record["rows"][0]["wide_enough"] is False
    assert record["rows"][0]["widths"] == [{"teacher": "layer1", "suggested": 400, "student": "layer1", "width": 8}]
    file.write_text("no json", encoding="utf-8")
    outcome = planned(tiny_digits, "--inspection", file)
    assert outcome.code == 1
    assert "is no JSON; give the inspection.json" in outcome.stderr


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--budget-ms", "0"), "The budget is 0.0 ms; it must be more than 0"),
        (("--budget-ms", "5", "--students", "timm:resnet10q"), "resnet10q"),
        (("--budget-ms", "5", "--precision", "fp3"), "no precision 'fp3'. Did you mean fp32"),
        (("--budget-ms", "5", "--device", "nowhere"), "nowhere"),
    ],
)
def test_wrong_flags_are_refused(tiny_digits: Path, argv: tuple[str, ...], sentence: str) -> None:
    outcome = run_command(
        "plan",
        "--data",
        f"npz:{tiny_digits}",
        "--teacher",
        "embedded:glyphs100",
        "--classes",
        "0,1",
        "--no-inspect",
        *argv,
    )
    assert outcome.code == 2
    assert sentence in outcome.stderr


def test_a_run_and_a_settings_file_exclude_each_other_and_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    both = run_command("plan", tmp_path, "--config", tmp_path / "x.toml", "--budget-ms", "5")
    assert both.code == 2
    assert "Both a run folder and --config were given" in both.stderr
    none = run_command("plan", tmp_path, "--budget-ms", "5")
    assert none.code == 2
    assert "is not a run folder (it has no settings.toml)" in none.stderr


def test_a_width_whose_channels_fill_no_kernel_is_timed_beside_one_that_does(tiny_digits: Path) -> None:
    outcome = planned(tiny_digits, "--no-inspect", "--json", students="resnet10t@0.2")
    rows = {row["width"]: row for row in document(outcome)["rows"]}
    wider = max(rows)
    assert sorted(rows) == [0.2, wider]
    assert rows[wider]["multiply_adds"] > rows[0.2]["multiply_adds"]
    assert f"plan: timm:resnet10t@{wider:g} is timed too: layers of timm:resnet10t@0.2 have" in outcome.stderr
