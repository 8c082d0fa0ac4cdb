"""The reject score: what it is, where its threshold lies, and that the exported files decide as they say."""

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import mannwhitneyu
from torch import nn

from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.export.bundle import export_onnx
from edgedistill.export.config import ExportConfig
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill.rejection.outside import OutsideImages, find_outside
from edgedistill.rejection.rejector import Rejection, accept_threshold, auroc, fit_rejection, reject_score
from edgedistill.subtasks.subtask import Subtask
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSet, batches
from edgedistill_deploy.parity.check import check_parity
from edgedistill_deploy.parity.metamorphic import check_relations
from edgedistill_deploy.runtimes.opening import open_session

CLASSES = ["3", "0", "2"]  # of the tiny digits 0 to 3: class 1 is left outside
SCORE_VALUES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)  # many ties


@given(inside=SCORE_VALUES, outside=SCORE_VALUES)
def test_auroc_is_the_u_statistic_of_mann_and_whitney(inside: list[float], outside: list[float]) -> None:
    expected = mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside))
    assert auroc(np.array(inside), np.array(outside)) == pytest.approx(expected, abs=1e-12)


@given(
    scores=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=200, unique=True), share=st.floats(0.5, 0.999)
)
def test_the_threshold_accepts_the_asked_share_and_is_the_highest_that_does(scores: list[float], share: float) -> None:
    values = np.array(scores, dtype=np.float32)
    threshold = accept_threshold(values, share)
    needed = int(np.sum(np.arange(1, len(values) + 1) < share * len(values) - 1e-9)) + 1
    assert np.mean(values >= threshold) >= share - 1e-9
    edge = sorted(values.tolist())[-needed]
    assert edge - 2e-4 * max(1, abs(edge)) <= threshold < edge


def test_the_threshold_of_a_hundred_scores() -> None:
    assert accept_threshold(np.arange(1000, 1100.0), 0.95) == pytest.approx(1005 - 0.1005, abs=1e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_the_scores_are_those_of_the_papers(seed: int) -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) * 30
    assert np.allclose(reject_score("energy", logits), logsumexp(logits.numpy(), axis=1), rtol=1e-5)
    assert np.array_equal(reject_score("max_logit", logits), logits.numpy().max(axis=1))


