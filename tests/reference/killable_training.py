"""Trainings that are killed with SIGKILL at chosen moments, and taken up again in the same folder until one ends.

`main` loads everything once and then trains in forked children: a kill costs a fork, not another start of Python. It
wants a process that has used no threads of torch. Its plan is a JSON file {"settings": {...}, "runs": {NAME: [MOMENT,
...]}}; what each run ended with goes to FOLDER/NAME.json.

A moment is one of

- ["progress", PHASE, EPOCH, STEP]: the training loop reports this;
- ["report", COUNT]: the training reports progress for the COUNT-th time, whatever it is at;
- ["event", NAME, TEXT, COUNT]: the interpreter is about to do something to a file, for the COUNT-th time: NAME is that
  of an audit event (https://docs.python.org/3/library/audit_events.html), TEXT the end of a path, or a part of one with
  a star;
- ["after", SHARE]: that share has passed of the time that the run takes which nobody kills.
"""

import functools
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.events import TrainingProgress
from edgedistill.distillation.subdistill import distill
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher, load_teacher
from reference.company_training import CLASSES, digest, few_images

Moment = Sequence[Any]


def kill_self() -> None:
    """End this process as the kernel ends it when memory runs out: at once, with nothing written."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: Moment | None) -> Callable[[TrainingProgress], None]:
    """Have this process kill itself at a moment; return the callback that the training is to be given."""
    if moment is not None and moment[0] == "event":
        _arm_event(moment[1], moment[2], moment[3])
    wanted = list(moment) if moment is not None else []
    count = 0

    def watch(at: TrainingProgress) -> None:
        nonlocal count
        count += 1
        if wanted in (["progress", at.phase, at.epoch, at.step], ["report", count]):
            kill_self()

    return watch


def _arm_event(wanted: str, text: str, count: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == wanted and any(_fits(str(each), text) for each in arguments[:2]):
            seen += 1
            if seen == count:
                kill_self()

    sys.addaudithook(hook)


def _fits(path: str, text: str) -> bool:
    return text.strip("*") in path if "*" in text else path.endswith(text)


def train(
    teacher: Teacher, images: SubtaskImages, folder: Path, settings: dict[str, Any], moment: Moment | None
) -> None:
    """Train in `folder` and leave `result.json` there."""
    result = distill(
        teacher,
        build_student("plain:8-8", len(CLASSES)),
        teacher.subtask(CLASSES),
        images,
        DistillConfig(**settings),
        folder=folder,
        progress=arm(moment),
    )
    record = {
        "student": digest(result.student),
        "best": [result.best_epoch, result.validation_accuracy, result.teacher_validation_accuracy],
        "history": [{**asdict(epoch), "seconds": 0.0} for epoch in result.history],
        "lambda": result.lambda_choice.to_json() if result.lambda_choice else None,
    }
    state = torch.load(folder / "checkpoint" / "state.pt", weights_only=True)
    record["state"] = digest_of({name: state[name] for name in ("objective", "optimizer", "average")})
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")


def digest_of(state: Any) -> str:
    """Return a hash of nested values and tensors, to the last bit."""
    if isinstance(state, torch.Tensor):
        content = f"{state.dtype} {tuple(state.shape)} ".encode() + state.numpy().tobytes()
    elif isinstance(state, dict):
        content = repr([(key, digest_of(value)) for key, value in state.items()]).encode()
    elif isinstance(state, (list, tuple)):
        content = repr([digest_of(each) for each in state]).encode()
    else:
        content = repr(state).encode()
    return hashlib.sha256(content).hexdigest()


def in_a_child(work: Callable[[], None], seconds: float | None) -> int:
    """Do something in a forked child, killed after so many seconds; return minus the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  # the child must not go on in its parent's code, whatever happens
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(source: str, folder: Path, plan: Path) -> None:
    """Carry out every run of the plan, and one that nobody kills."""
    torch.set_num_threads(1)
    wanted = json.loads(plan.read_text(encoding="utf-8"))
    teacher = load_teacher("embedded:glyphs100")
    images = few_images(source)
    whole_seconds = 0.0
    for name, moments in {"whole": [], **wanted["runs"]}.items():
        started = time.monotonic()
        codes = []
        for moment in [*moments, None]:
            delay = moment[1] * whole_seconds if moment is not None and moment[0] == "after" else None
            work = functools.partial(train, teacher, images, folder / name, wanted["settings"], moment)
            codes.append(in_a_child(work, delay))
        whole_seconds = whole_seconds or time.monotonic() - started
        record = json.loads((folder / name / "result.json").read_text(encoding="utf-8"))
        (folder / f"{name}.json").write_text(json.dumps({**record, "codes": codes}), encoding="utf-8")
