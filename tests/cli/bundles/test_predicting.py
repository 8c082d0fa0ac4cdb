"""`predict` as a user types it: pictures in; answers, files and exit codes out."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import Outcome, run_command
from edgedistill_cli.bundles import predicting
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.prediction.sorting import Sorter
from reference.colour_bundles import colour_bundle
from reference.colour_pictures import RGB, add_decision, changed, expected_logits, picture, write_pictures
from reference.image_files import encoded, png


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return colour_bundle(tmp_path_factory.mktemp("colours") / "my-colours", 12)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures of three colours, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("photos"))
    return Path("photos")


def document(outcome: Outcome) -> dict[str, Any]:
    assert outcome.stdout.count("\n") == 1, outcome
    found = json.loads(outcome.stdout)
    assert isinstance(found, dict)
    return found


def send(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def classes(record: dict[str, Any]) -> dict[str, str | None]:
    return {row["image"]: row["class"] for row in record["predictions"]}


def test_a_table_names_each_picture_its_class_and_how_probable_it_is(colours: Bundle, photos: Path) -> None:
    outcome = run_command("predict", colours.path, "photos")
    assert outcome.code == 0
    assert "my-colours: fp32 with onnxruntime on cpu" in outcome.stdout
    for place, name in enumerate(RGB):
        (row,) = (line for line in outcome.stdout.splitlines() if f"photos/{place}.png" in line)
        shares = np.exp(expected_logits(colours.file("model.fp32"), picture(name, seed=place)).astype(np.float64))
        assert name in row
        assert f" {100 * shares.max() / shares.sum():.1f} %" in row
    assert "3 images: 1 red, 1 green, 1 yellow." in outcome.stderr
    assert "one of them" not in outcome.stdout
    assert run_command("predict", colours.path, "photos", "--quiet").stderr == ""


def test_the_document_has_all_that_a_program_needs(colours: Bundle, photos: Path) -> None:
    record = document(run_command("predict", colours.path, "photos/0.png", "photos/2.png", "--top", "2", "--json"))
    assert (record["kind"], record["schema"], record["bundle"]) == ("prediction-set", 1, "my-colours")
    assert (record["runtime"], record["provider"], record["precision"]) == ("onnxruntime", "cpu", "fp32")
    assert record["model_sha256"] == colours.model_sha256("model.fp32")
    assert record["class_names"] == ["red", "green", "yellow"]
    assert (record["image_count"], record["bad_count"], record["unsure_count"]) == (2, 0, 0)
    row = record["predictions"][0]
    logits = expected_logits(colours.file("model.fp32"), picture("red")).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert (row["image"], row["class"], row["sure"], row["in_domain"], row["error"]) == (
        "photos/0.png", "red", True, None, None,
    )  # fmt: skip
    assert row["probability"] == pytest.approx(shares[0], abs=1e-6)
    assert [each["class"] for each in row["top"]] == ["red", "yellow" if shares[2] > shares[1] else "green"]
    assert row["milliseconds"] == pytest.approx(row["prepare_ms"] + row["inference_ms"])


def test_lines_are_the_rows_of_the_document(colours: Bundle, photos: Path) -> None:
    (photos / "1.png").write_bytes(b"")
    outcome = run_command("predict", colours.path, "photos", "--jsonl", "--top", "3")
    record = document(run_command("predict", colours.path, "photos", "--json", "--top", "3"))
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [(line.pop("kind"), line.pop("schema")) for line in lines] == [("prediction", 1)] * 3
    for line, row in zip(lines, record["predictions"], strict=True):
        for each in (line, row):
            for time in ("milliseconds", "prepare_ms", "inference_ms"):
                assert (each.pop(time) is None) == (each["image"] == "photos/1.png")
        assert line == row
    assert lines[1]["error"] == "photos/1.png is empty (0 bytes); replace or remove it."


def test_a_spreadsheet(colours: Bundle, photos: Path) -> None:
    (photos / "1.png").write_bytes(b"")
    outcome = run_command("predict", colours.path, "photos", "--csv", "new/answers.csv", "--top", "2", "--jsonl")
    assert len(outcome.stdout.splitlines()) == 3
    rows = list(csv.DictReader(Path("new/answers.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["class"] for row in rows] == ["red", "", "yellow"]
    assert [row["sure"] for row in rows] == ["true", "", "true"]
    assert "is empty" in rows[1]["error"]
    assert float(rows[0]["probability"]) + float(rows[0]["probability_2"]) <= 1
    assert rows[0]["class_2"] in RGB


def test_below_the_threshold_the_answer_is_not_sure(colours: Bundle, photos: Path) -> None:
    Image.new("RGB", (20, 20), (120, 110, 30)).save(photos / "between.png")
    shares = {row["image"]: row["probability"] for row in document(
        run_command("predict", colours.path, "photos", "--json")
    )["predictions"]}  # fmt: skip
    least = min(shares, key=lambda name: float(shares[name]))
    limit = str(sorted(shares.values())[1])
    record = document(run_command("predict", colours.path, "photos", "--threshold", limit, "--json"))
    assert [name for name, found in classes(record).items() if found is None] == [least]
    assert (record["unsure_count"], record["threshold"]) == (1, float(limit))
    unsure = next(row for row in record["predictions"] if not row["sure"])
    assert unsure["top"][0]["class"] in RGB
    outcome = run_command("predict", colours.path, "photos", "--threshold", limit)
    assert outcome.code == 0
    assert f"not sure ({unsure['top'][0]['class']})" in outcome.stdout
    assert "1 not sure" in outcome.stderr


def test_an_image_on_standard_input(colours: Bundle, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, (photos / "1.png").read_bytes())
    record = document(run_command("predict", colours.path, "-", "photos/0.png", "--json"))
    assert classes(record) == {"photos/0.png": "red", "-": "green"}
    for content, message in (
        (b"no picture", "error: Standard input cannot be read as an image: it is none of"),
        (b"", "error: Standard input is empty (0 bytes)"),
    ):
        send(monkeypatch, content)
        outcome = run_command("predict", colours.path, "-")
        assert (outcome.code, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith(message)
        assert outcome.stderr.count("\n") == 1
    monkeypatch.setattr(predicting, "MOST_STDIN_BYTES", 5)
    send(monkeypatch, b"123456")
    assert "more than 5 bytes" in run_command("predict", colours.path, "-").stderr
    send(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert run_command("predict", colours.path, "-").code == 2


def test_files_that_cannot_be_used_are_counted_and_do_not_stop_the_rest(colours: Bundle, photos: Path) -> None:
    (photos / "page.jpg").write_bytes(b"<html>")
    (photos / "bomb.png").write_bytes(png(60_000, 60_000))
    (photos / "long.png").write_bytes(encoded(Image.new("1", (1, 1 << 22))))
    (photos / "film.mp4").write_bytes(b"film")
    outcome = run_command("predict", colours.path, "photos")
    assert outcome.code == 0
    assert "6 images: 1 red, 1 green, 1 yellow. 3 cannot be used: " in outcome.stderr
    for reason in ("1 no image but a web page", "1 more than 134 megapixels", "1 too elongated"):
        assert reason in outcome.stderr
    assert "Passed over in the folders: 1 video (.mp4): film.mp4" in outcome.stderr
    record = document(run_command("predict", colours.path, "photos", "--json"))
    assert record["bad_count"] == sum(record["bad"].values()) == 3
    for place in range(7):
        (photos / f"{place}.gif").write_bytes(b"")
    outcome = run_command("predict", colours.path, "photos", "--quiet")
    assert outcome.stderr.count("note:") == 5  # the first ones; all are counted
    assert run_command("predict", colours.path, "photos/*.gif").code == 1


def test_an_image_that_was_named_must_be_readable(colours: Bundle, photos: Path) -> None:
    (photos / "1.png").write_bytes(b"")
    for word in ("photos/1.png", "./photos//1.png"):
        alone = run_command("predict", colours.path, word)
        assert (alone.code, alone.stdout) == (1, "")
        assert alone.stderr == "error: photos/1.png is empty (0 bytes); replace or remove it.\n"
    outcome = run_command("predict", colours.path, "photos/0.png", "photos/1.png", "photos/2.png", "--json")
    assert outcome.code == 1
    assert list(classes(document(outcome)).values()) == ["red", None, "yellow"]
    assert "error: 1 of the 3 images that were named cannot be used, such as photos/1.png" in outcome.stderr
    assert run_command("predict", colours.path, "photos/?.png").code == 0


def test_pictures_are_sorted_into_class_folders(colours: Bundle, photos: Path) -> None:
    Image.new("RGB", (20, 20), (120, 110, 30)).save(photos / "between.png")
    os.rename(photos / "0.png", os.fsencode(photos) + b"/caf\xe9.png")  # noqa: PTH104  # a name of bytes
    for _ in range(2):
        outcome = run_command("predict", colours.path, ".", "--save", "photos/out", "--threshold", "0.97")
        assert outcome.code == 0, outcome.stderr
        assert "4 images are sorted in photos/out." in outcome.stderr
        assert sorted(os.fsencode(path) for path in Path("photos/out").rglob("*.png")) == [
            b"photos/out/green/1.png",
            b"photos/out/not sure/between.png",
            b"photos/out/red/caf\xe9.png",
            b"photos/out/yellow/2.png",
        ]
    assert Path("photos/out/green/1.png").read_bytes() == (photos / "1.png").read_bytes()
    assert run_command("predict", colours.path, photos, "--save", "linked", "--links").code == 0
    assert Path("linked/green/1.png").resolve() == (photos / "1.png").resolve()


def test_a_link_in_the_folder_for_sorted_pictures_is_not_followed(colours: Bundle, photos: Path) -> None:
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out/green").symlink_to(Path("elsewhere").absolute())
    outcome = run_command("predict", colours.path, "photos", "--save", "out")
    assert outcome.code == 1
    assert "error: " in outcome.stderr
    assert "out/green is a link to" in outcome.stderr
    assert "3 images: 1 red, 1 green, 1 yellow." in outcome.stderr  # the answers are there all the same
    assert "photos/2.png" in outcome.stdout
    assert list(Path("elsewhere").iterdir()) == []


def test_an_expert_that_knows_its_limits_shows_what_is_outside(colours: Bundle, photos: Path, tmp_path: Path) -> None:
    copy = changed(open_bundle(shutil.copytree(colours.path, tmp_path / "knowing")), add_decision)
    Image.new("RGB", (20, 20), (60, 60, 60)).save(photos / "grey.png")
    outcome = run_command("predict", copy.path, "photos", "--save", "out")
    assert "one of them" in outcome.stdout
    (row,) = (line for line in outcome.stdout.splitlines() if "grey.png" in line)
    assert " no " in row
    assert "1 are none of its classes, it says." in outcome.stderr
    assert Path("out/none of the classes/grey.png").is_file()
    record = document(run_command("predict", copy.path, "photos", "--json"))
    assert {row["image"]: row["in_domain"] for row in record["predictions"]}["photos/grey.png"] is False
    assert record["outside_count"] == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "Name images, a folder, a pattern"),
        (["photos", "--json", "--jsonl"], 2, "--json and --jsonl both want"),
        (["photos", "--links"], 2, "--links belongs to --save"),
        (["-", "-"], 2, "- can be given once"),
        (["-", "--save", "out"], 2, "--save sorts image files"),
        (["photos", "--camera", "0"], 2, "--camera takes its pictures from the camera"),
        (["--camera", "0", "--json"], 2, "--json prints one document"),
        (["--camera", "0", "--save", "out"], 2, "--save sorts image files, and a camera has none"),
        (["--camera", "0", "--why", "out"], 2, "--why shows a picture to the expert again and again"),
        (["photos", "--why", "photos/0.png"], 2, "photos/0.png is a file; name a folder for the drawings"),
        (["photos", "--why", "."], 1, "All images found lie in ., where this command writes"),
        (["photos", "--threshold", "1.5"], 2, "threshold"),
        (["photos", "--top", "0"], 2, "top"),
        (["photos", "--batch-size", "0"], 2, "batch-size"),
        (["photos", "--precision", "in8"], 2, "There is no precision 'in8'"),
        (["photos", "--runtime", "onxruntime"], 2, "There is no runtime 'onxruntime'"),
        (["photos", "--provider", "gpu"], 2, "ONNX Runtime has no provider 'gpu' here"),
        (["photos", "--precision", "int8"], 1, "has no model of precision int8"),
        (["fotos"], 1, "There is no image fotos"),
        (["photos/*.gif"], 1, "The pattern photos/*.gif finds no image"),
        (["empty"], 1, "empty and its folders hold no images"),
        (["photos", "--save", "photos/0.png"], 2, "photos/0.png is a file; name a folder"),
        (["photos", "--save", "."], 1, "All images found lie in ., where this command writes"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    colours: Bundle, photos: Path, words: list[str], code: int, message: str
) -> None:
    Path("empty").mkdir()
    outcome = run_command("predict", colours.path, *words)
    assert (outcome.code, outcome.stdout) == (code, "")
    assert message in outcome.stderr


def test_exchanged_arguments_and_a_damaged_bundle_are_named(colours: Bundle, photos: Path, tmp_path: Path) -> None:
    assert "photos is not a bundle" in run_command("predict", "photos", colours.path).stderr
    assert "is a file, not the folder of a bundle" in run_command("predict", "photos/0.png", colours.path).stderr
    copy = shutil.copytree(colours.path, tmp_path / "damaged")
    with (copy / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"more")
    outcome = run_command("predict", copy, "photos")
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert "model.fp32.onnx has" in outcome.stderr
    (copy / "manifest.json").write_text("{")
    assert "is not valid JSON" in run_command("predict", copy, "photos").stderr


def test_interrupting_says_how_far_it_came(colours: Bundle, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class _Pressed(Sorter):
        def put(self, *words: Any) -> Path:
            if self.count == 1:
                raise KeyboardInterrupt
            return super().put(*words)

    monkeypatch.setattr(predicting, "Sorter", _Pressed)
    outcome = run_command("predict", colours.path, "photos", "--save", "out", "--json")
    assert (outcome.code, outcome.stdout) == (130, "")
    assert "Interrupted after 1 of 3 images." in outcome.stderr


def test_a_finished_run_answers_with_the_model_that_its_records_recommend(built_run: Path, photos: Path) -> None:
    choices = json.loads((built_run / "manifest.json").read_text(encoding="utf-8"))["choices"]
    (choice,) = choices.values()
    outcome = run_command("predict", built_run, "photos/0.png", "--json", "--verbose")
    record = document(outcome)
    assert record["precision"] == (choice["precision"] or "fp32")
    if choice["precision"] is not None:
        assert f"{choice['precision']} is recommended for" in outcome.stderr
        assert record["model_sha256"] == choice["model_sha256"]
    int8 = document(run_command("predict", built_run, "photos/0.png", "--json", "--precision", "int8"))
    assert int8["precision"] == "int8"


BLOCKED = "torch timm torchvision edgedistill edgedistill_calibration onnx scipy jinja2 cv2"


def test_a_device_needs_numpy_pillow_and_a_runtime_alone(colours: Bundle, photos: Path) -> None:
    """The library without the command's libraries, and the command without those of training."""
    block = f"import sys; [sys.modules.__setitem__(name, None) for name in '{BLOCKED}'.split()];"
    library = (
        "[sys.modules.__setitem__(name, None) for name in ('typer', 'rich')];"
        "from edgedistill_deploy import Expert;"
        f"expert = Expert({str(colours.path)!r});"
        "print(expert.predict('photos/1.png').class_name, expert.explain('photos/1.png').region)"
    )
    words = ["x", "predict", str(colours.path), "photos", "--why", "why"]
    command = f"from edgedistill_cli.app import main; sys.argv = {words!r}; main()"
    for code, expected in ((library, "green"), (command, "photos/1.png")):
        call = [sys.executable, "-c", block + code]
        found = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
        assert found.returncode == 0, found.stderr
        assert expected in found.stdout


