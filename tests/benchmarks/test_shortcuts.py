import json
import sys
from pathlib import Path

import numpy as np
import pytest

shortcuts = pytest.importorskip("benchmarks.shortcuts", reason="the benchmarks are not part of the installed package")


@pytest.mark.parametrize("name", ["patch", "text", "watermark"])
@pytest.mark.parametrize("side", [8, 64, 224])
def test_a_mark_is_at_the_same_place_in_every_image_and_leaves_the_image_it_came_from(name: str, side: int) -> None:
    images = np.random.default_rng(0).integers(0, 180, (6, side, side, 3), dtype=np.uint8)
    before = images.copy()
    marked = np.stack([shortcuts.MARKS[name](image) for image in images])
    assert np.array_equal(images, before)
    assert marked.dtype == np.uint8
    places = [np.any(one != two, axis=-1) for one, two in zip(marked, images, strict=True)]
    assert all(0 < place.mean() < 0.5 for place in places)
    assert np.mean([place ^ places[0] for place in places]) < 0.02  # a pixel can have the colour of the mark already


def test_a_small_run_is_recorded_once_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "shortcuts.jsonl"
    settings = ("--classes", "1,7", "--student", "plain:4-4", "--images", "24", "--image-size", "32", "--epochs", "1")
    what = ("--marks", "patch,text", "--methods", "labels", "--shares", "0,1", "--seeds", "1")
    monkeypatch.setattr(sys, "argv", ["shortcuts", *settings, *what, "--results", str(results)])
    shortcuts.main()
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(each["mark"], each["share"]) for each in records] == [("patch", 0), ("text", 0), ("patch", 1), ("text", 1)]
    for each in records:
        assert 0 <= each["student_on_mark"] <= 1
        assert 0 < each["mark_area"] < 0.2
        # Of two classes, what is not taken for the marked one is right.
        assert each["student_wrongly_marked"] == pytest.approx(1 - each["student_taken_for_marked"])
    same = ("student_clean", "student_others_clean")
    assert [records[0][key] for key in same] == [records[1][key] for key in same]
    printed = capsys.readouterr().out
    shortcuts.main()
    assert results.read_text().splitlines() == [json.dumps(each) for each in records]
    assert capsys.readouterr().out == printed[printed.index("mean (sample") :]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--marks", "dot", "not among patch, text, watermark"), ("--shares", "2", "no shares from 0 to 1")],
)
def test_marks_and_shares_that_make_no_sense_are_refused(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        shortcuts.read_arguments([option, value])
    assert message in capsys.readouterr().err
