import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.config import DistillConfig
from edgedistill.distillation.events import fair_share, find_standing
from edgedistill_deploy.statistics.chance import compare_with_chance

NAMES = ("cat", "fox", "owl")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_counts_tell_as_much_as_the_answers_themselves(pairs: list[tuple[int, int]]) -> None:
    counts = np.zeros((3, 3), dtype=np.int64)
    for label, answer in pairs:
        counts[label, answer] += 1
    labels, answers = np.array(pairs, dtype=np.int64).T
    found = find_standing(counts, NAMES, epochs_done=4)
    assert found.against == compare_with_chance(labels, answers)
    never = {each for each in range(3) if np.sum(labels == each) >= 5 and not np.any(answers == each)}
    assert found.unpredicted == tuple(NAMES[each] for each in sorted(never))


@pytest.mark.parametrize(("epochs", "share"), [(1, 3), (3, 3), (9, 3), (10, 4), (30, 10), (100, 34)])
def test_a_fair_share_is_a_third_of_the_epochs_and_no_less_than_three(epochs: int, share: int) -> None:
    assert fair_share(epochs) == share


def test_a_student_at_chance_gets_the_numbers_of_its_run_and_the_flags_in_order() -> None:
    found = find_standing(np.full((3, 3), 8, dtype=np.int64), NAMES, epochs_done=10)
    text = found.sentence(DistillConfig(epochs=30, batch_size=64, learning_rate=3e-3), image_count=304)
    assert "right on 33.3 % of 72 validation images" in text
    assert "304 images, 30 epochs of 5 steps" in text
    places = [text.index(flag) for flag in ("--epochs 90", "--lr 0.001", "--student")]
    assert places == sorted(places)


def test_a_class_that_is_never_answered_is_named() -> None:
    found = find_standing(np.array([[8, 0, 0], [0, 8, 0], [4, 4, 0]]), NAMES, epochs_done=3)
    assert not found.at_chance
    text = found.sentence(DistillConfig(), image_count=100)
    assert "'owl'" in text
    assert "'cat'" not in text


def test_nothing_is_said_about_a_student_that_learns_or_that_too_few_images_judge() -> None:
    good = find_standing(np.diag([9, 9, 9]), NAMES, epochs_done=3)
    few = find_standing(np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]]), NAMES, epochs_done=3)
    assert good.sentence(DistillConfig(), 100) == few.sentence(DistillConfig(), 100) == ""
