"""Images with names that no output can show as they are: every output shows them alike, and none obeys them."""

import dataclasses
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import run_command
from edgedistill_deploy.bundle.reference import read_reference, write_reference
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.sources import open_images
from reference.html_page import Page
from reference.junit_shape import checked_suites
from reference.measured_bundles import bundle_of
from reference.measured_models import CLASS_NAMES

# What a file is called, and how it is shown.
NAMES = {
    b"caf\xe9.png": r"caf\xe9.png",
    b"two\nlines.png": r"two\nlines.png",
    b"\x1b[31mred\x07.png": r"\x1b[31mred\x07.png",
    "\u202egnp.exe.png".encode(): r"\u202egnp.exe.png",
    b"<script>alert(1)<.png": "<script>alert(1)<.png",
    b"a|b*c_d`e.png": "a|b*c_d`e.png",
}
FORBIDDEN = "\x1b\x07\u202e\udce9"

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names must be Unicode there")


LABELS = [0, 0, 1, 1, 2, 2]
BUNDLE, SHOWN = "b\u202e\x1b[1mndle", r"b\u202e\x1b[1mndle"


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Path, Path]:
    """A bundle that answers all images wrongly, and the folder of these images."""
    bundle, images = bundle_of(tmp_path, [1, 1, 2, 2, 0, 0], LABELS, LABELS)
    folder = tmp_path / os.fsdecode(b"im\xe9ages")
    digests = []
    for row, name in enumerate(NAMES):
        path = folder / CLASS_NAMES[LABELS[row]] / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        images.read(row).save(path)
        digests.append(sha256_of_file(path))
    reference = read_reference(bundle.file("reference"))
    write_reference(bundle.path / "reference.npz", dataclasses.replace(reference, digests=np.asarray(digests)))
    bundle = bundle.with_file("reference", bundle.path / "reference.npz")
    bundle.with_fields(subtask={**bundle.manifest["subtask"], "name": "col\u202eours"})
    return bundle.path.rename(tmp_path / BUNDLE), folder


def test_every_output_of_a_validation_shows_names_alike(measured: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, images = measured
    words: list[str | Path] = ["validate", bundle, "--data", images, "--flips", tmp_path / "flips"]
    told = run_command(*words, "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md", "--json")
    assert told.code == 3, told.stderr
    index = (tmp_path / "flips" / "flips.json").read_text(encoding="utf-8")
    (record,) = json.loads(index)["records"]
    assert {each["name"].rpartition("/")[2] for each in record["flips"]} == set(NAMES.values())
    assert all(r"/im\xe9ages/" in each["name"] for each in record["flips"])
    assert json.loads(told.stdout)["records"][0]["bundle"] == SHOWN
    (suite,) = checked_suites((tmp_path / "j.xml").read_text(encoding="utf-8"))
    values = {each.attrib["name"]: each.attrib["value"] for each in suite.find("properties") or ()}
    assert values["bundle"] == SHOWN
    markdown = (tmp_path / "m.md").read_text(encoding="utf-8")
    assert SHOWN in re.sub(r"\\(?=[^\w ])", "", markdown)  # but for Markdown's own escapes

    assert run_command("report", bundle).code == 0
    html = (bundle / "report.html").read_text(encoding="utf-8")
    titles = {attrs["title"] or "" for tag, attrs in Page(html).tags if tag == "img"}
    assert {title.rpartition("/")[2] for title in titles} == set(NAMES.values())
    assert r"col\u202eours" in html
    screen = run_command(*words)
    outputs = (index, told.stdout, markdown, html, screen.stdout, screen.stderr)
    assert not any(letter in text for letter in FORBIDDEN for text in outputs)
    assert all(text.encode() for text in outputs)
    assert html.count("<script") == 1, "the page's own"


def test_the_models_are_timed_too_and_the_bundle_is_named(measured: tuple[Path, Path]) -> None:
    told = run_command("profile", measured[0], "--duration", "0.02", "--warmup", "0", "--json")
    assert told.code == 0, told.stderr
    assert json.loads(told.stdout)["records"][0]["bundle"] == SHOWN


@pytest.mark.parametrize("words", [("validate",), ("profile", "--duration", "0.02", "--warmup", "0")])
def test_a_bundle_that_the_runtime_cannot_open_is_named(measured: tuple[Path, Path], words: tuple[str, ...]) -> None:
    bundle = measured[0].rename(measured[0].with_name(os.fsdecode(b"b\xfcndle")))
    told = run_command(words[0], bundle, *words[1:])
    assert told.code == 1
    assert rf"b\xfcndle{os.sep}model.fp32.onnx has bytes that are not UTF-8" in told.stderr


def test_an_image_that_cannot_be_read_is_named(measured: tuple[Path, Path]) -> None:
    bundle, images = measured
    (images / "red" / os.fsdecode(b"\x1b[2Jcaf\xe9.png")).write_bytes(b"no picture")
    told = run_command("validate", bundle, "--data", images)
    assert told.code in (1, 3)
    assert not any(letter in told.stdout + told.stderr for letter in FORBIDDEN)


def test_class_folders_of_such_names_make_classes_that_can_be_written(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"two\nlines", "\u202ered".encode()):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        Image.new("RGB", (4, 4)).save(folder / "a.png")
    assert set(open_images(tmp_path).class_names) == {r"caf\xe9", r"two\nlines", r"\u202ered"}


def test_settings_that_cannot_be_written_are_refused_with_a_sentence(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"d\xe9ta")
    for name in ("0", "1"):
        (source / name).mkdir(parents=True)
        for shade in range(8):
            Image.new("RGB", (8, 8), (30 * shade, 100 * int(name), 0)).save(source / name / f"{shade}.png")
    words = ["--teacher", "embedded:glyphs100", "--classes", "0,1", "--student", "plain:8-8"]
    told = run_command("distill", "--data", source, *words, "--out", tmp_path / "run")
    assert told.code == 2
    assert r"d\xe9ta" in told.stderr
    assert "has bytes that are not UTF-8, which settings cannot hold; rename it." in told.stderr
