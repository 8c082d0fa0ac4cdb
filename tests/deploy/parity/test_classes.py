"""A verdict speaks of every class: dead ones, those beyond a limit, and those too small to tell."""

import json
import math
from pathlib import Path
from random import Random

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgedistill_deploy.classes.groups import ClassGroup
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.evaluation.figures import Answers, measure_accuracy, measure_classes
from edgedistill_deploy.parity._classes import judge_classes
from edgedistill_deploy.parity._verdict import judge, worst_judgement
from edgedistill_deploy.parity.check import ParityLimits, ParityReport, check_parity
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.records.classes import ClassFinding
from edgedistill_deploy.records.parity import DEFAULT_LIMITS, Judgement
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.statistics.paired import images_to_show_loss, mcnemar_p
from reference.class_bundles import ANIMALS, LION, ZEBRA, Rows, animals, answers_of, class_bundle, dead_lions

SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "parity.json").read_text(encoding="utf-8"))


def report_of(folder: Path, rows: Rows, limits: ParityLimits = DEFAULT_LIMITS) -> ParityReport:
    bundle = class_bundle(folder / "bundle", rows)
    with open_session(bundle, threads=1) as session:
        return check_parity(bundle, session, None, limits)


def judged(rows: Rows, limits: ParityLimits = DEFAULT_LIMITS, names: tuple[str, ...] = ANIMALS) -> Judgement:
    """Judge answers as `check_answers` does, without a model."""
    answers = answers_of(rows, len(names))
    return judged_answers(answers, limits, names)


def judged_answers(answers: Answers, limits: ParityLimits, names: tuple[str, ...]) -> Judgement:
    classes = measure_classes(names, answers, limits.confidence)
    accuracy = measure_accuracy(answers, limits.confidence)
    return worst_judgement(judge_classes(classes, answers, limits), judge(accuracy, answers, limits))


def test_a_dead_class_fails_an_expert_that_is_better_than_its_teacher(tmp_path: Path) -> None:
    report = report_of(tmp_path, animals(dead_lions()))
    assert report.accuracy.interval[1] < 0, "the accuracy alone would pass"
    assert report.verdict == "fail"
    assert report.judgement.reasons[0] == (
        "The class 'lion' is dead: none of 40 images right, teacher 37.5 %; never answered."
    )
    assert report.judgement.reasons[1].startswith("The accuracy rises by ")
    assert report.judgement.class_findings == (
        ClassFinding(name="lion", fault="dead", verdict="fail", detail=report.judgement.reasons[0]),
    )
    assert "fail: it has a dead class: 'lion'; drop −6.25 points" in str(report)
    assert not any("lion" in note for note in report.findings.notes)
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))
    jsonschema.validate(record, SCHEMA)
    assert ParityReport.from_json(record) == report


@pytest.mark.parametrize("name", ["lion", "LION", "l-i_o n"])
def test_an_allowed_class_is_told_and_passes(tmp_path: Path, name: str) -> None:
    report = report_of(tmp_path, animals(dead_lions()), ParityLimits(allowed_classes=(name,)))
    assert report.verdict == "pass"
    assert report.judgement.reasons[0].startswith("The class 'lion' is dead, which is allowed: none of 40 images")
    [found] = report.judgement.class_findings or ()
    assert (found.name, found.verdict) == ("lion", "pass")


def test_another_dead_class_than_the_allowed_one_fails(tmp_path: Path) -> None:
    judgement = judged(animals(dead_lions()), ParityLimits(allowed_classes=("zebra",)))
    assert judgement.verdict == "fail"


def test_a_class_to_allow_that_there_is_not_is_refused_before_anything_runs(tmp_path: Path) -> None:
    bundle = class_bundle(tmp_path / "bundle", animals([]))
    (tmp_path / "bundle" / "model.fp32.onnx").unlink()
    limits = ParityLimits(allowed_classes=("Loin",))
    with pytest.raises(UsageError, match=r"^The expert has no class 'Loin'\. Did you mean lion\?$"):
        validate_bundle(bundle, ValidationRequest(limits=limits))


def test_a_dead_class_is_named_before_other_defects(tmp_path: Path) -> None:
    bundle = class_bundle(tmp_path / "bundle", animals(dead_lions()))
    golden = np.load(bundle.file("golden"))
    np.savez(bundle.path / "golden.npz", inputs=golden["inputs"], outputs=golden["outputs"] + 100)
    bundle = bundle.with_file("golden", bundle.path / "golden.npz")
    with open_session(bundle, threads=1) as session:
        reasons = check_parity(bundle, session).judgement.reasons
    assert "'lion' is dead" in reasons[0]
    assert "another function" in reasons[1]


