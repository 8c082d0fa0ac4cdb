"""The report's parts on single decisions: from records that the product wrote, and from damaged ones."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.parity.chain import chain_record, write_chain
from edgedistill_deploy.parity.flips import write_flip_record
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.records.answers import MAX_PICTURE_BYTES
from edgedistill_deploy.records.decisions import INLINED
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.report.page import render_report
from reference.html_page import Page
from reference.measured_bundles import bundle_of
from reference.report_bundles import models_only

PREDICTED = [0, 1, 2, 0, 1, 2]
TEACHER = [0, 2, 2, 1, 1, 2]
LABELS = [0, 2, 2, 0, 1, -1]
NOT_A_PICTURE = base64.b64encode(b"<svg onload=alert(1)>").decode()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose float expert was checked, image by image."""
    made, _ = bundle_of(tmp_path_factory.mktemp("decisions"), PREDICTED, TEACHER, LABELS)
    found = validate_bundle(made, ValidationRequest(flips=True, threads=1))
    write_flip_record(made, found.flips[0])
    write_chain(made, chain_record(found.reports, found.chain))
    return made


def test_the_page_shows_the_flips_with_their_pictures(bundle: Bundle) -> None:
    page = Page(render_report(bundle))
    text = " ".join(page.sections["flips"].text.split())
    assert "expert fp32" in text
    assert "2 of 6 images: 1 lost, 1 gained." in text
    assert "teacher blue, 98.7 %" in text
    assert "label red" in text
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 2
    assert all((attrs["src"] or "").startswith("data:image/png;base64,iVBOR") for attrs in pictures)
    assert "#flips" in {attrs.get("href") for tag, attrs in page.tags if tag == "a"}


def test_the_page_shows_where_the_accuracy_went(bundle: Bundle) -> None:
    rows = Page(render_report(bundle)).rows("parity")
    teacher, fp32 = rows[-2:]
    assert teacher == ["teacher", "", "80.0 %", "", "", ""]
    assert fp32[:4] == ["expert fp32", "teacher", "80.0 %", "0.00"]
    assert fp32[-1] == "66.7 %"


def test_without_records_nothing_is_said(tmp_path: Path) -> None:
    page = Page(render_report(models_only(tmp_path / "bundle")))
    assert "flips" not in page.sections
    assert "Where the accuracy went" not in page.text


@pytest.fixture
def record(bundle: Bundle) -> dict[str, Any]:
    (path,) = (bundle.path / "flips").glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize(
    ("thumbnail", "told"),
    [
        (NOT_A_PICTURE, "a picture is not a PNG or a JPEG"),
        ('iVBOR"><script>', "a picture is not base64"),
        ("A" * (MAX_PICTURE_BYTES + 1), f"a picture has more than {MAX_PICTURE_BYTES} characters"),
        (3, "3 stands where a text belongs"),
    ],
)
def test_what_is_no_picture_leaves_the_record_out(
    thumbnail: Any, told: str, record: dict[str, Any], tmp_path: Path
) -> None:
    made = models_only(tmp_path / "bundle")
    record["flips"][0]["thumbnail"] = thumbnail
    record["model_sha256"] = made.model_sha256("model.fp32")
    write_json(made.path / "flips" / "one.json", record)
    records = read_records(made)
    assert records.flips == ()
    assert records.problems == (f"flips/one.json is left out: {told}.",)


def test_pictures_are_bounded_in_number(record: dict[str, Any], tmp_path: Path) -> None:
    made = models_only(tmp_path / "bundle")
    record["flips"] = record["flips"][:1] * 50
    record["model_sha256"] = made.model_sha256("model.fp32")
    write_json(made.path / "flips" / "one.json", record)
    (read,) = read_records(made).flips
    assert len(read.pictured) == INLINED


def test_records_of_replaced_files_are_left_out(bundle: Bundle, tmp_path: Path) -> None:
    made = models_only(tmp_path / "bundle")
    for kind in ("flips", "chain"):
        (path,) = (bundle.path / kind).glob("*.json")
        (made.path / kind).mkdir()
        (made.path / kind / "one.json").write_bytes(path.read_bytes())
    records = read_records(made)
    assert (records.flips, records.chains) == ((), ())
    assert set(records.problems) == {
        "flips/one.json was measured on a model file that the bundle no longer has; it is left out.",
        "chain/one.json was measured on model files that the bundle no longer has; it is left out.",
    }
