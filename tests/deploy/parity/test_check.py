import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import Reference, read_reference, write_golden, write_reference
from edgedistill_deploy.errors import BundleError, DataError, UsageError
from edgedistill_deploy.parity.check import DEFAULT_LIMITS, ParityLimits, ParityReport, check_parity, write_parity
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.statistics.paired import drop_interval, images_to_decide
from reference.measured_bundles import bundle_of, image_set, one_hot
from reference.measured_models import images_of, logits_of_images

SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "parity.json").read_text(encoding="utf-8"))


def check(
    folder: Path,
    predicted: Sequence[int],
    teacher: Sequence[int],
    labels: Sequence[int],
    *,
    limits: ParityLimits = DEFAULT_LIMITS,
    given_images: bool = False,
    batch_size: int = 64,
    **making: Any,
) -> ParityReport:
    bundle, images = bundle_of(folder, predicted, teacher, labels, **making)
    precision = making.get("precision", "fp32")
    with open_session(bundle, precision=precision) as session:
        return check_parity(bundle, session, images if given_images else None, limits, batch_size)


def classes(count: int, seed: int = 0) -> list[int]:
    return [int(drawn) for drawn in np.random.default_rng(seed).integers(0, 3, count)]


def mixed(count: int, lost: int, gained: int) -> tuple[list[int], list[int], list[int]]:
    """Predictions, teacher's answers and labels with so many images lost and gained; the others both right."""
    labels = classes(count)
    wrong = [(label + 1) % 3 for label in labels]
    predicted = wrong[:lost] + labels[lost:]
    teacher = labels[:lost] + wrong[lost : lost + gained] + labels[lost + gained :]
    return predicted, teacher, labels


def with_reference(bundle: Bundle, reference: Reference, **changes: Any) -> Bundle:
    fields = {name: getattr(reference, name) for name in ("logits", "labels", "digests", "images", "image_index")}
    write_reference(bundle.path / "reference.npz", Reference(**{**fields, **changes}))
    return bundle.with_file("reference", bundle.path / "reference.npz")


@pytest.mark.parametrize("given_images", [False, True])
def test_a_flawless_candidate_passes_with_enough_images(tmp_path: Path, given_images: bool) -> None:
    answers = classes(200)
    report = check(tmp_path, answers, answers, answers, given_images=given_images)
    assert report.verdict == "pass"
    assert (report.accuracy.teacher, report.accuracy.candidate, report.accuracy.drop) == (1.0, 1.0, 0.0)
    assert (report.likeness.agreement, report.images.sample_count, report.images.unknown_count) == (1.0, 200, 0)
    assert report.judgement.images_to_decide is None
    assert "lies below the limit of 2.00." in report.judgement.reasons[0]


def test_a_candidate_that_loses_a_tenth_fails(tmp_path: Path) -> None:
    report = check(tmp_path, *mixed(200, lost=20, gained=0))
    assert report.verdict == "fail"
    assert report.accuracy.drop == pytest.approx(0.1)
    assert "drops by 10.00 points on 200 images" in report.judgement.reasons[0]
    assert "above the limit" in report.judgement.reasons[0]


def test_too_few_images_are_inconclusive_and_say_how_many_would_decide(tmp_path: Path) -> None:
    report = check(tmp_path, *mixed(100, lost=1, gained=0))
    assert report.verdict == "inconclusive"
    assert report.judgement.images_to_decide == images_to_decide(1, 0, 100, 0.02)
    assert (
        report.judgement.reasons[-1]
        == f"At the rates observed about {report.judgement.images_to_decide} labelled images would decide."
    )


def test_a_candidate_better_than_the_teacher_rises(tmp_path: Path) -> None:
    report = check(tmp_path, *mixed(100, lost=0, gained=10))
    assert report.verdict == "pass"
    assert report.judgement.reasons[0].startswith("The accuracy rises by 10.00 points")
    assert report.accuracy.drop == pytest.approx(-0.1)


