import pytest

from edgedistill.subtasks.named import named_subtask_classes
from edgedistill.subtasks.subtask import find_subtask
from edgedistill_deploy.errors import UsageError

TEACHER = ("tench, Tinca tinca", "crane", "crane, construction", "0", "7")


def test_order_is_the_users_and_indices_are_the_teachers() -> None:
    subtask = find_subtask(TEACHER, ["7", "tench, Tinca tinca"])
    assert subtask.class_names == ("7", "tench, Tinca tinca")
    assert subtask.class_indices == (4, 0)


def test_a_synonym_finds_its_class_and_keeps_the_users_spelling() -> None:
    assert find_subtask(TEACHER, ["Tinca tinca", "7"]).class_indices == (0, 4)


def test_an_exact_label_wins_over_anothers_synonym() -> None:
    assert find_subtask(TEACHER, ["crane", "7"]).class_indices == (1, 4)


def test_a_number_is_a_name_and_never_a_position() -> None:
    assert find_subtask(TEACHER, ["0", "7"]).class_indices == (3, 4)
    with pytest.raises(UsageError, match="no class '1'"):
        find_subtask(TEACHER, ["1", "7"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["7"], "at least two classes, and 1 was given"),
        ([], "at least two classes, and 0 was given"),
        (["7", "7"], "The class '7' is named twice; name each class once"),
        (["tench, Tinca tinca", "tench"], "'tench, Tinca tinca' and 'tench' are one class"),
        (["7", "tensh"], r"no class 'tensh'.*Did you mean tench"),
    ],
)
def test_what_makes_no_subtask_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_subtask(TEACHER, names)


def test_superclasses_ship_by_name() -> None:
    assert named_subtask_classes("cifar100/flowers") == ("orchid", "poppy", "rose", "sunflower", "tulip")
    assert named_subtask_classes("glyphs100/digits") == tuple("0123456789")
    with pytest.raises(UsageError, match="Did you mean cifar100/flowers"):
        named_subtask_classes("cifar100/flower")
