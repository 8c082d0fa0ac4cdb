"""Each step of the chain against counts made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.evaluation.figures import Answers
from edgedistill_deploy.parity.chain import chain_record, chain_steps, write_chain
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.statistics.paired import drop_interval, wilson_interval
from reference.measured_bundles import bundle_of, one_hot
from reference.measured_models import write_model

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, -1])
TEACHER = [0, 1, 2, 0, 1, 2, 0, 1, 0, 0]
FP32 = [0, 1, 2, 0, 1, 2, 1, 1, 2, 0]
INT8 = [0, 1, 2, 0, 2, 1, 1, 1, 2, 1]


def answers_of(candidate: list[int], labels: NDArray[np.int64] = LABELS) -> Answers:
    return Answers(teacher=one_hot(TEACHER), candidate=one_hot(candidate), labels=labels)


def test_every_step_is_against_what_the_model_was_made_from() -> None:
    steps = chain_steps({"int8": answers_of(INT8), "fp32": answers_of(FP32)}, 0.9, {"int8": "b" * 64})
    teacher, fp32, int8 = steps
    assert [step.precision for step in steps] == ["teacher", "fp32", "int8"]
    assert [step.source for step in steps] == [None, "teacher", "fp32"]
    assert [step.accuracy for step in steps] == [8 / 9, 8 / 9, 6 / 9]
    assert (teacher.loss, teacher.interval, teacher.agreement, teacher.lost_count) == (None,) * 4
    assert (fp32.lost_count, fp32.gained_count, fp32.loss) == (1, 1, 0.0)
    assert fp32.interval == drop_interval(1, 1, 9, 0.9)
    assert fp32.agreement == 8 / 10
    assert (int8.lost_count, int8.gained_count) == (2, 0)
    assert int8.loss == pytest.approx(2 / 9)
    assert int8.interval == drop_interval(2, 0, 9, 0.9)
    assert int8.agreement == 7 / 10
    assert int8.agreement_interval == wilson_interval(7, 10, 0.9)
    assert (int8.model_sha256, fp32.model_sha256) == ("b" * 64, None)


def test_the_losses_add_up_along_the_way() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 400)
    teacher = one_hot(labels.tolist())
    logits = {name: random.normal(0, 2, (400, 3)).astype(np.float32) + teacher for name in ("fp32", "int8-tensorrt")}
    steps = chain_steps(
        {name: Answers(teacher=teacher, candidate=each, labels=labels) for name, each in logits.items()}
    )
    first, last = steps[0].accuracy, steps[-1].accuracy
    assert first is not None
    assert last is not None
    assert sum(step.loss or 0.0 for step in steps) == pytest.approx(first - last)


def test_without_the_float_student_a_step_starts_at_the_teacher() -> None:
    steps = chain_steps({"int8": answers_of(INT8), "teacher": answers_of(TEACHER)})
    assert [(step.precision, step.source) for step in steps] == [("teacher", None), ("int8", "teacher")]
    assert steps[1].agreement == 5 / 10
    assert chain_steps({"teacher": answers_of(TEACHER)}) == ()


def test_without_labels_only_the_agreement_is_known() -> None:
    unknown = np.full(10, -1)
    _, fp32 = chain_steps({"fp32": answers_of(FP32, unknown)})
    assert (fp32.accuracy, fp32.loss, fp32.interval, fp32.lost_count) == (None,) * 4
    assert fp32.agreement == 8 / 10


def test_answers_to_other_images_are_refused() -> None:
    shorter = Answers(teacher=one_hot(TEACHER[:5]), candidate=one_hot(INT8[:5]), labels=LABELS[:5])
    with pytest.raises(DataError, match=r"fp32 and int8 answered other images \(10 and 5\)"):
        chain_steps({"fp32": answers_of(FP32), "int8": shorter})


def test_the_record_comes_from_one_run_over_the_files(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1, 2, 0], [0, 1, 2, 0], [0, 1, 2, 1])
    bundle = bundle.with_file("model.int8", write_model(bundle.path / "model.int8.onnx", "classes_interchanged"))
    found = validate_bundle(bundle, ValidationRequest(threads=1))
    path = write_chain(bundle, chain_record(found.reports, found.chain))
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.parent.name == "chain"
    assert path.name.endswith("-onnxruntime-cpu.json")
    assert (record["kind"], record["schema"], record["runtime"]) == ("chain", 1, "onnxruntime")
    assert [step["accuracy"] for step in record["steps"]] == [0.75, 0.75, 0.5]
    assert [step["agreement"] for step in record["steps"]] == [None, 1.0, 0.25]
    assert record["steps"][2]["model_sha256"] == bundle.model_sha256("model.int8")