def test_at_the_limit_itself_no_number_of_images_decides(tmp_path: Path) -> None:
    report = check(tmp_path, *mixed(100, lost=2, gained=0))
    assert (report.verdict, report.judgement.images_to_decide) == ("inconclusive", None)
    assert report.judgement.reasons[-1] == "At the rates observed no number of images would decide."


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 2, st.integers(-1, 2)), min_size=1, max_size=40), st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_every_figure_is_the_one_counted_by_hand(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], batch_size: int
) -> None:
    predicted, teacher, labels = (list(column) for column in zip(*rows, strict=True))
    report = check(tmp_path_factory.mktemp("parity"), predicted, teacher, labels, batch_size=batch_size)
    known = [(p, t, label) for p, t, label in rows if label >= 0]
    lost = sum(t == label != p for p, t, label in known)
    gained = sum(p == label != t for p, t, label in known)
    accuracy = report.accuracy
    assert (accuracy.labelled_count, accuracy.lost_count, accuracy.gained_count) == (len(known), lost, gained)
    assert accuracy.interval == drop_interval(lost, gained, len(known))
    assert accuracy.mcnemar_p == pytest.approx(stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0)
    assert report.likeness.agreement == pytest.approx(sum(p == t for p, t, _ in rows) / len(rows))
    if known:
        assert accuracy.teacher == pytest.approx(sum(t == label for _, t, label in known) / len(known))
        assert accuracy.candidate == pytest.approx(sum(p == label for p, _, label in known) / len(known))
        assert accuracy.drop == pytest.approx((lost - gained) / len(known))
    for index, entry in enumerate(report.classes.per_class):
        members = [(p, t) for p, t, label in rows if label == index]
        assert entry.support == len(members)
        if members:
            assert entry.candidate == pytest.approx(sum(p == index for p, _ in members) / len(members))
            assert entry.teacher == pytest.approx(sum(t == index for _, t in members) / len(members))
        else:
            assert (entry.teacher, entry.candidate, entry.drop) == (None, None, None)


def test_classes_that_lost_significantly_are_named_worst_first_and_do_not_fail_by_themselves(tmp_path: Path) -> None:
    labels = [0] * 100 + [1] * 100 + [2] * 800
    predicted = [1] * 12 + [0] * 88 + [0] * 8 + [1] * 92 + [2] * 800
    limits = ParityLimits(max_drop=0.05)
    report = check(tmp_path, predicted, labels, labels, limits=limits)
    assert report.verdict == "pass"
    assert report.findings.notes == (
        (
            "Significantly worse than the teacher, after Holm's correction for 3 classes: 'red' (12.0 points), 'green' "
            "(8.0 points)."
        ),
    )


def test_images_of_unknown_digest_are_counted_and_left_out(tmp_path: Path) -> None:
    answers = classes(30)
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    images = np.concatenate([images_of([0, 1], seed=99), images_of(answers)])
    more = image_set(tmp_path / "more.npz", images, [0, 1, *answers])
    with open_session(bundle) as session:
        report = check_parity(bundle, session, more)
    assert (report.images.sample_count, report.images.unknown_count, report.likeness.agreement) == (30, 2, 1.0)
    assert report.findings.notes[0].startswith("2 images were left out")


def test_given_images_are_matched_by_content_and_not_by_order(tmp_path: Path) -> None:
    predicted, teacher, labels = mixed(60, lost=7, gained=3)
    bundle, images = bundle_of(tmp_path, predicted, teacher, labels)
    shuffled = images.select(np.random.default_rng(1).permutation(60))
    with open_session(bundle) as session:
        one, other = check_parity(bundle, session, images), check_parity(bundle, session, shuffled)
    assert (one.accuracy, one.classes.per_class) == (other.accuracy, other.classes.per_class)


