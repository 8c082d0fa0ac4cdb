"""The assistant of a run: chosen by short runs where the settings say so, trained, and kept in `distill/assistant`."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from edgedistill_cli.runs._learning import show_training
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.runs.inputs import Inputs, begin_run_student, find_run_start
from edgedistill_cli.settings import AUTO_ASSISTANT, StudentSettings
from edgedistill_deploy.errors import UsageError

if TYPE_CHECKING:
    from edgedistill.distillation.assistance.assistant import Assistant, Beginner, Pixels
    from edgedistill.distillation.assistance.choosing import AssistantChoice
    from edgedistill.distillation.lesson import Lesson

FOLDER = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistance:
    """Who teaches the student: an assistant, or the teacher itself (None), and the record of why."""

    assistant: "Assistant | None"
    record: Mapping[str, Any]


def refuse_helpers() -> None:
    """Raise UsageError where a launcher started several processes: an assistant is trained in one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--assistant trains in one process; leave out the launcher, or the assistant.")


def find_assistance(run: Run, given: Inputs, lesson: "Lesson") -> Assistance | None:
    """Choose the assistant that the settings ask for, and train it; None where they ask for none.

    What is finished is read from the run folder, and what was stopped goes on there.
    """
    asked = run.settings.student.assistant
    if asked is None:
        return None
    choice, sentence = None, f"the assistant {asked} was asked for"
    if asked == AUTO_ASSISTANT:
        choice, sentence = _choose(run, given, lesson)
    name = asked if asked != AUTO_ASSISTANT else choice.chosen if choice is not None and choice.helps else None
    run.console.say(f"assistant: {sentence}")
    assistant = None if name is None else _train(run, given, lesson, name)
    if assistant is not None and assistant.training["at_chance"]:
        sentence += ", learnt nothing, and does not teach: the student learns from the teacher"
        run.console.say(f"note: {sentence}")
        assistant = None
    record = {
        "asked": asked,
        "chosen": None if assistant is None else assistant.name,
        "sentence": sentence,
        "choice": None if choice is None else choice.to_json(),
        **({} if assistant is None else assistant.to_json()),
    }
    return Assistance(assistant=assistant, record=record)


def _choose(run: Run, given: Inputs, lesson: "Lesson") -> "tuple[AssistantChoice | None, str]":
    """Choose among sizes in between by short runs; without any, or where none is needed, say why."""
    from edgedistill.distillation.assistance.choosing import FAR_LARGER, choose_assistant
    from edgedistill.networks.cost import count_cost
    from edgedistill.planning.between import candidates_between
    from edgedistill.planning.candidates import Candidate

    own, size = run.settings.student, given.teacher.preprocess.size
    cost, theirs = (
        count_cost(each, size).multiply_adds for each in (_begin(run, given, own).network, given.teacher.model)
    )
    if theirs < FAR_LARGER * cost:
        return None, (
            f"no assistant: the teacher has {theirs / cost:.1f} times the student's multiply-adds, and one is tried "
            f"from {FAR_LARGER:g} times on"
        )
    found = candidates_between(
        Candidate(name=own.name, width=own.width),
        lambda each: _begin(run, given, replace(own.as_assistant(str(each)), weights="none")).network,
        size,
        cost,
        theirs,
    )
    if not found:
        return None, "no assistant: no student of a size in between is at hand; name one with --assistant NAME"
    with run.console.progress("choose the assistant") as report:
        choice = choose_assistant(
            {str(each): functools.partial(_begin, run, given, own.as_assistant(str(each))) for each in found},
            functools.partial(_begin, run, given, own),
            lesson,
            run.settings.distill,
            run.folder / "distill" / FOLDER,
            progress=show_training(report),
        )
    return choice, choice.describe()


def _train(run: Run, given: Inputs, lesson: "Lesson", name: str) -> "Assistant":
    from edgedistill.distillation.assistance.assistant import train_assistant

    with run.console.progress("train the assistant") as report:
        assistant = train_assistant(
            name,
            _begin(run, given, run.settings.student.as_assistant(name)),
            lesson,
            run.settings.distill,
            run.folder / "distill" / FOLDER,
            progress=show_training(report),
        )
    run.console.say(
        f"assistant: {name}, {assistant.cost.parameters / 1e6:.2f} M parameters, "
        f"{assistant.cost.multiply_adds / 1e6:.1f} M multiply-adds, {assistant.training['validation_accuracy']:.2%} in "
        f"validation (epoch {assistant.training['best_epoch'] + 1})"
    )
    return assistant


def _begin(run: Run, given: Inputs, student: StudentSettings) -> "Beginner":
    """Build a network as it starts, from the settings of a student."""
    from edgedistill.distillation.assistance.assistant import Beginner

    alone = replace(run, settings=replace(run.settings, student=student))
    network, started = begin_run_student(alone, given, find_run_start(alone))
    mean, std = (started.mean, started.std) if started.mean else (given.teacher.mean, given.teacher.std)
    return Beginner(network=network, mean=cast("Pixels", mean), std=cast("Pixels", std))
