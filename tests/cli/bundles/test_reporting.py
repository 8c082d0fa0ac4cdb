"""`report`: one bundle, several side by side, and the commands that it tells people to type."""

import json
import shlex
from pathlib import Path

import pytest

from command import run_command
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.recommendation.choice import choose
from edgedistill_deploy.recommendation.shipping import judge_shipping
from edgedistill_deploy.recommendation.summary import conclude, summarise_records
from edgedistill_deploy.records.reading import read_records
from reference.html_page import Page
from reference.measured_bundles import bundle_of
from reference.report_bundles import DIGITS, add_record, full_bundle, models_only, parity_record
from reference.study_records import comparison_record, plan_record


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Bundle, Bundle]:
    bad = models_only(tmp_path / "bad")
    add_record(bad, parity_record(bad, "fp32", lost=120, gained=5, verdict="fail"))
    return full_bundle(tmp_path / "good"), bad


def test_several_bundles_are_put_side_by_side(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    page, markdown = tmp_path / "page.html", tmp_path / "summary.md"
    outcome = run_command("report", *(each.path for each in pair), "--out", page, "--markdown", markdown)
    assert outcome.code == 0
    assert "good" in outcome.stdout
    assert "bad: worst classes" in outcome.stdout
    assert outcome.stdout.rstrip().endswith(str(page))
    assert Page(page.read_text(encoding="utf-8")).rows("bundles")[2][:2] == ["bad", "No."]
    assert "| bad | No. |" in markdown.read_text(encoding="utf-8")
    assert not (pair[0].path / "report.html").exists()


def test_the_comparison_is_one_document_too(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    outcome = run_command("report", *(each.path for each in pair), "--out", tmp_path / "page.html", "--json")
    document = json.loads(outcome.stdout)
    assert (document["kind"], document["page"]) == ("bundle-comparison", str(tmp_path / "page.html"))
    assert [each["verdict"] for each in document["bundles"]] == ["pass", "fail"]


def test_without_out_the_page_lies_where_the_user_is(
    pair: tuple[Bundle, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run_command("report", *(each.path for each in pair)).code == 0
    assert (tmp_path / "here" / "bundles.html").is_file()


def test_one_bundle_twice_and_two_documents_are_refused(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    good = pair[0].path
    outcome = run_command("report", good, good, "--out", tmp_path / "page.html")
    assert outcome.code == 2
    assert f"The bundle {good} was given twice; name each bundle once." in outcome.stderr
    outcome = run_command("report", good, pair[1].path, "--json", "--markdown", "-")
    assert outcome.code == 2
    assert "both want the standard output" in outcome.stderr
    outcome = run_command("report", good, tmp_path / "nothing")
    assert outcome.code == 1
    assert "nothing does not exist" in outcome.stderr


def test_a_page_that_cannot_be_written_names_the_way_out(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    outcome = run_command("report", *(each.path for each in pair), "--out", tmp_path / "file" / "page.html")
    assert outcome.code == 1
    assert "--out FILE writes the page to another place." in outcome.stderr


def test_one_bundle_has_a_summary_as_markdown(pair: tuple[Bundle, Bundle]) -> None:
    outcome = run_command("report", pair[1].path, "--markdown", "-")
    assert outcome.code == 0
    assert "EdgeDistill: bundle fail" in outcome.stdout


def test_pictures_are_kept_unless_they_are_refused(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1, 2], [0, 1, 1], [0, 1, 2])
    page = bundle.path / "report.html"
    assert run_command("validate", bundle.path).code in (3, 4)
    assert run_command("report", bundle.path).code == 0
    assert "data:image/png;base64" in page.read_text(encoding="utf-8")
    assert run_command("report", bundle.path, "--no-pictures").code == 0
    assert "data:image" not in page.read_text(encoding="utf-8")
    assert run_command("validate", bundle.path, "--no-pictures").code in (3, 4)
    assert run_command("report", bundle.path).code == 0
    assert "data:image" not in page.read_text(encoding="utf-8")


def _steps(bundle: Bundle) -> list[str]:
    records = read_records(bundle)
    shipping = judge_shipping(bundle, records, conclude(summarise_records(bundle, records), choose(records)))
    return [step.command for step in shipping.steps if step.command]


def test_every_command_that_is_advised_exists_with_its_flags(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    good, bad = pair
    (bad.path / "settings.toml").write_text("", encoding="utf-8")
    broken = [{"name": "row-permutation", "passed": False, "detail": "It differs.", "inputs": []}]
    worse = models_only(tmp_path / "worse")
    add_record(worse, parity_record(worse, "fp32"))
    add_record(worse, parity_record(worse, "int8", lost=120, gained=5, verdict="fail", metamorphic=broken))
    dead = models_only(tmp_path / "dead")
    finding = {"name": "7", "fault": "dead", "verdict": "fail", "detail": "It is dead."}
    add_record(dead, parity_record(dead, "fp32", verdict="fail", class_findings=[finding]))
    advised = {command for each in (good, bad, worse, dead, models_only(tmp_path / "new")) for command in _steps(each)}
    flags: dict[str, set[str]] = {}
    for command in advised:
        program, name, *words = shlex.split(command)
        assert program == "edgedistill"
        flags.setdefault(name, set()).update(word for word in words if word.startswith("--"))
    assert set(flags) == {"validate", "build", "profile", "pack", "ledger", "calibrate", "predict", "snippet"}
    for name, used in flags.items():
        told = run_command(name, "--help").stdout
        assert not {flag for flag in used if flag not in told}, name


def test_a_comparison_and_a_plan_stand_beside_the_models(pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    write_json(tmp_path / "compared" / "comparison.json", comparison_record(DIGITS))
    write_json(tmp_path / "planned" / "plan.json", plan_record([]))
    good, page = pair[0].path, tmp_path / "page.html"
    beside = ("--compare", tmp_path / "compared", "--plan", tmp_path / "planned")
    assert run_command("report", good, "--out", page, *beside).code == 0
    assert "labels, compared" in [row[0] for row in Page(page.read_text(encoding="utf-8")).rows("costs")]
    outcome = run_command("report", *(each.path for each in pair), *beside, "--out", tmp_path / "both.html")
    assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
    assert "--compare and --plan belong to the report of one bundle" in outcome.stderr
    outcome = run_command("report", good, "--out", tmp_path / "none.html", "--compare", tmp_path / "planned")
    assert (outcome.code, outcome.stderr.count("\n")) == (1, 1)
    assert "There is no comparison.json in" in outcome.stderr
    assert not (tmp_path / "none.html").exists()