def test_labels_given_now_win_and_contradictions_are_counted(tmp_path: Path) -> None:
    answers = classes(20)
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    relabelled = [(answers[0] + 1) % 3, *answers[1:]]
    with open_session(bundle) as session:
        report = check_parity(bundle, session, image_set(tmp_path / "r.npz", images_of(answers), relabelled))
    assert report.accuracy.candidate == pytest.approx(19 / 20)
    assert report.findings.notes[0].startswith("1 images carry another label")


def test_images_the_bundle_does_not_know_are_refused(tmp_path: Path) -> None:
    answers = classes(5)
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    strangers = image_set(tmp_path / "strangers.npz", images_of([0, 1, 2], seed=5), [0, 1, 2])
    with open_session(bundle) as session, pytest.raises(DataError, match="None of the 3 images is among the 5 whose"):
        check_parity(bundle, session, strangers)


def test_images_left_out_for_size_are_asked_for(tmp_path: Path) -> None:
    answers = classes(5)
    with pytest.raises(DataError, match=r"records no images .*left out for size"):
        check(tmp_path, answers, answers, answers, recorded=[])


def test_a_recorded_sample_is_judged_and_its_number_noted(tmp_path: Path) -> None:
    predicted, teacher, labels = mixed(40, lost=10, gained=0)
    report = check(tmp_path, predicted, teacher, labels, recorded=list(range(5, 40, 5)))
    assert report.images.sample_count == 7
    assert report.accuracy.lost_count == 1
    assert report.findings.notes == ("Judged on the 7 recorded images of 40 evaluation images.",)


def test_without_labels_agreement_alone_can_let_a_candidate_pass(tmp_path: Path) -> None:
    answers = classes(200)
    report = check(tmp_path, answers, answers, [-1] * 200)
    assert report.verdict == "pass"
    assert (report.accuracy.teacher, report.accuracy.drop, report.accuracy.interval) == (None, None, (-1.0, 1.0))
    assert "only the agreement with the teacher is judged" in report.judgement.reasons[0]


@pytest.mark.parametrize(
    ("disagreeing", "least", "verdict", "needed"),
    [
        (0, None, "pass", None),
        (30, None, "fail", None),
        (2, None, "inconclusive", 203),  # 1.96^2 x 0.95 x 0.05 / 0.03^2
        (5, None, "inconclusive", None),  # at the limit itself
        (10, 0.8, "pass", None),
        (10, 0.85, "inconclusive", 196),
        (10, 0.97, "fail", None),
    ],
)
def test_without_labels_the_ends_of_the_agreement_decide(
    tmp_path: Path, disagreeing: int, least: float | None, verdict: str, needed: int | None
) -> None:
    predicted, teacher, _ = mixed(100, lost=disagreeing, gained=0)
    report = check(tmp_path, predicted, teacher, [-1] * 100, limits=ParityLimits(min_agreement=least))
    assert (report.verdict, report.judgement.images_to_decide) == (verdict, needed)


@pytest.mark.parametrize(
    ("least", "verdict", "place"),
    [(0.7, "pass", "above"), (0.84, "inconclusive", "on both sides of"), (0.9, "fail", "below")],
)
def test_the_lower_end_of_the_agreement_holds_its_limit(tmp_path: Path, least: float, verdict: str, place: str) -> None:
    labels = classes(200)
    wrong = [(label + 1) % 3 for label in labels]
    predicted = wrong[:20] + labels[20:]  # as accurate as the teacher, on other images
    teacher = labels[:20] + wrong[20:40] + labels[40:]
    limits = ParityLimits(max_drop=0.2, min_agreement=least)
    report = check(tmp_path, predicted, teacher, labels, limits=limits)
    assert report.verdict == verdict
    low, high = stats.binomtest(160, 200).proportion_ci(method="wilson")
    reason = report.judgement.reasons[1 if verdict == "pass" else 0]
    assert f"80.00 % of 200 images are answered as the teacher does; the 95% interval, {100 * low:.2f} to " in reason
    assert f"{100 * high:.2f} %, lies {place} the least agreement of {100 * least:.2f} %." in reason


