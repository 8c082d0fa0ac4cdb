"""Says when a student learns nothing, and stops a run before its other stages are wasted on such a student."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgedistill_cli.exit_codes import StudentAtChanceError
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.runs.inputs import show_training
from edgedistill_deploy.progress import Progress

if TYPE_CHECKING:
    from edgedistill.distillation.events import TrainingProgress


def watch_training(run: Run, image_count: int, report: Progress) -> "Callable[[TrainingProgress], None]":
    """Return a watcher that shows the training, and notes that the student has learnt little so far."""

    def watch(at: "TrainingProgress") -> None:
        if at.standing is not None:
            run.console.say(f"note: {at.standing.sentence(run.settings.distill, image_count)}")
        show_training(report, at)

    return watch


def judge_learning(run: Run, *, keep_going: bool) -> None:
    """Note what is wrong with the trained student, as its record says.

    Raises:
        StudentAtChanceError: it is not better than chance after three epochs or more, and `keep_going` is off.
    """
    standing = run.bundle.manifest.get("distillation", {}).get("standing") or {}
    sentence = standing.get("sentence", "")
    if standing.get("stops_a_build") and not keep_going:
        raise StudentAtChanceError(
            f"The student learnt nothing: {sentence} With other settings, train in another folder (--out) or with "
            f"--restart. What is finished is kept; to go on with this student, without training again: edgedistill "
            f"build --config {run.folder / 'settings.toml'} --out {run.folder} --keep-going"
        )
    if sentence:
        run.console.say(f"note: {sentence}")
