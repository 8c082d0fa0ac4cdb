"""`predict --why` as a user types it: drawings beside the answers, and what the text says of them."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command import run_command
from edgedistill_cli.bundles import predicting
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import NotWrittenError
from edgedistill_deploy.prediction.heat import WhyFolder
from reference.plain_experts import red_blocks, spotted


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return red_blocks(tmp_path_factory.mktemp("spots") / "spots", (35, 35))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures with a spot at another place, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, middle in (("first", (5, 5)), ("second", (30, 17))):
        Image.fromarray(spotted((35, 35), middle)).save(f"photos/{name}.png")
    return Path("photos")


def whys(stdout: str) -> dict[str, Any]:
    return {row["image"]: row["why"] for row in json.loads(stdout)["predictions"]}


def test_each_image_gets_a_drawing_and_its_strongest_part_in_words(spots: Bundle, photos: Path) -> None:
    outcome = run_command("predict", spots.path, "photos", "--why", "why")
    assert outcome.code == 0, outcome.stderr
    told, *_, drawn = outcome.stderr.splitlines()
    assert told == (
        "why: 2 images, each shown to the expert 122 times with another part covered; the drawings go to why."
    )
    assert drawn.startswith("2 drawings in why, in ")
    assert "red speaks for the answer, blue against it" in drawn
    for name, place in (("first", "the upper left"), ("second", "the bottom")):
        (row,) = (line for line in outcome.stdout.splitlines() if f"photos/{name}.png" in line)
        assert f"{place}: " in row
        assert " falls to " in row
        with Image.open(f"why/{name}-why.png") as drawing:
            assert drawing.size == (2 * 245 + 8, 245)
    assert "most for it" in outcome.stdout


def test_the_document_names_the_file_and_the_part(spots: Bundle, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"")
    outcome = run_command("predict", spots.path, "photos", "--why", "photos/why", "--json", "--quiet")
    found = whys(outcome.stdout)
    assert found["photos/broken.png"] is None
    why = found["photos/first.png"]
    assert why["file"] == "photos/why/first-why.png"
    left, top, right, bottom = why["region"]
    assert 0 <= left < 5.5 / 35 < right <= 1
    assert 0 <= top < 5.5 / 35 < bottom <= 1
    assert why["place"] == "the upper left"
    assert why["sentence"].startswith("The upper left speaks most for spot: without it ")
    assert (why["fill"], why["look_count"]) == ("blur", 122)
    assert why["fall"] > 0 < why["milliseconds"]
    again = run_command("predict", spots.path, "photos", "--why", "photos/why", "--json", "--quiet")
    assert {image: each and each["file"] for image, each in whys(again.stdout).items()} == {
        image: each and each["file"] for image, each in found.items()
    }  # the drawings are not looked at as photos, and stay as they are
    assert sorted(each.name for each in Path("photos/why").iterdir()) == ["first-why.png", "second-why.png"]


def test_lines_and_standard_input_have_it_too(spots: Bundle, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (photos / "first.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    outcome = run_command(
        "predict", spots.path, "photos/second.png", "-", "--why", "why", "--jsonl", "--batch-size", "1"
    )
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [line["why"]["file"] for line in lines] == ["why/second-why.png", "why/standard input-why.png"]
    assert run_command("predict", spots.path, "photos", "--jsonl").stdout.count('"why"') == 0


def test_a_full_disk_loses_the_drawings_and_no_answer(
    spots: Bundle, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class _Full(WhyFolder):
        def put(self, *_: Any) -> Path:
            raise NotWrittenError("why/first-why.png cannot be written: No space left on device.")

    monkeypatch.setattr(predicting, "WhyFolder", _Full)
    outcome = run_command("predict", spots.path, "photos", "--why", "why", "--json")
    assert outcome.code == 1
    assert "No space left on device" in outcome.stderr
    assert list(whys(outcome.stdout).values()) == [None, None]
