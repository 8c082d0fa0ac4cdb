"""A model with the output `in_domain`: what a parity record says of it, counted anew from the images."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity.check import check_parity
from edgedistill_deploy.runtimes.logits import raw_answers
from edgedistill_deploy.runtimes.opening import open_session
from reference.measured_bundles import bundle_of
from reference.measured_models import images_of, logits_of_images

LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 2, -1]
PREDICTED = [0, 1, 2, 1, 2, 2, 0, 1, 0, 0]


def with_decisions(bundle: Bundle, threshold: float, keepdims: int = 0) -> Bundle:
    """Give the bundle's model the output in_domain: is the largest logit at or above the threshold?"""
    path = bundle.path / "model.fp32.onnx"
    model = onnx.load(path)
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["logits"], ["largest"], axes=[1], keepdims=keepdims),
            helper.make_node("GreaterOrEqual", ["largest", "least"], ["in_domain"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(threshold, np.float32), "least"))
    shape = ["M"] + [1] * keepdims
    model.graph.output.append(helper.make_tensor_value_info("in_domain", TensorProto.BOOL, shape))
    onnx.save(model, path)
    return bundle.with_file("model.fp32", path)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Bundle, ImageSet]:
    return bundle_of(tmp_path, PREDICTED, [*LABELS[:-1], 0], LABELS)


def record(bundle: Bundle, images: ImageSet | None = None, batch_size: int = 64) -> dict[str, Any]:
    with open_session(bundle) as session:
        return check_parity(bundle, session, images, batch_size=batch_size).to_json()


def test_the_record_counts_what_is_accepted_and_how_much_of_it_is_right(made: tuple[Bundle, ImageSet]) -> None:
    largest = logits_of_images(images_of(PREDICTED)).max(axis=1)
    threshold = float(np.median(largest))
    accepted = largest >= threshold
    right = [PREDICTED[row] == LABELS[row] for row in np.flatnonzero(accepted) if LABELS[row] >= 0]
    found = record(with_decisions(made[0], threshold), batch_size=3)
    assert found["in_domain"] == {"accepted": accepted.mean(), "accepted_accuracy": np.mean(right)}
    assert 0 < accepted.mean() < 1


def test_nothing_accepted_has_no_accuracy(made: tuple[Bundle, ImageSet]) -> None:
    assert record(with_decisions(made[0], 1e9))["in_domain"] == {"accepted": 0, "accepted_accuracy": None}


def test_a_second_output_changes_nothing_else(made: tuple[Bundle, ImageSet]) -> None:
    plain = record(made[0])
    assert plain["in_domain"] is None
    both = record(with_decisions(made[0], 4.0))
    changed = {name for name in plain if plain[name] != both[name]}
    assert changed == {"in_domain", "model_sha256", "placement"}  # more nodes


def test_decisions_of_another_shape_are_refused(made: tuple[Bundle, ImageSet]) -> None:
    with (
        open_session(with_decisions(made[0], 4.0, keepdims=1)) as session,
        pytest.raises(BundleError, match=r"gives in_domain of shape \(2, 1\) for 2 images"),
    ):
        raw_answers(session, images_of([0, 1]))
