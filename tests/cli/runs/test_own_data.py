"""A folder of one's own images in every common pixel format, and a teacher trained here: the whole pipeline."""

import json
import shutil
from pathlib import Path

import pytest

from command import QUICK_CALIBRATION, Outcome, run_command
from edgedistill_cli.runs import folder
from reference.image_files import png
from shapes import train_shape_teacher, write_shape_folder

SUBTASK = "circle,square,cross"
Words = tuple[str | Path, ...]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shape_folder(tmp_path_factory.mktemp("shapes") / "images", count=60)


@pytest.fixture(scope="module")
def shape_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_shape_teacher(tmp_path_factory.mktemp("shapes") / "teacher")


def build(data: Path, teacher: Path, out: Path, *more: str) -> Outcome:
    settings = out.parent / "profile.toml"
    settings.write_text(
        "[profile]\nwarmup_s = 0.02\nduration_s = 0.1\n[export]\nopset = 17\n[calibrate]\nimages = "
        f"60\n{QUICK_CALIBRATION}",
        encoding="utf-8",
    )
    return run_command(
        "build", "--config", settings, "--data", data, "--teacher", teacher, "--classes", SUBTASK, "--student",
        "plain:16-32", "--epochs", "10", "--batch-size", "16", "--lr", "0.01", "--compute", "cpu",
        "--out", out, *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(shapes: Path, shape_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The run folder of an expert for the shapes, and what its build printed."""
    out = tmp_path_factory.mktemp("built") / "expert"
    outcome = build(shapes, shape_teacher, out, "--json")
    assert outcome.code in (0, 3, 4), outcome.stderr
    return out, outcome


def test_from_a_folder_of_images_to_a_report(built: tuple[Path, Outcome], shapes: Path) -> None:
    out, outcome = built
    record = json.loads(outcome.stdout)
    assert record["teacher"]["accuracy"] > 0.8
    assert record["student"]["accuracy"] > 0.6
    assert record["student"]["parameters"] < record["teacher"]["parameters"]
    parity = [json.loads(path.read_text(encoding="utf-8")) for path in (out / "parity").glob("*.json")]
    assert {each["sample_count"] for each in parity} == {36}
    again = run_command("validate", out, "--data", shapes, "--precision", "fp32", "--json")
    checked = json.loads(again.stdout)
    # The folder holds training images too; those that the reference never saw are answered by the teacher's file.
    assert (checked["sample_count"], checked["answered_count"], checked["unknown_count"]) == (180, 180 - 36, 0)


@pytest.fixture
def untidy(shapes: Path, tmp_path: Path) -> Path:
    """The shapes as another machine has them: with folders of the system, other formats and files that are broken."""
    data = shutil.copytree(shapes, tmp_path / "untidy")
    for name, content in {
        "circle/IMG_1.HEIC": b"\0\0\0\x18ftypheic", "circle/cut.png": png(40, 40)[:60], "square/empty.jpg": b"",
        "square/@eaDir/thumb.jpg": png(40, 40), "cross/notes.txt": b"hello",
    }.items():  # fmt: skip
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(content)
    return data


def test_validate_leaves_out_what_a_build_leaves_out_and_says_it_in_the_same_words(
    built: tuple[Path, Outcome], untidy: Path, shape_teacher: Path, tmp_path: Path
) -> None:
    checked = run_command("validate", built[0], "--data", untidy, "--precision", "fp32", "--json")
    record = json.loads(checked.stdout)
    assert (record["sample_count"], record["answered_count"], record["unknown_count"]) == (180, 180 - 36, 0)
    planned = run_command(
        "distill", "--data", untidy, "--teacher", shape_teacher, "--classes", SUBTASK, "--student", "plain:8-8",
        "--epochs", "1", "--compute", "cpu", "--out", tmp_path / "other",
    )  # fmt: skip
    notes = [line for line in checked.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == 3
    assert "Folders of the system passed over, with 1 image: square/@eaDir" in notes[0]
    assert "4 files of the folders are not used: 1 HEIC" in notes[1]
    assert "1 cut off or damaged: cut.png; 1 empty (0 bytes): empty.jpg" in notes[1]
    assert notes[2] == "note: Pictures that cannot be used, by class: circle 2 of 62, square 1 of 61."
    assert set(notes) <= set(planned.stderr.splitlines())


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--max-bad", "1%"), 1, "3 of 183 pictures cannot be used, a share of 0.016, and --max-bad allows 0.01"),
        (("--max-bad", "many"), 2, "--max-bad is 'many'; it must be a share from 0 to 1, such as 0.01 or 1%"),
        (("--max-bad", "120%"), 2, "--max-bad is '120%'; it must be a share from 0 to 1"),
    ],
)
def test_validate_keeps_the_limit_too(
    built: tuple[Path, Outcome], untidy: Path, more: tuple[str, ...], code: int, message: str
) -> None:
    refused = run_command("validate", built[0], "--data", untidy, "--precision", "fp32", *more)
    assert (refused.code, message in refused.stderr) == (code, True), refused.stderr


def test_a_limit_without_images_of_ones_own_is_refused(built: tuple[Path, Outcome]) -> None:
    refused = run_command("validate", built[0], "--max-bad", "1%")
    assert (refused.code, "--max-bad goes with --data" in refused.stderr) == (2, True)


def test_what_was_found_in_the_images_is_kept_in_the_run_folder_alone(
    shapes: Path, shape_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ("--data", shapes, "--teacher", shape_teacher, "--classes", SUBTASK, "--compute", "cpu")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    looked = run_command("inspect", *task, "--methods", "pca", "--ks", "1", "--training-images", "30", "--images", "30")
    assert looked.code == 0, looked.stderr
    assert not list((tmp_path / "here").iterdir())
    trained = run_command("distill", *task, "--student", "plain:8-8", "--epochs", "1", "--out", tmp_path / "expert")
    assert trained.code == 0, trained.stderr
    assert (tmp_path / "expert" / "images.npz").is_file()


@pytest.fixture
def relative(shapes: Path, shape_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Words:
    """What is typed in a folder that has the images and the teacher."""
    (tmp_path / "here").mkdir()
    for name, target in (("pictures", shapes), ("big", shape_teacher)):
        (tmp_path / "here" / name).symlink_to(target)
    monkeypatch.chdir(tmp_path / "here")
    return (
        "distill", "--data", "pictures", "--teacher", "./big", "--classes", SUBTASK, "--student", "plain:8-8",
        "--epochs", "1", "--compute", "cpu", "--out", tmp_path / "expert",
    )  # fmt: skip


def test_a_run_begun_with_relative_paths_goes_on_from_any_folder_and_tells_no_folder_above(
    relative: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = run_command(*relative)
    assert trained.code == 0, trained.stderr
    monkeypatch.chdir(tmp_path)
    exported = run_command("export", "expert")
    assert exported.code == 0, exported.stderr
    assert json.loads((tmp_path / "expert" / "manifest.json").read_text(encoding="utf-8"))["teacher"]["name"] == "big"
    assert str(tmp_path) not in (tmp_path / "expert" / "README.md").read_text(encoding="utf-8")


def test_a_run_of_before_with_relative_paths_goes_on(
    relative: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(folder, "_absolute_if_there", lambda path: path or "")
        assert run_command(*relative).code == 0
    settings = tmp_path / "expert" / "settings.toml"
    assert 'name = "./big"' in settings.read_text(encoding="utf-8")
    again = run_command(*relative)
    assert again.code == 0, again.stderr
    assert "distill: done before, kept" in again.stderr
    assert 'name = "./big"' in settings.read_text(encoding="utf-8")


def test_folders_named_train_val_and_test_are_the_splits(shape_teacher: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for seed, (split, count) in enumerate({"train": 12, "val": 6, "test": 8}.items()):
        write_shape_folder(data / split, count=count, seed=seed, formats=("RGB.png",))
    outcome = run_command(
        "distill", "--data", data, "--teacher", shape_teacher, "--classes", SUBTASK, "--student", "plain:8-8",
        "--epochs", "1", "--compute", "cpu", "--out", tmp_path / "expert",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert "3 classes; 36 training, 18 validation, 24 test images" in outcome.stderr


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        ("truncate", 1, "expert/skipped.csv lists them"),
        ("empty class", 1, "The folder 'square' holds no images"),
        ("no class", 1, "no class 'cross'"),
        ("no images", 1, "no"),
    ],
)
def test_damaged_data_is_one_sentence(
    shape_teacher: Path, tmp_path: Path, damage: str, code: int, message: str
) -> None:
    data = write_shape_folder(tmp_path / "data", count=5, formats=("RGB.png",))
    if damage == "truncate":
        for path in (data / "circle" / "000-RGB.png", data / "square" / "000-RGB.png"):
            path.write_bytes(path.read_bytes()[:60])
    elif damage == "empty class":
        for path in (data / "square").iterdir():
            path.unlink()
    elif damage == "no class":
        (data / "cross").rename(data / "crosses")
    else:
        for path in data.rglob("*.png"):
            path.unlink()
    outcome = build(data, shape_teacher, tmp_path / "expert")
    assert outcome.code == code, outcome.stderr
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_run_folder_may_stand_in_the_data_and_lists_what_is_not_used(shape_teacher: Path, tmp_path: Path) -> None:
    data = write_shape_folder(tmp_path / "data", count=8, formats=("RGB.png",))
    (data / "circle" / "000-RGB.png").write_bytes(b"")
    (data / "square" / "clip.mp4").write_bytes(b"x")
    out = data / "edgedistill-run"
    for _ in range(2):  # the second time, the run folder stands there
        outcome = build(data, shape_teacher, out, "--max-bad", "1%")
        assert outcome.code == 1, outcome.stderr
        assert "1 of 24 pictures cannot be used" in outcome.stderr
        assert "--max-bad allows 0.01" in outcome.stderr
        assert (out / "skipped.csv").read_text(encoding="utf-8").splitlines() == [
            "file,class,reason,lost",
            f"{data}/square/clip.mp4,square,video (.mp4),no",
            f"{data}/circle/000-RGB.png,circle,empty (0 bytes),yes",
        ]


@pytest.mark.parametrize(
    ("given", "message"),
    [("lots", "data.max_bad must be a number, and 'lots' was given"), ("101%", "a share from 0 to 1")],
)
def test_a_limit_that_is_no_share_is_refused(tmp_path: Path, given: str, message: str) -> None:
    outcome = build(tmp_path, tmp_path, tmp_path / "expert", "--max-bad", given)
    assert outcome.code == 2
    assert message in outcome.stderr


def test_a_path_of_windows_that_means_control_characters_is_explained(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[data]\nsource = "C:\\temp"\n', encoding="utf-8")
    outcome = run_command("build", "--config", tmp_path / "run.toml", "--teacher", "t", "--classes", "a,b")
    assert outcome.code == 2
    assert "data.source holds a control character" in outcome.stderr
    assert r"write a path in single quotes, such as 'C:\temp'" in outcome.stderr