def test_too_few_images_to_tell_are_inconclusive_and_say_how_many_would_decide() -> None:
    rows = animals(dead_lions(count=4, teacher_right=2))
    judgement = judged(rows)
    # Nine lost of 8 classes: 8 x 2^-8 = 0.03; eight: 8 x 2^-7 = 0.06. Of two lions the teacher knows one.
    assert judgement.verdict == "inconclusive"
    assert judgement.reasons[0] == (
        "The class 'lion' may be dead: none of 4 images right, teacher 50.0 %; never answered. At the rates observed "
        "about 18 images of 'lion' would decide."
    )
    [found] = judgement.class_findings or ()
    assert (found.verdict, found.images_to_decide) == ("inconclusive", 18)
    assert judgement.images_to_decide == math.ceil(18 / (4 / len(rows)))
    assert judged(animals(dead_lions(count=18, teacher_right=9))).verdict == "fail"
    assert judged(animals(dead_lions(count=16, teacher_right=8))).verdict == "inconclusive"
    assert judged(rows, ParityLimits(allowed_classes=("lion",))).verdict == "pass"


@pytest.mark.parametrize(("lost", "size"), [(1, 1), (3, 20), (7, 7)])
@pytest.mark.parametrize("tests", [1, 2, 8, 100, 1000])
def test_images_to_show_a_loss_is_the_smallest_number_that_is_significant(lost: int, size: int, tests: int) -> None:
    needed = images_to_show_loss(lost, size, tests)
    assert needed is not None
    losses = math.floor(needed * lost / size + 1e-9)
    assert tests * stats.binomtest(losses, losses).pvalue < 0.05
    assert tests * stats.binomtest(losses - 1, losses - 1).pvalue >= 0.05
    assert images_to_show_loss(0, size, tests) is None


def test_a_class_that_the_teacher_does_not_know_either_is_a_note(tmp_path: Path) -> None:
    report = report_of(tmp_path, animals(dead_lions(teacher_right=0)))
    assert report.verdict == "pass"
    assert report.judgement.class_findings == ()
    assert report.findings.notes[0] == (
        "Neither the teacher nor the model gets an image of these classes right: 'lion' (40 images)."
    )


def test_many_dead_classes_are_one_sentence() -> None:
    names = tuple(f"c{index}" for index in range(14))
    rows = [(0, index, index) for index in range(14) for _ in range(30)]
    judgement = judged(rows, names=names)
    assert judgement.reasons[0].startswith("13 classes are dead: 'c1' (none of 30 images right, teacher 100.0 %; never")
    assert judgement.reasons[0].endswith("'c10' (none of 30 images right, teacher 100.0 %; never answered) and 3 more.")
    assert [each.name for each in judgement.class_findings or ()] == list(names[1:])


def test_a_class_that_lost_much_and_is_alive_fails_only_by_its_limit() -> None:
    lions = [(LION if place < 4 else ZEBRA, LION, LION) for place in range(40)]
    rows = animals(lions, others=200)
    assert judged(rows).verdict == "pass"
    for limit, verdict, words in ((0.5, "fail", "loses"), (0.85, "inconclusive", "may lose"), (0.99, "pass", "")):
        judgement = judged(rows, ParityLimits(max_class_drop=limit))
        assert judgement.verdict == verdict
        start = (
            f"The class 'lion' {words} more than the {100 * limit:.2f} points allowed for a class: drop 90.00 points"
        )
        assert judgement.reasons[0].startswith(start) == bool(words)
        assert ("would decide" in judgement.reasons[0]) == (verdict == "inconclusive")
    assert judged(rows, ParityLimits(max_class_drop=0.5, allowed_classes=("lion",))).verdict == "pass"


def test_a_small_class_leaves_its_own_limit_open_even_for_a_flawless_expert() -> None:
    rows = [(index, index, index) for index in range(8) for _ in range(200 if index else 20)]
    judgement = judged(rows, ParityLimits(max_class_drop=0.1))
    assert judgement.verdict == "inconclusive"
    assert "'antelope' may lose" in judgement.reasons[0]
    [found] = judgement.class_findings or ()
    more = [(index, index, index) for index in range(8) for _ in range(200 if index else found.images_to_decide or 0)]
    assert judged(more, ParityLimits(max_class_drop=0.1)).verdict == "pass"