@pytest.mark.parametrize("share", [-0.1, 0.3, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"reject must be 0 \(off\) or a share from 0.5 to below 1"):
        ExportConfig(reject=share)
    assert ExportConfig(reject=0.5).reject == 0.5


@dataclass(frozen=True, kw_only=True)
class Made:
    teacher: Teacher
    subtask: Subtask
    images: SubtaskImages
    outside: OutsideImages
    student: nn.Module
    rejection: Rejection
    bundle: Bundle

    def of(self, *sets: ImageSet | None) -> np.ndarray:
        """All images of these sets, prepared."""
        return np.concatenate(
            [part for each in sets if each is not None for part in batches(each, self.teacher.preprocess, 64)]
        )


def kept_rows(teacher: Teacher, subtask: Subtask) -> nn.Module:
    """Copy the teacher with the subtask's outputs alone: an expert that loses nothing."""
    student = copy.deepcopy(teacher.model)
    rows = list(subtask.class_indices)
    whole = student.get_submodule("fc")
    assert isinstance(whole, nn.Linear)
    head = nn.Linear(whole.in_features, len(rows))
    head.load_state_dict({name: value[rows] for name, value in whole.state_dict().items()})
    student.fc = head
    return student


@pytest.fixture(scope="module")
def made(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An expert with a reject score, exported and calibrated."""
    teacher, source = load_teacher("embedded:glyphs100"), open_source(f"npz:{tiny_digits}")
    subtask = teacher.subtask(CLASSES)
    images = split_for_subtask(source, CLASSES)
    outside = find_outside(source, teacher.class_names, CLASSES, images)
    student = kept_rows(teacher, subtask)
    rejection = fit_rejection(student, teacher, subtask, images, outside, 0.9)
    bundle = export_onnx(
        student,
        teacher,
        subtask,
        images.evaluation,
        tmp_path_factory.mktemp("reject"),
        ExportConfig(opset=17, reject=0.9),
        rejection=rejection,
    )
    bundle = calibrate(
        bundle,
        images.train,
        CalibrationConfig(images=30, held_out=30, method="minmax", profile="x86", fp16=False, ledger_nodes=0),
    )
    return Made(
        teacher=teacher,
        subtask=subtask,
        images=images,
        outside=outside,
        student=student,
        rejection=rejection,
        bundle=bundle,
    )


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8-tensorrt"])
def test_every_file_decides_by_its_own_logits(made: Made, precision: str) -> None:
    pixels = made.of(made.images.test, made.outside.test)
    with open_session(made.bundle, precision=precision) as session:
        given = session.run({"image": pixels})
        assert [(each.name, each.dtype) for each in session.outputs] == [("logits", "float32"), ("in_domain", "bool")]
        relations = check_relations(session, pixels[:3])
    logits, rejector = given["logits"].astype(np.float64), made.rejection.rejector
    scores = logsumexp(logits, axis=1) if rejector.score == "energy" else logits.max(axis=1)
    clear = np.abs(scores - rejector.threshold) > 1e-4
    assert given["in_domain"].shape == (80,)
    assert clear.sum() >= 78
    assert np.array_equal(given["in_domain"][clear], (scores >= rejector.threshold)[clear])
    assert all(each.passed for each in relations)


def test_the_files_tell_a_device_their_rule(made: Made) -> None:
    for role in ("model.fp32", "model.int8"):
        properties = onnx.load(made.bundle.file(role)).metadata_props
        rule = json.loads({each.key: each.value for each in properties}["edgedistill.reject"])
        assert rule == {"score": made.rejection.rejector.score, "threshold": made.rejection.rejector.threshold}
    with open_session(made.bundle, precision="teacher") as session:
        assert [each.name for each in session.outputs] == ["logits"]


def test_the_figures_are_those_of_the_exported_file(made: Made) -> None:
    """Counted anew from what ONNX Runtime says of every test image."""
    assert made.images.test is not None
    with open_session(made.bundle) as session:
        inside = session.run({"image": made.of(made.images.test)})
        outside = session.run({"image": made.of(made.outside.test)})
        validation = session.run({"image": made.of(made.images.validation)})
    right = inside["logits"].argmax(axis=1) == made.images.test.labels
    record = open_bundle(made.bundle.path).manifest["reject"]
    assert record["true_accept_target"] == 0.9
    assert validation["in_domain"].mean() == record["validation"]["true_accept"] >= 0.9
    assert record["test"]["true_accept"] == inside["in_domain"].mean()
    assert record["test"]["false_accept"] == outside["in_domain"].mean()
    assert record["test"]["accuracy"] == right.mean()
    assert record["test"]["accepted_accuracy"] == pytest.approx(right[inside["in_domain"]].mean())
    assert (record["test"]["inside_count"], record["test"]["outside_count"]) == (60, 20)
    assert record["score"] == max(record["candidates"], key=record["candidates"].get)
    assert record["validation"]["auroc"] == max(record["candidates"].values()) > 0.8


def test_the_teacher_is_judged_alike(made: Made) -> None:
    """This expert is the teacher's own outputs, so both must come out the same; the teacher's free choice is asked
    anew."""
    teacher = made.rejection.teacher
    assert teacher is not None
    assert teacher.threshold == pytest.approx(made.rejection.rejector.threshold, rel=1e-5)
    assert teacher.test == made.rejection.test
    for share, images in (
        (teacher.all_class_true_accept, made.images.test),
        (teacher.all_class_false_accept, made.outside.test),
    ):
        with torch.no_grad():
            every = made.teacher.model(made.teacher.normalise()(torch.from_numpy(made.of(images))))
        named = [made.teacher.class_names[place] for place in every.argmax(dim=1).tolist()]
        assert share == np.mean([name in CLASSES for name in named])


def test_a_second_output_leaves_parity_as_it_was(made: Made) -> None:
    with open_session(made.bundle, precision="int8") as session:
        report = check_parity(made.bundle, session)
    assert report.images.sample_count == 60
    assert report.accuracy.candidate is not None
    assert report.accuracy.candidate > 0.9


def test_what_is_said_for_people(made: Made) -> None:
    said = list(made.rejection.sentences())
    assert len(said) == 3
    assert "validation images of the subtask" in said[0]
    assert "of 60 images of the subtask" in said[1]
    assert "of 20 of other classes (AUROC " in said[1]
    assert "choosing among all its classes" in said[2]


def test_without_other_classes_the_subtask_alone_sets_the_threshold(made: Made) -> None:
    nothing = OutsideImages(validation=None, test=None)
    alone = fit_rejection(made.student, made.teacher, made.subtask, made.images, nothing, 0.9)
    assert alone.rejector.score == "energy"
    assert alone.validation.true_accept >= 0.9
    assert (alone.validation.auroc, alone.validation.false_accept, alone.validation.outside_count) == (None, None, 0)
    assert any("the threshold comes from the subtask alone" in each for each in alone.sentences())
    json.dumps(alone.to_json(), allow_nan=False)


def test_without_test_images_nothing_is_claimed(made: Made) -> None:
    few = made.images.validation.select(range(0, len(made.images.validation), 5))
    images = SubtaskImages(train=made.images.train, validation=few, test=None)
    outside = OutsideImages(validation=made.outside.validation, test=None)
    found = fit_rejection(made.student, made.teacher, made.subtask, images, outside, 0.9)
    assert (found.test, found.teacher) == (None, None)
    assert any("the data has no test images" in each for each in found.sentences())


def test_a_reject_score_that_cannot_be_set_is_refused(made: Made, tmp_path: Path) -> None:
    images, config = made.images.validation, ExportConfig(reject=0.9)
    with pytest.raises(UsageError, match="make one with fit_rejection"):
        export_onnx(made.student, made.teacher, made.subtask, images, tmp_path, config)
    with pytest.raises(UsageError, match=r"from 0.5 to below 1, such as 0.95, and 0.2 was given"):
        fit_rejection(made.student, made.teacher, made.subtask, made.images, made.outside, 0.2)
    assert list(tmp_path.iterdir()) == []


def test_exporting_without_it_empties_the_record(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.bundle.path, tmp_path / "again")
    assert "score" in open_bundle(folder).manifest["reject"]
    images = made.images.validation.select(range(8))
    plain = export_onnx(made.student, made.teacher, made.subtask, images, folder, ExportConfig(opset=17))
    assert plain.manifest["reject"] == {}
    assert [each.name for each in onnx.load(plain.file("model.fp32")).graph.output] == ["logits"]
