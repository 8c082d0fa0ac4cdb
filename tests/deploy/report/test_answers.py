"""The report's pictures, confusions and probabilities, from records that the product wrote."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.records.answers import AnswersReport, Confusion
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.report.content.confusion import confusion_of
from edgedistill_deploy.report.page import render_report
from reference.html_page import Page
from reference.measured_bundles import bundle_of
from reference.report_bundles import add_record, full_bundle, latency_record, models_only, parity_record

PREDICTED = [0, 1, 2, 0, 1, 2, 0, 0]
TEACHER = [0, 2, 2, 1, 1, 2, 0, 1]
LABELS = [0, 2, 2, 0, 1, -1, 0, 1]
HOSTILE = "<script>alert(1)</script><img src=http://evil.example onerror=x>\"'&{{7*7}}"
MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made, _ = bundle_of(tmp_path_factory.mktemp("answers"), PREDICTED, TEACHER, LABELS)
    validate_bundle(made, ValidationRequest(threads=1), write=True)
    return made


@pytest.fixture(scope="module")
def record(bundle: Bundle) -> dict[str, Any]:
    (path,) = (bundle.path / "answers").glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def page(bundle: Bundle) -> Page:
    return Page(render_report(bundle))


def text_of(page: Page, section: str) -> str:
    return " ".join(page.sections[section].text.split())


def test_a_few_images_are_shown_with_both_answers(page: Page) -> None:
    assert "label red teacher red, 98.7 % expert red," in text_of(page, "pictures")
    assert "3 of 8 images: 1 lost, 2 gained." not in text_of(page, "pictures")
    assert "3 of 8 images" in text_of(page, "flips")
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 8 + 3
    assert all(re.match(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", attrs["src"] or "") for attrs in pictures)
    assert all(attrs["alt"] for attrs in pictures)


def test_a_report_without_pictures_has_none_and_the_same_figures(bundle: Bundle) -> None:
    page = Page(render_report(bundle, pictures=False))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "pictures" not in page.sections
    assert "3 of 8 images" in text_of(page, "flips")
    assert "confusion" in page.sections


def test_confusions_are_told_as_pairs_and_as_matrices(page: Page) -> None:
    assert page.rows("confusion", 0) == [
        ["it is", "the expert says", "images", "of", "the teacher confuses"],
        ["green", "red", "1", "2", "0"],
        ["blue", "green", "1", "2", "0"],
    ]
    difference, expert, teacher = (page.rows("confusion", place)[1:] for place in (1, 2, 3))
    assert expert == [["1 red", "3", "", ""], ["2 green", "1", "1", ""], ["3 blue", "", "1", "1"]]
    assert teacher == [["1 red", "2", "1", ""], ["2 green", "", "2", ""], ["3 blue", "", "", "2"]]
    assert difference == [["1 red", "+1", "−1", ""], ["2 green", "+1", "−1", ""], ["3 blue", "", "+1", "−1"]]
    shades = [attrs.get("class") for tag, attrs in page.tags if tag == "td" and "heat" in (attrs.get("class") or "")]
    assert shades[:3] == ["better heat-3", "better heat-3", "worse heat-5"]


def test_probabilities_tell_what_a_threshold_keeps_and_whether_they_are_true(page: Page, bundle: Bundle) -> None:
    (report,) = read_records(bundle).answers
    rows = page.rows("probabilities", 0)[1:]
    first = report.candidate.reject[0]
    assert rows[0] == [f"{first.threshold:.3f}", "100.0 %", f"{100 * first.accuracy:.1f} %"]
    assert sum(int(row[2]) for row in page.rows("probabilities", 1)[1:]) == 7


def test_without_labels_the_teacher_is_the_truth(tmp_path: Path) -> None:
    made, _ = bundle_of(tmp_path, PREDICTED, TEACHER, [-1] * 8)
    validate_bundle(made, ValidationRequest(threads=1), write=True)
    page = Page(render_report(made))
    assert page.rows("confusion")[0] == ["the teacher says", "the expert says", "images", "of"]
    assert len(page.sections["confusion"].tables) == 2
    assert "an answer counts as right where it is the teacher’s" in text_of(page, "probabilities")
    assert "No test image has a label" in text_of(page, "")


def test_every_section_and_table_has_a_name_and_no_element_a_style(bundle: Bundle, tmp_path: Path) -> None:
    for made in (bundle, full_bundle(tmp_path / "bundle")):
        page = Page(render_report(made))
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        named = [attrs.get("aria-labelledby") for tag, attrs in page.tags if tag == "section"]
        assert set(named) <= set(ids)
        count = {tag: sum(each == tag for each, _ in page.tags) for tag in ("table", "caption")}
        assert count["table"] == count["caption"] > 0
        assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")


def hostile_answers(record: dict[str, Any], made: Bundle) -> dict[str, Any]:
    text = json.dumps(record)
    for name in ("red", "green", "blue"):
        text = text.replace(f'"{name}"', json.dumps(f"{HOSTILE}{name}"))
    changed: dict[str, Any] = json.loads(text)
    changed["model_sha256"] = made.model_sha256("model.fp32")
    for example in changed["examples"]:
        example["name"] = HOSTILE
    return changed


def test_names_in_answers_stay_text(record: dict[str, Any], tmp_path: Path) -> None:
    made = models_only(tmp_path / "bundle", (HOSTILE, "b"))
    add_record(made, parity_record(made, "fp32"))
    write_json(made.path / "answers" / "one.json", hostile_answers(record, made))
    html = render_report(made)
    page = Page(html)
    assert HOSTILE in page.text
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert all(
        attrs["src"] is not None and attrs["src"].startswith("data:image/") for tag, attrs in page.tags if tag == "img"
    )
    assert all("onerror" not in attrs for _, attrs in page.tags)


def test_answers_of_a_replaced_file_are_left_out(record: dict[str, Any], tmp_path: Path) -> None:
    made = models_only(tmp_path / "bundle")
    write_json(made.path / "answers" / "one.json", record)
    records = read_records(made)
    assert records.answers == ()
    assert records.problems == (
        "answers/one.json was measured on a model file that the bundle no longer has; it is left out.",
    )


def test_a_matrix_that_is_too_large_for_a_page_is_not_drawn(record: dict[str, Any]) -> None:
    read = AnswersReport.from_json(record)
    names = tuple(map(str, range(25)))
    large = Confusion(class_names=names, teacher=((0,) * 25,) * 25, candidate=((0,) * 25,) * 25)
    found = confusion_of(replace(read, confusion=large))
    assert found is not None
    assert found.matrices == ()
    assert confusion_of(replace(read, confusion=None, pairs=())) is None


def test_one_class_has_a_page(tmp_path: Path) -> None:
    made = models_only(tmp_path / "bundle", ("owl",))
    reason = "A subtask of one class has no accuracy that could drop."
    add_record(made, parity_record(made, "fp32", verdict="inconclusive", reasons=[reason]))
    assert "May I ship it? Not yet" in text_of(Page(render_report(made)), "")


def add_devices(made: Bundle, count: int) -> None:
    """Write the same good records for several devices."""
    checked = parity_record(made, "fp32", lost=0, gained=0, count=40 * len(made.class_names))
    timed = latency_record(made, "fp32")
    timed["samples_ms"] = timed["samples_ms"][:200]
    for number in range(count):
        device = f"device-{number:02d}"
        add_record(made, {**checked, "device": device})
        add_record(made, {**timed, "device": {**timed["device"], "name": device}})


THOUSAND = [f"a class with a usual name, number {number}" for number in range(1000)]


@pytest.mark.parametrize(
    ("names", "devices"), [(THOUSAND, 1), (["cat", "dog"], 50), pytest.param(THOUSAND, 50, marks=pytest.mark.slow)]
)
def test_a_page_of_many_classes_and_devices_can_still_be_sent(names: list[str], devices: int, tmp_path: Path) -> None:
    made = models_only(tmp_path / "bundle", names)
    add_devices(made, devices)
    html = render_report(made)
    page = Page(html)
    assert len(html.encode()) < MOST_BYTES
    assert ("and 45 more devices, which the summary lists" in text_of(page, "")) == (devices == 50)
    whole = [table for table in page.sections["classes"].tables if len(table) == len(names) + 1]
    assert 1 <= len(whole) <= devices
    assert all(f"device-{number:02d}" in page.sections["summary"].text for number in range(devices))
