"""Shows a training, says when a student learns nothing, and stops a run before its other stages are wasted on it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgedistill_cli.exit_codes import StudentAtChanceError
from edgedistill_cli.runs.folder import Run
from edgedistill_deploy.progress import Phases, Progress

if TYPE_CHECKING:
    from edgedistill.distillation.events import TrainingProgress, Watcher

# How the phases of a training are called.
_NAMES = {
    "subspaces": "subspaces",
    "teacher-cache": "teacher's answers",
    "tuning": "choosing lambda_layer",
    "training": "training",
    "assistant": "choosing the assistant",
}
_IN_ONE_PASS = ("subspaces", "teacher-cache")


def watch_training(run: Run, image_count: int, report: Progress) -> "Watcher":
    """Return a watcher that shows the training, and notes that the student has learnt little so far."""
    show = show_training(report)

    def watch(at: "TrainingProgress") -> None:
        if at.standing is not None:
            run.console.say(f"note: {at.standing.sentence(run.settings.distill, image_count)}")
        show(at)

    return watch


def show_training(report: Progress) -> "Watcher":
    """Return a watcher that reports a training as one piece of work, each phase by its name and its share of the time.

    What has no shares, such as the short runs that choose an assistant, is one phase.
    """
    phases: list[Phases] = []
    begun: dict[str, Progress] = {}

    def watch(at: "TrainingProgress") -> None:
        if at.phase not in _NAMES:  # validation, which belongs to its epoch, or a note
            return
        if not phases:
            shares = at.shares if at.phase in at.shares else {at.phase: 1.0}
            phases.append(Phases(report, {_NAMES[phase]: share for phase, share in shares.items()}))
        if at.phase not in begun:
            begun[at.phase] = phases[0].begin(_NAMES[at.phase])
        if at.phase in _IN_ONE_PASS:
            done, total = at.step, at.steps
        else:
            done, total = at.epoch * at.steps + at.step, at.epochs * at.steps
        begun[at.phase](done, total, ", ".join(_describe(at)))

    return watch


def _describe(at: "TrainingProgress") -> Iterator[str]:
    if at.phase == "teacher-cache":
        yield f"{at.cache_bytes / 1e6:.1f} MB"
    if at.phase != "training":
        return
    yield f"epoch {at.epoch + 1}/{at.epochs}"
    if at.terms:
        layers = sum(value for name, value in at.terms.items() if name.startswith("layer:"))
        yield f"loss kd {at.terms.get('kd', 0.0):.3f} layers {layers:.3f}"
    if at.last is not None:
        measure = "validation" if at.judged_by == "labels" else "agreement"
        yield f"{measure} {at.last.validation_accuracy:.1%}"


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