def test_without_labels_a_class_that_is_never_answered_is_dead_by_the_teachers_answers(tmp_path: Path) -> None:
    rows = [
        (index if index != LION else ZEBRA, index, -1) for index in range(8) for _ in range(12 + 400 * (index == 0))
    ]
    report = report_of(tmp_path, rows, ParityLimits(min_agreement=0.9))
    assert report.likeness.agreement_interval[0] > 0.9
    assert report.verdict == "fail"
    assert report.judgement.reasons[0] == (
        "The class 'lion' is dead: never answered, where the teacher answers it on 12 images that have no label."
    )
    answers = report.classes.per_class[LION].unlabelled
    assert answers is not None
    assert (answers.teacher_count, answers.candidate_count, answers.lost_count) == (12, 0, 12)
    jsonschema.validate(json.loads(json.dumps(report.to_json(), allow_nan=False)), SCHEMA)
    few = judged([*(row for row in rows if row[1] != LION), *[(ZEBRA, LION, -1)] * 3], ParityLimits(min_agreement=0.9))
    assert few.verdict == "inconclusive"
    assert few.reasons[0].endswith("At the rates observed about 9 images of 'lion' would decide.")


def test_a_class_with_labels_is_not_judged_by_the_teachers_answers() -> None:
    rows = [(0, 0, 0)] * 300 + [(1, 1, 1)] * 20 + [(0, 1, 0)] * 20  # the teacher says 1 to images that are 0
    assert judged(rows, names=("a", "b")).class_findings == ()
    rows = [(0, 0, 0)] * 300 + [(0, 1, 0)] * 20  # all labels are known, and none is 1
    assert judged(rows, names=("a", "b")).class_findings == ()


def test_classes_that_no_image_shows_are_not_checked_and_named(tmp_path: Path) -> None:
    report = report_of(tmp_path, animals([]))
    assert report.verdict == "pass"
    [found] = [each for each in report.soundness.not_checked if each.name == "dead_classes"]
    assert found.detail == "Not checked, because no image of 'lion' was compared."


def test_a_class_limit_without_labels_is_not_checked_and_said(tmp_path: Path) -> None:
    rows = [(index, index, -1) for index in range(8) for _ in range(20)]
    report = report_of(tmp_path, rows, ParityLimits(max_class_drop=0.3))
    [found] = [each for each in report.soundness.not_checked if each.name == "class_drop"]
    assert found.detail.startswith("Not checked, because no image of 'antelope', 'buffalo', ")


def test_an_earlier_record_with_a_dead_class_no_longer_passes(tmp_path: Path) -> None:
    record = report_of(tmp_path, animals(dead_lions())).to_json()
    for row in record["per_class"]:
        del row["answer_count"], row["unlabelled"]
    del record["class_findings"]
    old = ParityReport.from_json({**record, "verdict": "pass", "reasons": ["The accuracy rises."]})
    assert old.verdict == "fail"
    assert old.class_shortfall == "has a dead class: 'lion'"


@st.composite
def answered(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], int]:
    """Answers in runs of equal ones, so that some classes are significant."""
    count = draw(st.integers(2, 5))
    one = st.tuples(
        st.integers(0, count - 1), st.integers(0, count - 1), st.integers(-1, count - 1), st.integers(1, 12)
    )
    runs = draw(st.lists(one, min_size=1, max_size=14))
    return [run[:3] for run in runs for _ in range(run[3])], count


def names_of(count: int) -> tuple[str, ...]:
    return tuple("abcdefgh"[:count])


def slow_dead(rows: Rows, count: int, level: float) -> tuple[set[int], set[int]]:
    """The dead classes and those that may be dead, by the words of the rule."""
    images: dict[int, list[tuple[bool, bool]]] = {}
    for index in range(count):
        labelled = [(p == index, t == index) for p, t, label in rows if label == index]
        without = [(p == index, t == index) for p, t, label in rows if label < 0 and index in (p, t)]
        if labelled or without:
            images[index] = labelled or without
    p_values = {}
    for index, pairs in images.items():
        lost, gained = pairs.count((False, True)), pairs.count((True, False))
        p_values[index] = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    rejected: set[int] = set()
    for rank, index in enumerate(sorted(p_values, key=lambda each: p_values[each])):
        if p_values[index] * (len(p_values) - rank) >= level:
            break
        rejected.add(index)
    lost_all = {index for index, pairs in images.items() if not any(p for p, _ in pairs) and any(t for _, t in pairs)}
    return lost_all & rejected, lost_all - rejected


