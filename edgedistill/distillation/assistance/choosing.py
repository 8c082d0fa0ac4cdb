"""`--assistant auto`: whether an assistant helps, and which one, by short runs that are judged on validation images.

The idea is that of AMD (Han et al. 2024, arXiv 2407.04208): train candidates for the step in between a little, and keep
the one that brings the student furthest. Here no assistant is a candidate too.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill.config import TUNED, DistillConfig
from edgedistill.data.unlabelled import JudgedBy, judged_by
from edgedistill.distillation._task import fingerprint_of
from edgedistill.distillation.assistance.assistant import Begin, as_guide, teach
from edgedistill.distillation.events import TrainingProgress, Watcher, ignore
from edgedistill.distillation.lesson import Lesson
from edgedistill.distillation.objective import Matching
from edgedistill.distillation.tuning import short_config
from edgedistill.networks.cost import count_cost
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.wording import counted, join_words, percent

NONE = "none"
TRIALS = "trials.json"
# So many times the student's multiply-adds make a teacher one that a student may find hard to follow.
FAR_LARGER = 8.0
_NO_LAYERS = Matching(pairs=(), teacher_shapes={}, student_shapes={})


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantTrial:
    """A short run of the student under one candidate, after a short run of the candidate itself.

    Attributes:
        name: of the candidate; "none" is the teacher itself.
        multiply_adds: of the candidate, for one image; 0 for none.
        own_accuracy: the candidate's best on validation images, after its short run; None for none.
        validation_accuracy: the student's best; None where a run failed.
        reason: why it failed.
    """

    name: str
    multiply_adds: int = 0
    own_accuracy: float | None = None
    validation_accuracy: float | None = None
    reason: str = ""

    def describe(self) -> str:
        """Say in a few words what the student reached."""
        under = "with none" if self.name == NONE else f"under {self.name}"
        return f"{under} {'failed' if self.validation_accuracy is None else percent(self.validation_accuracy)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantChoice:
    """The chosen candidate (`none`, or a name), the trials in their order, and how they were judged.

    `epochs` is the length of a short run. `margin` is by how much an assistant had to be better than none.
    """

    chosen: str
    trials: tuple[AssistantTrial, ...]
    epochs: int
    margin: float
    image_count: int
    judged_by: JudgedBy = "labels"

    @property
    def helps(self) -> bool:
        """Whether an assistant was chosen."""
        return self.chosen != NONE

    def describe(self) -> str:
        """Say what was chosen and why."""
        measure = "validation accuracy" if self.judged_by == "labels" else "agreement with the teacher in validation"
        tried = join_words([each.describe() for each in self.trials])
        what = "no assistant" if self.chosen == NONE else f"the assistant {self.chosen}"
        return (
            f"{what} was chosen by short runs of {counted(self.epochs, 'epoch')}: {measure} of the student {tried}, on "
            f"{counted(self.image_count, 'image')}; an assistant must be better than none by more than one standard "
            f"error, {100 * self.margin:.1f} points"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record of the choice."""
        return {
            "chosen": self.chosen,
            "epochs": self.epochs,
            "margin": self.margin,
            "images": self.image_count,
            "judged_by": self.judged_by,
            "trials": [asdict(each) for each in self.trials],
        }


def choose_assistant(
    candidates: Mapping[str, Begin],
    student: Begin,
    lesson: Lesson,
    config: DistillConfig,
    folder: Path,
    progress: Watcher = ignore,
) -> AssistantChoice:
    """Choose among candidates, and none, by short runs; what the test images say plays no part.

    Args:
        candidates: by name, each making the same untrained network at every call; the smaller ones first.
        student: makes the student as it starts.
        lesson: the teachers, the subtask and the images.
        config: of the whole training; the short runs have a quarter of its epochs, as `short_config` says.
        folder: for `trials.json`. A choice that was stopped keeps its finished trials there.
        progress: sees all runs as one training, in the phase `assistant`.

    Raises:
        EdgeDistillError: the student's own short run failed, so that nothing can be compared.
    """
    short = short_config(config, 1.0 if config.lambda_layer == TUNED else float(config.lambda_layer))
    names = (NONE, *candidates)
    key = fingerprint_of(lesson, student().network, short, _NO_LAYERS)
    folder.mkdir(parents=True, exist_ok=True)
    done = _read_trials(folder, key)
    for place, name in enumerate(names):
        if name in done:
            continue
        watch = _Stretch(progress, place=2 * place, places=2 * len(names))
        done[name] = _try(name, candidates.get(name), student, lesson, short, watch)
        write_json(folder / TRIALS, {"key": key, "trials": [asdict(each) for each in done.values()]}, inside=folder)
    trials = tuple(done[name] for name in names)
    size = len(lesson.images.validation)
    chosen, margin = _choose(trials, size)
    return AssistantChoice(
        chosen=chosen,
        trials=trials,
        epochs=short.epoch_count,
        margin=margin,
        image_count=size,
        judged_by=judged_by(lesson.images.validation),
    )


def _choose(trials: Sequence[AssistantTrial], image_count: int) -> tuple[str, float]:
    """Return the choice and the margin: the best assistant where it is clearly better than none, else none.

    Of equally good assistants the earlier, which is the smaller, is taken.
    """
    none = trials[0].validation_accuracy
    if none is None:
        raise EdgeDistillError(f"The short run without an assistant failed: {trials[0].reason}")
    margin = math.sqrt(none * (1 - none) / image_count)
    sound = [each for each in trials[1:] if each.validation_accuracy is not None]
    best = max(sound, key=lambda each: each.validation_accuracy or 0.0, default=trials[0])
    is_better = (best.validation_accuracy or 0.0) > none + margin
    return best.name if is_better else NONE, margin


def _try(
    name: str, begin: Begin | None, student: Begin, lesson: Lesson, short: DistillConfig, watch: "_Stretch"
) -> AssistantTrial:
    """Train a candidate briefly, then the student under it."""
    trial = AssistantTrial(name=name)
    try:
        guide = None
        if begin is not None:
            beginner = begin()
            cost = count_cost(beginner.network, lesson.teacher.preprocess.size)
            trial = replace(trial, multiply_adds=cost.multiply_adds)
            own = teach(beginner.network, lesson, short, progress=watch)
            trial = replace(trial, own_accuracy=own.validation_accuracy)
            guide = as_guide(name, beginner, lesson)
        result = teach(student().network, lesson, short, assistant=guide, progress=watch.second())
    except EdgeDistillError as error:
        # A subclass (settings, data, libraries) would stop every other run too.
        if type(error) is not EdgeDistillError:
            raise
        return replace(trial, reason=str(error))
    return replace(trial, validation_accuracy=result.validation_accuracy)


class _Stretch:
    """Shows one of several trainings as a part of one, in the phase `assistant`."""

    def __init__(self, watch: Watcher, *, place: int, places: int) -> None:
        self._watch = watch
        self._place = place
        self._places = places

    def second(self) -> "_Stretch":
        """Return the place of the next training."""
        return _Stretch(self._watch, place=self._place + 1, places=self._places)

    def __call__(self, at: TrainingProgress) -> None:
        if at.phase == "training":
            self._watch(
                replace(
                    at, phase="assistant", epoch=self._place * at.epochs + at.epoch, epochs=self._places * at.epochs
                )
            )


def _read_trials(folder: Path, key: str) -> dict[str, AssistantTrial]:
    """Return the finished trials of this choice, by name."""
    try:
        record = json.loads((folder / TRIALS).read_text(encoding="utf-8"))
        found = [AssistantTrial(**each) for each in record["trials"]] if record["key"] == key else []
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {each.name: each for each in found}
