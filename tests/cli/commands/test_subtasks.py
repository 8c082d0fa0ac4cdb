"""`edgedistill subtasks`: what is offered, found by text and cut down to a teacher."""

import json
from pathlib import Path
from typing import Any

import pytest

from command import EMBEDDED, run_command
from test_boundaries import run_python


def found(*argv: str | Path) -> dict[str, Any]:
    """Return the subtasks in the JSON document by name."""
    outcome = run_command("subtasks", *argv, "--json")
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    assert (record["kind"], record["schema"]) == ("subtasks", 1)
    return {each["name"]: each for each in record["subtasks"]}


def test_everything_is_listed_without_a_text() -> None:
    every = found()
    assert sum(name.startswith("cifar100/") for name in every) == 20
    assert {"imagenet/bird", "imagenet/dog", "imagenet/vehicle", "imagenet/wading-bird", "glyphs100/digits"} <= set(
        every
    )
    assert all(len(each["classes"]) == each["class_count"] >= 2 for each in every.values())
    classes = [tuple(each["classes"]) for name, each in every.items() if name.startswith("imagenet/")]
    assert len(set(classes)) == len(classes), "nouns with the same classes are one row"


@pytest.mark.parametrize(
    ("text", "first", "others"),
    [
        ("dog", "imagenet/dog", {"imagenet/hunting-dog", "imagenet/working-dog"}),
        ("Wading Birds", "imagenet/wading-bird", set()),
        ("cifar100/flowers", "cifar100/flowers", set()),
        ("beaver", "cifar100/aquatic-mammals", {"imagenet/rodent"}),
    ],
)
def test_a_text_is_looked_for_in_names_then_in_classes(text: str, first: str, others: set[str]) -> None:
    names = list(found(text))
    assert names[0] == first
    assert others <= set(names)


def test_a_text_that_finds_nothing_is_a_sentence() -> None:
    outcome = run_command("subtasks", "pileless")
    assert (outcome.code, "No subtask has 'pileless' in a name" in outcome.stderr) == (2, True)


def test_few_are_shown_with_every_class_and_many_with_the_first() -> None:
    one = run_command("subtasks", "domestic-cat").stdout
    assert one.splitlines()[0].startswith("imagenet/domestic-cat")
    assert "  tabby, tabby cat\n  tiger cat\n  Persian cat\n" in one
    assert "imagenet/wading-bird (16): white stork, black stork, spoonbill, flamingo, little blue heron, ...\n" in (
        run_command("subtasks", "bird").stdout
    )


def test_a_teacher_leaves_what_it_has_and_says_what_it_lacks(tmp_path: Path) -> None:
    assert "glyphs100/digits" in found("--teacher", "embedded:glyphs100")
    assert not any(name.startswith("cifar100/") for name in found("--teacher", "embedded:glyphs100"))
    assert found("digits", "--teacher", EMBEDDED / "glyphs100")["glyphs100/digits"]["class_count"] == 10
    labels = tmp_path / "labels.txt"
    labels.write_text("hippo\nwarthog\nn02395406\nzebra\n", encoding="utf-8")
    swine = found("swine", "--teacher-classes", labels)["imagenet/swine"]
    assert (len(swine["classes"]), swine["class_count"]) == (2, 3)
    assert "imagenet/swine: 2 of 3 classes" in run_command(
        "subtasks", "swine", "--teacher-classes", labels
    ).stdout.replace(", also imagenet/Suidae", "")
    nothing = run_command("subtasks", "bird", "--teacher-classes", labels)
    assert (nothing.code, "--classes A,B,C instead" in nothing.stderr) == (2, True)


def test_timm_teachers_are_asked_for_their_labels_alone() -> None:
    assert found("bird", "--teacher", "timm:resnet50")["imagenet/bird"]["class_count"] == 59
    wrong = run_command("subtasks", "--teacher", "timm:resnet5O")
    assert (wrong.code, "Did you mean resnet50" in wrong.stderr) == (2, True)


def test_no_torch_is_loaded_for_a_list_or_a_teacher_in_a_folder() -> None:
    printed = run_python("""
        import sys
        for name in ("torch", "timm", "onnx", "onnxruntime"):
            sys.modules[name] = None
        from edgedistill_cli.app import main
        sys.argv = ["edgedistill", "subtasks", "digits", "--teacher", "embedded:glyphs100"]
        main()
    """)
    assert "glyphs100/digits" in printed
