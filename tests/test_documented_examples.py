"""The examples about images, classes and teachers can work as they are written, with the teacher that they name."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import run_command
from edgedistill.models.teacher_files import read_labels
from edgedistill.subtasks.named import named_subtask_classes
from edgedistill_cli.commands.demo import NEXT_STEPS
from edgedistill_deploy.classes.groups import names_of, read_classes
from edgedistill_deploy.images.sources import open_images

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEACHERS = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
PLANNED = ("build", "distill", "compare")  # these have --dry-run
TASK = ("--data", "--teacher", "--teacher-weights", "--teacher-classes", "--classes", "--subtask")


def examples() -> list[str]:
    """Return the commands that make something of images and a teacher; `FOLDER` stands for one's own images."""
    texts = [*(page.read_text(encoding="utf-8") for page in PAGES), f"```sh{NEXT_STEPS}```".replace("  edge", "edge")]
    blocks = [block for text in texts for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, flags=re.DOTALL)]
    lines = [line.removeprefix("$ ") for each in blocks for line in re.sub(r"\\\n\s*", "", each).splitlines()]
    ours = [line for line in lines if re.match(r"edgedistill (build|distill|compare|inspect|plan) .*--teacher ", line)]
    return list(dict.fromkeys(line for line in ours if "FOLDER" in line))


def value_of(flag: str, words: list[str]) -> str:
    return words[words.index(flag) + 1] if flag in words else ""


def classes_of(words: list[str]) -> list[str]:
    given, subtask = value_of("--classes", words), value_of("--subtask", words)
    return (
        list(names_of(read_classes(given.split(","))))
        if given
        else list(named_subtask_classes(subtask))
        if subtask
        else []
    )


def write_images(folder: Path, count: int = 3, side: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(count):
        place = len(list(folder.iterdir()))
        noise = np.random.default_rng([place, *folder.name.encode()]).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{place}.png")


def as_plan(words: list[str]) -> list[str]:
    """Return the command as a plan; of those that cannot plan, the part that they share with `build`."""
    if words[0] in PLANNED:
        return [*words, "--dry-run"]
    shared = [part for flag in TASK if flag in words for part in (flag, value_of(flag, words))]
    return ["build", *shared, "--student", "plain:8-8", "--dry-run"]


@pytest.mark.parametrize("line", [line for line in examples() if "crane" not in line])
def test_an_example_passes_all_checks_before_a_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    for name in classes_of(words):
        write_images(tmp_path / "FOLDER" / name)
    for name in (value_of(flag, words) for flag in ("--teacher-weights", "--student-weights")):
        if name not in ("", "none", "auto", "pretrained"):
            (tmp_path / name).touch()
    if "--rest" in words:
        write_images(tmp_path / "FOLDER" / "zebra")
    if folder := value_of("--unlabelled", words):
        write_images(tmp_path / folder)
    (tmp_path / "FOLDER" / "mine").mkdir()  # a folder without images is no class
    outcome = run_command(*as_plan(words))
    assert outcome.code == 0, outcome.stderr


def test_there_are_examples_of_each_library() -> None:
    teachers = {value_of("--teacher", shlex.split(line)).partition(":")[0] for line in examples()}
    assert teachers >= {"timm", "torchvision", "transformers", "python"}


def test_the_example_of_a_teacher_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(# mine\.py.*?)```", TEACHERS, flags=re.DOTALL)
    (line,) = [line for line in examples() if "python:mine:make" in line]
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = shlex.split(line)[1:]
    for name in classes_of(words):
        write_images(tmp_path / "FOLDER" / name, count=5, side=64)
    outcome = run_command(*words, "--student-weights", "none", "--epochs", "1", "--compute", "cpu")
    # Its weights are random, so the check of the teacher may end the command; all before it was right.
    assert outcome.code == 0 or "not better than chance" in outcome.stderr, outcome.stderr
    assert "3 classes; 9 training" in outcome.stderr


def label_examples() -> list[str]:
    sentence = DATA.partition("`--teacher-classes FILE` is one label a line, or JSON:")[2].partition("\n\n")[0]
    return [each for each in re.findall(r"`([^`]+)`", sentence.replace("\n", " ")) if each[0] in "[{"]


@pytest.mark.parametrize("text", label_examples())
def test_a_class_file_may_look_like_the_examples(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    labels = read_labels(tmp_path / "labels.json")
    expected = ("cat", "dog") if "cat" in json.dumps(json.loads(text)) else ("tabby, tabby cat",)
    assert labels == expected


def test_all_four_kinds_of_class_files_are_shown() -> None:
    assert len(label_examples()) == 4


def layout_rows() -> list[tuple[str, ...]]:
    """Return the folders of each row of the table of layouts that has class folders."""
    (table,) = re.findall(r"^\| layout \|.*\n\|[-|]+\n((?:\|.*\n)+)", DATA, flags=re.MULTILINE)
    cells = [row.split(" | ")[0] for row in table.splitlines()]
    rows = [tuple(part for span in re.findall(r"`([^`]+)`", cell) for part in span.split()) for cell in cells]
    layouts = [
        each
        for row in filter(None, rows)
        for each in (((path,) for path in row) if row[0].startswith("images/") else (row,))
    ]
    return [layout for layout in layouts if any("cat" in path for path in layout)]


@pytest.mark.parametrize("row", layout_rows(), ids=" ".join)
def test_a_layout_of_the_table_is_understood(row: tuple[str, ...], tmp_path: Path) -> None:
    for path in row:
        for name in ("cat", "dog"):
            write_images(tmp_path / re.sub(r"\b(cat|dog)\b", name, path))
    found = open_images(tmp_path)
    assert found.class_names == ("cat", "dog")
    text = " ".join(row)
    assert bool(len(found.train))
    assert ((found.validation is not None), (found.test is not None)) == ("val" in text, "test" in text)
