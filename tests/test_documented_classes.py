"""Every class and every subtask in an example exists in the teacher of that example."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from edgedistill.models.teacher_files import teacher_labels
from edgedistill.subtasks.named import named_subtask_classes, search_subtasks
from edgedistill.subtasks.subtask import find_subtask
from edgedistill_cli.commands.demo import NEXT_STEPS
from edgedistill_cli.settings_file import read_settings
from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("edgedistill ")]


def value_of(flag: str, words: list[str]) -> str:
    return words[words.index(flag) + 1] if flag in words else ""


def labels_of(teacher: str) -> ClassList:
    return ClassList(teacher_labels(teacher) if teacher.startswith("embedded:") else list(labels_of_synsets().values()))


EXAMPLES = {
    shlex.join(words): words
    for text in [
        *(page.read_text(encoding="utf-8") for page in PAGES),
        f"```sh{NEXT_STEPS}```".replace("  edge", "edge"),
    ]
    for words in commands(text)
    if value_of("--teacher", words)
}


@pytest.mark.parametrize("words", EXAMPLES.values(), ids=EXAMPLES)
def test_the_classes_of_an_example_are_the_teachers(words: list[str]) -> None:
    teacher = labels_of(value_of("--teacher", words))
    names = value_of("--classes", words).split(",") if "--classes" in words else []
    if subtask := value_of("--subtask", words):
        names = list(named_subtask_classes(subtask))
    if words[1] == "subtasks":
        names = [name for each in search_subtasks(words[2])[:1] for name in each.classes]
    shown_to_fail = "crane" in names
    if shown_to_fail:
        with pytest.raises(UsageError) as caught:
            teacher.find_all(names, "The teacher has", subtasks=True)
        assert f"error: {caught.value}\n" in (ROOT / "docs/subtasks.md").read_text(encoding="utf-8")
    else:
        least = 1 if "--rest" in words else 2
        assert len(find_subtask(teacher.names, names, least=least)) >= least


def test_there_are_examples_with_imagenets_classes() -> None:
    assert sum("timm:resnet50" in words and "--classes" in words for words in EXAMPLES.values()) >= 6
    assert any("--classes" in words for words in commands(f"```sh{NEXT_STEPS}```".replace("  edge", "edge")))
    assert sum("dog=imagenet/dog" in value_of("--classes", words) for words in EXAMPLES.values()) >= 2


def test_the_cats_and_dogs_of_the_readme_are_five_and_118_classes_of_imagenet() -> None:
    (classes,) = {value for words in EXAMPLES.values() if "dog=" in (value := value_of("--classes", words))}
    found = find_subtask(list(labels_of_synsets().values()), classes.split(","))
    assert found.class_names == ("cat", "dog")
    assert found.members == (tuple(range(281, 286)), tuple(range(151, 269)))


def test_the_classes_of_the_settings_that_init_writes_are_imagenets() -> None:
    settings = read_settings(ROOT / "cli" / "edgedistill_cli" / "template.toml", {})
    assert settings.teacher.name == "timm:resnet50"
    labels_of(settings.teacher.name).find_all(settings.subtask.classes, "The teacher has")


def test_every_named_subtask_on_a_page_exists() -> None:
    spans = {
        name
        for page in PAGES
        for name in re.findall(r"`(?:--subtask )?((?:imagenet|cifar100|glyphs100)/[\w-]+)`", page.read_text("utf-8"))
    }
    assert len(spans) > 12
    ambiguous = {"imagenet/cat"}
    for name in sorted(spans - ambiguous - {"cifar100/NAME", "glyphs100/NAME", "imagenet/NOUN"}):
        assert len(named_subtask_classes(name)) >= 2


def test_the_papers_subtasks_have_the_counts_of_the_page() -> None:
    page = (ROOT / "docs" / "subtasks.md").read_text(encoding="utf-8")
    told: dict[str, Any] = dict(re.findall(r"^\| `(imagenet/[a-z-]+)` \| (\d+) \|$", page, flags=re.MULTILINE))
    assert len(told) == 8
    assert {name: str(len(named_subtask_classes(name))) for name in told} == told
