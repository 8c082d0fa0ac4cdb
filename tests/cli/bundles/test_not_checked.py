"""Checks that could not be made are named on every surface, and --strict fails them."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from command import run_command
from reference.class_bundles import animals, class_bundle
from reference.html_page import Page

UNNAMED = "class_names: Not checked, because model.fp32.onnx does not name its classes; export it again."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound bundle whose model says nothing of its classes, and that has neither golden outputs nor golden images."""
    return class_bundle(tmp_path / "bundle", animals([])).without_file("golden").path


def test_every_surface_names_them(folder: Path, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "junit.xml", tmp_path / "summary.md"
    done = run_command("validate", folder, "--junit", junit, "--markdown", markdown)
    assert done.code == 0, done.stdout
    for start in (UNNAMED, "golden_outputs: Not checked, because", "golden_images: Not checked, because"):
        assert any(line.startswith(f"expert fp32: {start}") for line in done.stdout.splitlines())
    cases = {each.attrib["name"]: each for each in ElementTree.parse(junit).getroot().iter("testcase")}
    for name in ("class_names", "golden_outputs", "golden_images", "preprocess_digest"):
        skipped = cases[name].find("skipped")
        assert skipped is not None
        assert skipped.attrib["message"].startswith("Not checked, because ")
    text = markdown.read_text(encoding="utf-8").replace("\\", "")
    assert f"- {UNNAMED}" in text
    run_command("report", folder)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    shown = " ".join(page.sections["parity"].text.split())
    assert "class names not checked" in shown
    assert UNNAMED in shown


def test_strict_fails_them_and_says_how_to_get_them_checked(folder: Path) -> None:
    done = run_command("validate", folder, "--strict", "--json")
    assert done.code == 3
    (record,) = json.loads(done.stdout)["records"]
    assert record["verdict"] == "fail"
    assert record["limits"]["strict"] is True
    assert record["diagnosis"] == []
    for unchecked in record["not_checked"]:
        sentence = f"Check {unchecked['name']} was not made, and --strict asks for it. {unchecked['detail']}"
        assert sentence in record["reasons"]