def test_logits_that_are_not_finite_fail_whatever_the_accuracy(tmp_path: Path) -> None:
    answers = classes(200)
    bundle, _ = bundle_of(tmp_path, answers, answers, answers, defect="not_finite_when_dark")
    reference = read_reference(bundle.file("reference"))
    assert reference.images is not None
    images = reference.images.copy()
    images[7] //= 4
    bundle = with_reference(bundle, reference, images=images)
    with open_session(bundle) as session:
        report = check_parity(bundle, session)
    assert report.verdict == "fail"
    assert report.judgement.reasons[0] == "1 of 200 images gave logits that are not finite."
    assert report.accuracy.candidate == pytest.approx(199 / 200)
    assert report.likeness.mean_kl is None
    jsonschema.validate(json.loads(json.dumps(report.to_json(), allow_nan=False)), SCHEMA)


def test_a_broken_relation_fails_whatever_the_accuracy(tmp_path: Path) -> None:
    answers = classes(200)
    report = check(tmp_path, answers, answers, answers, defect="wrong_for_odd_batches")
    assert report.accuracy.drop == 0.0
    assert report.verdict == "fail"
    assert any(
        reason.startswith("Relation odd_batch does not hold. Broken for input rows")
        for reason in report.judgement.reasons
    )
    assert {item.name for item in report.soundness.metamorphic if not item.passed} == {"batch_of_one", "odd_batch"}


@pytest.mark.parametrize(
    ("given_images", "name"), [(True, "evaluation.npz image 0"), (False, r"recorded image 0 \(sha256 [0-9a-f]{12}\)")]
)
def test_a_broken_relation_names_its_images(tmp_path: Path, given_images: bool, name: str) -> None:
    report = check(tmp_path, *[classes(20)] * 3, defect="wrong_for_odd_batches", given_images=given_images)
    broken = next(item for item in report.soundness.metamorphic if item.name == "odd_batch")
    assert re.fullmatch(name, broken.inputs[0])
    assert broken.inputs[0] in broken.detail


@pytest.mark.parametrize(("precision", "verdict"), [("fp32", "fail"), ("fp16", "fail"), ("int8", "pass")])
def test_another_function_than_the_exported_one_fails_unless_it_is_quantised(
    tmp_path: Path, precision: str, verdict: str
) -> None:
    answers = classes(200)
    report = check(tmp_path, answers, answers, answers, precision=precision, defect="shifted")
    assert report.soundness.numeric.max_abs_error == pytest.approx(1.0, abs=1e-5)
    assert report.verdict == verdict
    assert any("another function" in reason for reason in report.judgement.reasons) == (verdict == "fail")


def test_golden_outputs_of_another_shape_fail(tmp_path: Path) -> None:
    answers = classes(200)
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    write_golden(bundle.path / "golden.npz", images_of([0, 1]), np.zeros((2, 4), dtype=np.float32))
    bundle = bundle.with_file("golden", bundle.path / "golden.npz")
    with open_session(bundle) as session:
        report = check_parity(bundle, session)
    assert report.verdict == "fail"
    assert "not finite, or of another shape" in report.judgement.reasons[0]


def test_numeric_error_is_zero_against_the_same_function(tmp_path: Path) -> None:
    answers = classes(20)
    numeric = check(tmp_path, answers, answers, answers).soundness.numeric
    assert numeric.max_abs_error == pytest.approx(0.0, abs=1e-5)
    assert numeric.cosine == pytest.approx(1.0)
    assert numeric.image_count == 4


def test_mean_kl_is_the_divergence_of_the_softmax_outputs(tmp_path: Path) -> None:
    predicted, teacher, labels = mixed(30, lost=4, gained=4)
    report = check(tmp_path, predicted, teacher, labels)
    p, q = (special.softmax(logits, axis=1) for logits in (one_hot(teacher), logits_of_images(images_of(predicted))))
    assert report.likeness.mean_kl == pytest.approx(float(special.rel_entr(p, q).sum(axis=1).mean()), rel=1e-4)


