"""A dead class, on every surface that speaks of a verdict: it is named first, and nothing calls the expert good."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from command import run_command
from edgedistill_cli.settings_file import read_settings, write_settings
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.records.build import summarise_build
from edgedistill_deploy.records.parity import ParityLimits
from reference.class_bundles import LION, animals, class_bundle, dead_lions
from reference.html_page import Page

DEAD = "The class 'lion' is dead: none of 40 images right, teacher 37.5 %; never answered."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight animals, forty images each: the expert gets no lion right and all others, the teacher 15 of 40 lions."""
    return class_bundle(tmp_path / "bundle", animals(dead_lions())).path


def first_line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_gate_fails_and_names_it_first_on_every_surface(folder: Path, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "junit.xml", tmp_path / "summary.md"
    done = run_command("validate", folder, "--junit", junit, "--markdown", markdown)
    assert done.code == 3, done.stderr
    assert first_line_of(done.stdout, "expert fp32: ") == f"expert fp32: {DEAD}"
    assert "good enough" not in done.stdout
    cases = {each.attrib["name"]: each for each in ElementTree.parse(junit).getroot().iter("testcase")}
    for name in ("verdict", "classes", "lion"):
        failure = cases[name].find("failure")
        assert failure is not None
        assert failure.attrib["message"].startswith(DEAD)
    assert cases["accuracy_drop"].find("failure") is None
    lines = markdown.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "## ❌ EdgeDistill: bundle fail"
    assert first_line_of("\n".join(lines), "- ").startswith(f"- ❌ verdict: {DEAD}")
    assert f"- ❌ lion: {DEAD}" in lines


def test_the_report_does_not_open_in_green(folder: Path) -> None:
    run_command("validate", folder)
    assert run_command("report", folder).code == 0
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    opening = " ".join(page.sections[""].text.split())
    assert "May I ship it? No." in opening
    assert "What is wrong with it model.fp32.onnx never gives the answer lion, which the teacher does give." in opening
    assert opening.index("No.") < opening.index("the answer lion") < opening.index("Summary")
    [answer] = [each for _, attrs in page.tags if "answer" in (each := (attrs.get("class") or "").split())]
    assert answer == ["answer", "verdict", "fail"]
    assert "good enough" not in page.text
    assert DEAD in " ".join(page.sections["classes"].text.split())


def test_the_build_record_fails_too(folder: Path) -> None:
    run_command("validate", folder)
    found = summarise_build(open_bundle(folder))
    assert (found["verdict"], found["verdicts"]) == ("fail", {"fp32": "fail"})


def test_the_json_says_which_class_and_why(folder: Path) -> None:
    done = run_command("validate", folder, "--json", "--precision", "fp32")
    assert done.code == 3
    record: dict[str, Any] = json.loads(done.stdout)
    assert record["verdict"] == "fail"
    [found] = record["class_findings"]
    assert (found["name"], found["fault"], found["verdict"], found["detail"]) == ("lion", "dead", "fail", DEAD)
    row = record["per_class"][LION]
    assert (row["support"], row["candidate"], row["teacher"], row["answer_count"]) == (40, 0.0, 0.375, 0)


def test_an_allowed_class_passes_and_is_named(folder: Path) -> None:
    done = run_command("validate", folder, "--allow-class", "Lion", "--allow-class", "zebra")
    assert done.code == 0, done.stdout
    assert first_line_of(done.stdout, "expert fp32: ").startswith(
        "expert fp32: The class 'lion' is dead, which is allowed"
    )
    run_command("report", folder)
    assert "The fp32 expert is good enough" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_class_that_there_is_not_is_one_sentence(folder: Path) -> None:
    done = run_command("validate", folder, "--allow-class", "Lyon")
    assert (done.code, done.stderr) == (2, "error: The expert has no class 'Lyon'. Did you mean lion?\n")
    done = run_command(
        "build", "--data", "embedded:digits", "--teacher", "embedded:glyphs100", "--student", "plain:8-8",
        "--classes", "1,7", "--allow-class", "8", "--out", folder / "never",
    )  # fmt: skip
    assert (done.code, done.stderr) == (2, "error: The expert has no class '8'. Known: 1, 7.\n")
    assert not (folder / "never").exists()


def test_limits_of_a_class_and_of_the_agreement_are_gates(folder: Path) -> None:
    done = run_command("validate", folder, "--allow-class", "lion", "--min-agreement", "0.9")
    assert done.code == 3
    assert "least agreement of 90.00 %" in first_line_of(done.stdout, "expert fp32: ")
    done = run_command("validate", folder, "--allow-class", "lion", "--max-class-drop", "0.02")
    assert done.code == 4
    assert "7 classes may lose more than the 2.00 points allowed for a class: " in done.stdout


def test_the_limits_of_the_settings_file_are_those_of_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "edgedistill.toml"
    assert run_command("init", file).code == 0
    text = file.read_text(encoding="utf-8")
    for commented in ("max_class_drop = 0.1", "min_agreement = 0.9"):
        assert f"\n# {commented}\n" in text
        text = text.replace(f"# {commented}", commented)
    file.write_text(text.replace("allowed_classes = []", 'allowed_classes = ["cat"]'), encoding="utf-8")
    wanted = ParityLimits(max_class_drop=0.1, min_agreement=0.9, allowed_classes=("cat",))
    settings = read_settings(file, {})
    assert settings.validate == wanted
    write_settings(file, settings)
    assert read_settings(file, {}).validate == wanted
