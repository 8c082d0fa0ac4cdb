"""A training step queues its work on the GPU and waits for nothing, so that the GPU is never idle between steps."""

import warnings

import pytest
import torch

from edgedistill.distillation.events import TrainingProgress
from edgedistill_deploy.errors import EdgeDistillError
from reference.gpu_training import Train

# What libraries say about the machine is no fault of the training.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


def forbid_waiting(forbidden: bool) -> None:
    """Let torch raise an error wherever the host waits for the GPU, or not."""
    if torch.cuda.is_available():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls this mode a prototype
            torch.cuda.set_sync_debug_mode("error" if forbidden else "default")


class StrictSteps:
    """Forbids waiting from the first step of every epoch to its last; counts the steps in between."""

    def __init__(self) -> None:
        self.watched = 0

    def __call__(self, at: TrainingProgress) -> None:
        if at.phase == "training":
            self.watched += at.step > 1
            forbid_waiting(at.step < at.steps)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="float32"),
        pytest.param({"mixed_precision": "auto", "channels_last": "auto", "ema": 0.9}, id="defaults-and-average"),
        pytest.param({"teacher_cache": "2", "augment": "crop"}, id="teacher-cached"),
        pytest.param({"lambda_task": 0.5, "mixup": 0.2}, id="labels-and-mixtures"),
    ],
)
def test_a_step_waits_for_nothing(gpu: torch.device, train: Train, settings: dict[str, object]) -> None:
    """There are ten steps, so the rotation is refreshed in the ninth."""
    steps = StrictSteps()
    try:
        result = train(gpu.type, steps, epochs=2, batch_size=16, **settings)
    finally:
        forbid_waiting(False)
    assert steps.watched == 8
    assert len(result.history) == 2


def test_a_loss_that_is_no_number_is_still_named(gpu: torch.device, train: Train) -> None:
    """The losses come late, and an earlier one than that of the last step is wrong."""
    with pytest.raises(EdgeDistillError, match=r"Training stopped: the loss of .* is no longer a finite number"):
        train(gpu.type, epochs=2, batch_size=16, learning_rate=1e30, schedule="constant", gradient_clip=0.0)