@given(answered(), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=150, deadline=None)
def test_dead_classes_are_those_of_the_rule_in_words(drawn: tuple[Rows, int], confidence: float) -> None:
    rows, count = drawn
    findings = judged(rows, ParityLimits(confidence=confidence), names_of(count)).class_findings or ()
    dead, undecided = slow_dead(rows, count, 1 - confidence)
    assert {each.name for each in findings if each.verdict == "fail"} == {names_of(count)[index] for index in dead}
    assert {each.name for each in findings if each.verdict == "inconclusive"} == {
        names_of(count)[index] for index in undecided
    }


limit_values = st.none() | st.sampled_from([0.0, 0.1, 0.4])


@given(answered(), st.randoms(use_true_random=False), limit_values, limit_values)
@settings(max_examples=80, deadline=None)
def test_the_order_of_images_and_classes_changes_no_verdict(
    drawn: tuple[list[tuple[int, int, int]], int], random: Random, class_drop: float | None, least: float | None
) -> None:
    rows, count = drawn
    limits = ParityLimits(max_class_drop=class_drop, min_agreement=least)
    before = judged(rows, limits, names_of(count))
    order = list(range(count))
    random.shuffle(order)
    moved = [(order[p], order[t], order[label] if label >= 0 else -1) for p, t, label in rows]
    random.shuffle(moved)
    names = tuple(names_of(count)[order.index(place)] for place in range(count))
    after = judged(moved, limits, names)
    assert after.verdict == before.verdict
    assert after.images_to_decide == before.images_to_decide
    assert set(after.class_findings or ()) == set(before.class_findings or ())


@given(answered(), limit_values, st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=80, deadline=None)
def test_allowing_one_more_class_never_makes_a_verdict_worse(
    drawn: tuple[Rows, int], class_drop: float | None, first: int, second: int
) -> None:
    rows, count = drawn
    names, order = names_of(count), ("pass", "inconclusive", "fail")
    some = (names[first % count],)
    less = judged(rows, ParityLimits(max_class_drop=class_drop, allowed_classes=some), names)
    more = judged(rows, ParityLimits(max_class_drop=class_drop, allowed_classes=(*some, names[second % count])), names)
    assert order.index(more.verdict) <= order.index(less.verdict)


@given(answered(), limit_values)
@settings(max_examples=80, deadline=None)
def test_an_expert_that_answers_as_its_teacher_never_fails_by_a_class(
    drawn: tuple[Rows, int], class_drop: float | None
) -> None:
    rows, count = drawn
    same = [(teacher, teacher, label) for _, teacher, label in rows]
    findings = judged(same, ParityLimits(max_class_drop=class_drop), names_of(count)).class_findings or ()
    assert {each.verdict for each in findings} <= {"inconclusive"}
    assert all(each.fault == "beyond_limit" for each in findings)


def test_an_expert_without_finite_answers_has_only_dead_classes() -> None:
    rows = animals(dead_lions())
    sound = answers_of(rows, 8)
    broken = Answers(teacher=sound.teacher, candidate=np.full_like(sound.candidate, np.nan), labels=sound.labels)
    judgement = judged_answers(broken, DEFAULT_LIMITS, ANIMALS)
    assert len(judgement.class_findings or ()) == 8
    assert mcnemar_p(15, 0) * 8 < 0.05


@pytest.mark.parametrize(("share", "meant"), [(95.0, "0.95"), (80.0, "0.8"), (1.0, "0.95"), (-1.0, "0.95")])
def test_an_agreement_that_is_no_share_gets_an_example_of_its_kind(share: float, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"min_agreement is {share:g}; .* below 1, for example {meant}\.$"):
        ParityLimits(min_agreement=share)


def test_allowing_a_member_of_a_group_names_the_group() -> None:
    classes = (ClassGroup(name="cat", members=("tabby, tabby cat", "tiger cat")), "dog")
    assert ParityLimits(allowed_classes=("Cat",)).allowed_among(classes) == {"cat"}
    with pytest.raises(UsageError, match="no class 'tabby' of its own: it is part of 'cat', which can be allowed"):
        ParityLimits(allowed_classes=("tabby",)).allowed_among(classes)
    with pytest.raises(UsageError, match="The expert has no class 'lynx'"):
        ParityLimits(allowed_classes=("lynx",)).allowed_among(classes)
