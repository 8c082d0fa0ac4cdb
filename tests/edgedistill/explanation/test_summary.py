"""The record of an explanation, and the plain answer, from made-up figures of images."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from edgedistill.explanation.flipping import SHARES
from edgedistill.explanation.summary import mean_interval, summarise

Row = dict[str, Any]


def measures(value: float) -> dict[str, float]:
    return {"cosine": value, "spearman": value / 2, "top_decile": value / 4}


def row(own: float, place: int, **floors: float) -> Row:
    """One image; the curve of each network falls at once in its own order, and slowly in the others'."""
    at_once, slowly = [2.0] + [0.0] * (len(SHARES) - 1), [2.0 * (1 - share) for share in SHARES]
    curves = {"teacher_order": at_once, "student_order": slowly, "random_order": [2.0] * len(SHARES)}
    noise = 0.02 * (place % 3 - 1)
    return {
        "image": str(place),
        "class": "cat" if place % 2 else "dog",
        "agreement": measures(own + noise),
        "floors": {name: measures(value) for name, value in floors.items()},
        "randomised": 0.1,
        "flipping": {"teacher": curves, "student": {**curves, "student_order": at_once, "teacher_order": slowly}},
        "sums": {"teacher": [1.0, 1.0 + noise], "student": [0.5, 1.0]},
        "noise": {
            "teacher": {**measures(0.98 + noise / 2), "change": 0.2},
            "student": {**measures(0.95), "change": 0.3 + noise},
        },
    }


def rows(own: float, **floors: float) -> list[Row]:
    return [row(own, place, **floors) for place in range(12)]


def record(found: list[Row], **options: Any) -> dict[str, Any]:
    return summarise(found, method="integrated-gradients", class_names=["cat", "dog", "fox"], **options)


def test_the_interval_is_students_t_and_stays_within_what_is_possible() -> None:
    values = [0.2, 0.9, 0.4, 0.35]
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["interval"] == pytest.approx([max(-1, low), min(1, high)])
    assert mean_interval([0.3]) == {"mean": 0.3, "interval": [-1.0, 1.0]}
    assert mean_interval([1.0, 1.0, 1.0]) == {"mean": 1.0, "interval": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("own", "floors", "answer"),
    [
        (0.8, {"other_class": 0.1, "random_student": 0.2}, "yes"),
        (0.4, {"other_class": 0.1, "random_student": 0.2}, "partly"),
        (0.2, {"other_class": 0.1, "random_student": 0.2}, "no"),
        (0.4, {"other_class": 0.5, "random_student": 0.0}, "no"),
        (0.8, {"random_student": 0.0, "labels": 0.95}, "yes"),  # a rival is no floor
    ],
)
def test_the_answer_is_relative_to_the_floors(own: float, floors: dict[str, float], answer: str) -> None:
    found = record(rows(own, **floors))
    assert found["same_reasons"] == answer
    said = "not shown" if answer == "no" else answer
    assert found["sentences"][0].startswith(f"expert and teacher look at the same thing: {said} (cosine {own:.2f}")


def test_classes_that_the_teacher_sees_are_counted_apart() -> None:
    found = record(rows(0.5, random_student=0.1))
    assert {name: each["images"] for name, each in found["per_class"].items()} == {"cat": 6, "dog": 6}
    assert found["per_class"]["cat"]["spearman"]["mean"] == pytest.approx(0.25, abs=0.02)
    assert found["images"] == 12


def test_flipping_compares_the_areas_of_the_orders() -> None:
    flipping = record(rows(0.5, random_student=0.1))["flipping"]
    own, other = SHARES[1] / 2, 0.5  # trapezoids
    wanted = {
        "teacher_order": own,
        "student_order": other,
        "random_order": 1,
        "gap": other - own,
        "random_gap": 1 - own,
    }
    assert {name: flipping["teacher_model"][name] for name in wanted} == pytest.approx(wanted)
    assert flipping["student_model"]["student_order"] == pytest.approx(own)
    assert flipping["student_model"]["gap"] == pytest.approx(other - own)
    assert flipping["curves"]["student_model"]["random_order"] == pytest.approx([1] * len(SHARES))
    assert flipping["shares"] == list(SHARES)


def test_a_student_without_evidence_to_lose_is_left_out_and_said() -> None:
    found = rows(0.5, random_student=0.1)
    for each in found:
        each["flipping"]["student"] = {name: [-1.0] * len(SHARES) for name in each["flipping"]["student"]}
    told = record(found, left_out=["labels: not kept"])
    assert "student_model" not in told["flipping"]
    assert told["left_out"][0] == "labels: not kept"
    assert "flipping of the expert" in told["left_out"][1]


def test_doubts_about_the_maps_are_sentences() -> None:
    found = rows(0.5, random_student=0.1)
    told = record(found)
    assert told["checks"]["completeness"]["student"] == pytest.approx(0.5)
    assert [each for each in told["sentences"] if "miss their sum" in each] == [
        "the expert's maps miss their sum by 50%; more --steps make them more exact"
    ]
    for each in found:
        each["randomised"], each["sums"] = 0.95, {}
    told = record(found)
    assert "completeness" not in told["checks"]
    assert "random weights hardly change the expert's maps (cosine 0.95)" in told["sentences"][-2]


def test_what_noise_does_to_the_maps_is_always_said() -> None:
    found = rows(0.5, random_student=0.1)
    told = record(found)
    noise = told["checks"]["noise"]
    assert noise["levels"] == 4
    assert noise["teacher"]["cosine"]["mean"] == pytest.approx(0.98)
    assert noise["student"]["spearman"]["mean"] == pytest.approx(0.95 / 2)
    change = noise["student"]["change"]
    assert change["mean"] == pytest.approx(0.3)
    assert 0 < change["interval"][0] < 0.3 < change["interval"][1]
    assert told["sentences"][-1] == (
        "the maps stay nearly the same under noise that is hardly visible: "
        "cosine with themselves 0.98 (teacher) and 0.95 (expert)"
    )
    for each in found:
        each["noise"]["teacher"] = {**measures(0.62), "change": 0.9}
    assert record(found)["sentences"][-1] == (
        "noise that is hardly visible already changes the maps: cosine with themselves 0.62 (teacher) and 0.95 "
        "(expert); so an agreement near 1 cannot be expected, and single pixels mean little"
    )


def test_a_single_image_says_nothing_about_the_change_of_others() -> None:
    change = record(rows(0.5, random_student=0.1)[:1])["checks"]["noise"]["student"]["change"]
    assert change == {"mean": pytest.approx(0.28), "interval": None}


def test_a_rival_is_compared_in_a_sentence() -> None:
    assert "closer to the teacher's, than" in record(rows(0.5, random_student=0.1, labels=0.3))["sentences"][1]
    assert "farther from the teacher's" in record(rows(0.5, random_student=0.1, labels=0.7))["sentences"][1]
    assert "as far as these images tell" in record(rows(0.5, random_student=0.1, labels=0.5))["sentences"][1]