def test_without_opencv_a_camera_says_how_to_get_it(
    colours: Bundle, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    outcome = run_command("predict", colours.path, "--camera", "0")
    assert outcome.code == 1
    assert "Reading a camera needs OpenCV, which is not installed: pip install 'edgedistill[camera]'." in outcome.stderr


def test_the_frames_of_a_video(colours: Bundle, photos: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    video = cv2.VideoWriter("film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for name in (*RGB, "red"):
        video.write(np.ascontiguousarray(np.asarray(picture(name, (64, 48)))[..., ::-1]))
    video.release()
    outcome = run_command("predict", colours.path, "--camera", "film.avi", "--jsonl")
    assert outcome.code == 0, outcome.stderr
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [line["class"] for line in lines] == ["red", "green", "yellow", "red"]
    assert [line["image"] for line in lines] == ["frame 0", "frame 1", "frame 2", "frame 3"]
    shown = run_command("predict", colours.path, "--camera", "film.avi", "--csv", "film.csv")
    assert shown.stdout.startswith("frame 0: red ")
    assert len(Path("film.csv").read_text().splitlines()) == 5
    assert "There is no video none.avi" in run_command("predict", colours.path, "--camera", "none.avi").stderr
    Path("notes.avi").write_text("no film")
    refused = run_command("predict", colours.path, "--camera", "notes.avi")
    assert refused.code == 1
    assert "Video notes.avi cannot be opened: OpenCV cannot read it." in refused.stderr
