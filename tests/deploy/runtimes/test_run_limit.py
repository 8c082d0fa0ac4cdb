"""A run that takes too long is stopped in ONNX Runtime itself, and the session stays usable."""

import threading
from pathlib import Path

import numpy as np
import pytest

from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.runtimes.opening import open_model
from reference.measured_models import images_of, logits_of_images, write_model
from reference.slow_models import write_slow_model

_IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


def test_a_slow_run_is_stopped_and_the_sentence_names_the_flag(tmp_path: Path) -> None:
    path = write_slow_model(tmp_path / "slow.onnx")
    with open_model(path, precision="fp32", threads=1, limit_s=0.2) as session:
        for _ in range(2):  # the limit holds for each run anew
            with pytest.raises(
                EdgeDistillError,
                match=r"slow\.onnx was stopped: one inference of 2 images took longer than 0\.2 s on cpu.*--limit-s",
            ):
                session.run({"image": _IMAGES})


def test_runs_within_the_limit_give_the_same_answers_and_leave_no_thread(tmp_path: Path) -> None:
    path, images, before = write_model(tmp_path / "m.onnx"), images_of([0, 1, 2]), threading.active_count()
    for limit_s in (30.0, None):
        with open_model(path, precision="fp32", threads=1, limit_s=limit_s) as session:
            for _ in range(3):
                np.testing.assert_allclose(
                    session.run({"image": images})["logits"], logits_of_images(images), atol=1e-4
                )
            watching = [each for each in threading.enumerate() if "_watch" in each.name]
            assert len(watching) == (0 if limit_s is None else 1)
        for thread in watching:
            thread.join(timeout=60)
    assert threading.active_count() == before


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_is_no_time_is_refused(tmp_path: Path, limit_s: float) -> None:
    with pytest.raises(UsageError, match="must be above 0, such as --limit-s 60"):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", limit_s=limit_s)
