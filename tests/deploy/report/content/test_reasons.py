"""The section on reasons: figures as recorded, pictures inside and bounded, and a command where nothing was asked."""

import base64
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.report.content.reasons import Reasons, reasons_of
from edgedistill_deploy.report.page import render_report
from reference.html_page import Page
from reference.report_bundles import full_bundle, models_only
from reference.study_records import add_explanation, explanation_record

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"


@pytest.fixture
def explained(tmp_path: Path) -> Bundle:
    bundle = full_bundle(tmp_path / "bundle")
    add_explanation(bundle.path, explanation_record())
    return bundle


def reasons(bundle: Bundle) -> tuple[Reasons, ...]:
    return reasons_of(bundle, read_records(bundle).explanations)


def test_the_section_has_the_answer_the_floors_and_the_classes(explained: Bundle) -> None:
    page = Page(render_report(explained))
    section = page.sections["reasons"]
    text = " ".join(section.text.split())
    assert "Does the expert look at the same thing?" in text
    assert "Yes: their reasons agree far more than chance would have it." in text
    assert "expert and teacher look at the same thing: yes" in text
    assert "Left out: labels: no rival trained on labels was kept" in text
    assert "not what it sees there or whether it is right" in text
    compared, classes, flipped = section.tables
    assert [row[0] for row in compared[1:]] == [
        "expert and teacher",
        "floor: the teacher, for another class",
        "floor: students of random weights",
        "the same student, trained on labels alone",
    ]
    assert compared[1][1].split() == ["0.70", "0.60", "to", "0.80"]
    assert [row[0] for row in classes[1:]] == ["2", "1", "0"]  # the least alike first
    assert flipped[1][0] == "teacher"
    assert [float(cell) for cell in flipped[1][1:]] == sorted(float(cell) for cell in flipped[1][1:])
    assert "explain RUN" not in page.text


def test_pictures_are_inside_made_small_and_left_out_on_request(explained: Bundle) -> None:
    html = render_report(explained)
    (first, second) = reasons(explained)[0].pictures
    kind, _, data = first.source.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (560, 184)
    for each in (first, second):
        assert html.count(each.source) == 1
    assert "0: the image, the teacher’s map and the expert’s map" in html
    assert "data:image" not in render_report(explained, pictures=False)


def test_the_charts_tell_their_figures(explained: Bundle) -> None:
    pytest.importorskip("matplotlib")
    labels = re.findall(r'aria-label="([^"]*)"', render_report(explained))
    (told,) = (each for each in labels if each.startswith("Agreement of reasons"))
    assert "expert and teacher: 0.70, 0.60 to 0.80, the expert" in told
    assert "floor: students of random weights: 0.10, 0.00 to 0.20" in told
    assert sum(each.startswith("Evidence of the") for each in labels) == 2


def test_where_nothing_was_asked_one_line_says_how(tmp_path: Path) -> None:
    page = Page(render_report(models_only(tmp_path / "bundle")))
    assert "reasons" not in page.sections
    assert "edgedistill explain RUN" in page.sections["provenance"].text
    assert page.text.count("explain RUN") == 1


def test_texts_of_the_record_are_texts(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    record = explanation_record(classes=(HOSTILE, "b"))
    record["sentences"] = record["left_out"] = [HOSTILE]
    record["split"] = HOSTILE
    add_explanation(bundle.path, record)
    page = Page(render_report(bundle))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert HOSTILE in page.sections["reasons"].text


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 30 000 x 30 000 pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", bomb(), b"\x89PNG\r\n\x1a\n" + b"x" * (1 << 20)]
)
def test_what_is_no_picture_is_counted_and_not_shown(content: bytes, explained: Bundle) -> None:
    (explained.path / "explain/integrated-gradients/image-00.png").write_bytes(content)
    (found,) = reasons(explained)
    assert (len(found.pictures), found.unread_count) == (1, 1)
    assert "1 picture of the record cannot be read." in " ".join(render_report(explained).split())


def test_a_link_out_of_the_bundle_is_not_followed(explained: Bundle, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(secret)
    path = explained.path / "explain/integrated-gradients/image-00.png"
    path.unlink()
    path.symlink_to(secret)
    assert reasons(explained)[0].unread_count == 1


def test_many_methods_and_pictures_stay_small(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    for place in range(5):
        add_explanation(bundle.path, explanation_record(f"method-{place}", pictures=12))
    found = reasons(bundle)
    assert [each.report.method for each in found] == ["method-0", "method-1", "method-2"]
    assert 0 < sum(len(picture.source) for each in found for picture in each.pictures) <= 500_000
