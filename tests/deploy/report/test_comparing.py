"""Several bundles side by side: the right figures of each, what cannot be compared, and names that stay text."""

from pathlib import Path

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.report.comparing import compare_bundles, comparison_markdown
from edgedistill_deploy.report.page import render_comparison
from reference.html_page import Page
from reference.report_bundles import add_record, full_bundle, latency_record, models_only, parity_record

HOSTILE = "<script>alert(1)</script>|`*\"'&{{7*7}}"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("compared")
    bad = models_only(folder / "bad")
    add_record(bad, parity_record(bad, "fp32", lost=120, gained=5, verdict="fail"))
    return full_bundle(folder / "good"), bad, models_only(folder / "new")


def test_each_bundle_has_a_row_by_the_file_to_ship(bundles: tuple[Bundle, ...]) -> None:
    good, bad, new = compare_bundles(bundles).table
    assert good[:8] == ("good", "Yes.", "expert int8", "94.5 %", "95.3 %", "0.75", "94.4 µs on workbench", "118 kB")
    assert bad[:7] == ("bad", "No.", "expert fp32", "89.5 %", "95.3 %", "5.75", "–")
    assert new == ("new", "Not known: nothing was compared with the teacher yet.", *["–"] * 8)
    assert good[-1].startswith("9 ")


def test_the_document_has_every_model_and_the_verdicts(bundles: tuple[Bundle, ...]) -> None:
    document = compare_bundles(bundles).to_json()
    assert (document["kind"], document["schema"]) == ("bundle-comparison", 1)
    good, bad, new = document["bundles"]
    assert [each["verdict"] for each in (good, bad, new)] == ["pass", "fail", None]
    assert [row["precision"] for row in good["models"]] == ["teacher", "fp32", "int8"]
    assert good["model"]["accuracy"] == parity_record(bundles[0], "int8", lost=29, gained=14)["accuracy"]["candidate"]
    assert (good["file"], bad["file"], new["model"]) == ("model.int8.onnx", None, None)
    assert good["worst_classes"][0]["name"] == "9"


def test_the_page_has_the_same_figures_and_asks_for_nothing(bundles: tuple[Bundle, ...]) -> None:
    comparison = compare_bundles(bundles)
    html = render_comparison(comparison)
    page = Page(html)
    assert page.rows("bundles")[1:] == [[" ".join(cell.split()) for cell in row] for row in comparison.table]
    assert len(page.rows("models")) == 1 + 9
    assert "model.fp32.onnx loses 5.75 of 100 answers against the teacher" in page.sections["wrong"].text
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe"}
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{}], "its own alone, with nothing to load"
    assert "http" not in html.replace("http-equiv", "")


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    first, second = models_only(tmp_path / "a"), models_only(tmp_path / "b", ("cat", "dog"))
    assert compare_bundles([first, second]).notes == (
        "The bundles have different classes, so their accuracies are not of the same task.",
    )
    third = models_only(tmp_path / "c")
    (third.path / "reference.npz").write_bytes(b"other images")
    third = third.with_file("reference", third.path / "reference.npz")
    assert "may be of other images" in compare_bundles([first, third]).notes[0]
    for made, device in ((first, "pi"), (third, "jetson")):
        add_record(made, parity_record(made, "fp32", device=device))
        timed = latency_record(made, "fp32")
        add_record(made, {**timed, "device": {**timed["device"], "name": device}})
    assert compare_bundles([first, third]).notes[1] == "The latencies are of different devices: jetson and pi."


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    made = [models_only(tmp_path / place / "run") for place in ("monday", "tuesday")]
    assert [row[0] for row in compare_bundles(made).table] == [str(each.path) for each in made]


def test_names_of_classes_and_devices_stay_text(tmp_path: Path) -> None:
    made = [models_only(tmp_path / name, (HOSTILE, "b")) for name in ("a", "b")]
    for each in made:
        record = {**parity_record(each, "fp32", lost=300), "device": "d"}
        path = add_record(each, record)
        write_json(path, {**record, "device": HOSTILE})
    comparison = compare_bundles(made)
    page = Page(render_comparison(comparison))
    assert [tag for tag, _ in page.tags].count("script") == 1, "the page's own"
    assert HOSTILE in page.text
    lines = comparison_markdown(comparison).splitlines()
    assert "<script>" not in "\n".join(lines)
    assert all(line.replace("\\|", "").count("|") == 11 for line in lines if line.startswith("|"))