def test_the_teacher_itself_is_judged_against_its_own_record(tmp_path: Path) -> None:
    answers = classes(200)
    bundle, _ = bundle_of(tmp_path, answers, answers, answers, precision="teacher")
    reference = read_reference(bundle.file("reference"))
    bundle = with_reference(bundle, reference, logits=logits_of_images(images_of(answers)))
    with open_session(bundle, precision="teacher") as session:
        report = check_parity(bundle, session)
    assert (report.verdict, report.accuracy.drop, report.model.precision) == ("pass", 0.0, "teacher")
    assert report.soundness.numeric.max_abs_error == pytest.approx(0.0, abs=1e-5)
    assert report.soundness.numeric.image_count == 200


def test_interchanged_classes_are_noticed(tmp_path: Path) -> None:
    answers = classes(200)
    report = check(tmp_path, answers, answers, answers, defect="classes_interchanged", precision="int8")
    assert report.verdict == "fail"
    [found] = report.findings.diagnosis
    assert found.name == "permuted_classes"
    assert "'red' and 'green' are interchanged" in found.detail
    assert found.evidence["answered"] == {"red": "green", "green": "red"}


def test_a_weak_candidate_is_not_taken_for_interchanged_classes(tmp_path: Path) -> None:
    report = check(tmp_path, classes(200, seed=1), classes(200), classes(200))
    assert report.verdict == "fail"
    assert report.findings.diagnosis == ()


def test_a_model_of_another_subtask_is_refused(tmp_path: Path) -> None:
    answers = classes(10)
    with pytest.raises(BundleError, match=r"answers 10 images with logits of shape \(10, 2\) .* \(10, 3\)"):
        check(tmp_path, answers, answers, answers, defect="two_classes")


def test_a_reference_of_other_classes_is_refused(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    reference = read_reference(bundle.file("reference"))
    bundle = with_reference(bundle, reference, logits=np.zeros((2, 5), dtype=np.float32))
    with (
        open_session(bundle) as session,
        pytest.raises(BundleError, match="logits of 5 classes, but the bundle names 3"),
    ):
        check_parity(bundle, session)


def test_progress_counts_images(tmp_path: Path) -> None:
    answers = classes(25)
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    seen: list[tuple[object, ...]] = []
    with open_session(bundle) as session:
        check_parity(bundle, session, batch_size=10, progress=lambda *step: seen.append(step))
    assert seen == [(10, 25, "images"), (20, 25, "images"), (25, 25, "images")]


@pytest.mark.parametrize("given_images", [False, True])
def test_the_record_is_written_under_its_name_and_meets_its_schema(tmp_path: Path, given_images: bool) -> None:
    predicted, teacher, labels = mixed(50, lost=3, gained=2)
    bundle, images = bundle_of(tmp_path, predicted, teacher, labels)
    with open_session(bundle) as session:
        report = check_parity(bundle, session, images if given_images else None)
        path = write_parity(bundle, report)
        assert path == bundle.path / "parity" / f"{report.model.device}-onnxruntime-fp32.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(record, SCHEMA)
        assert record["model_sha256"] == bundle.model_sha256("model.fp32")
    assert record["bundle"] == "bundle"
    assert record["limits"] == {
        "max_drop": 0.02,
        "confidence": 0.95,
        "max_class_drop": None,
        "min_agreement": None,
        "allowed_classes": [],
        "strict": False,
    }


@pytest.mark.parametrize("max_drop", [-0.01, 1.0, 2.0, float("nan")])
def test_an_impossible_limit_is_refused(max_drop: float) -> None:
    with pytest.raises(UsageError, match=r"max_drop is .*; it must lie between 0 and 1"):
        ParityLimits(max_drop=max_drop)


def test_an_impossible_confidence_is_refused() -> None:
    with pytest.raises(UsageError, match=r"confidence is 95; it must lie between 0 and 1"):
        ParityLimits(confidence=95)


def test_an_impossible_batch_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size is 0; it must be 1 or more"):
        check(tmp_path, [0], [0], [0], batch_size=0)
