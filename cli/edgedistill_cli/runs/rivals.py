"""The expert beside its rivals, so that a user sees whether SubDistill was worth it.

What the student answers as it starts is kept before the training, because it costs nothing. Rivals that learn from
labels or from logits alone are trained when they are asked for. All are kept in `rivals/` of the run folder.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgedistill.comparison.methods import AS_IS, LABELS, LOGITS
from edgedistill_cli.console import Console
from edgedistill_cli.runs._learning import show_training
from edgedistill_cli.runs.folder import RIVALS, Run
from edgedistill_cli.runs.inputs import (
    Inputs,
    begin_run_student,
    build_run_student,
    find_run_start,
    open_lesson,
    read_run_student,
)
from edgedistill_deploy import wording as words
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.files.writing import write_json

if TYPE_CHECKING:
    from edgedistill.models.start import StartRecord
    from edgedistill.models.student import Student

TRAINED = (LABELS, LOGITS)
Record = dict[str, Any]


def refuse_helpers() -> None:
    """Raise UsageError where a launcher started several processes: a rival is trained in one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "--rivals trains in one process; train the expert with the launcher first, then run the same `edgedistill "
            "build` with --rivals without it."
        )


def keep_beginning(run: Run, given: Inputs, student: "Student", started: "StartRecord") -> None:
    """Test the student as it starts, where its trained head has all classes, and keep the result."""
    if not started.find_headless():
        _write(run, given, AS_IS, {"name": AS_IS, **_test(given, student)})


def measure_rivals(run: Run, inputs: Callable[[], Inputs], *, train: bool) -> None:
    """Compare the trained student with the rivals that are there, and with `train` train those that are not.

    Nothing is done, and nothing loaded, where the manifest has it all.
    """
    kept = {name: record for name in (AS_IS, *TRAINED) if (record := _read(run, name)) is not None}
    known = run.bundle.manifest.get("rivals") or {}
    is_known = known.get("student_sha256") == _student_hash(run)
    left_out = known.get("left_out", ()) if is_known else ()
    due = [name for name in TRAINED if train and name not in kept and name not in left_out]
    if not kept and not due:
        return
    if not (is_known and {row["name"] for row in known.get("rows", ())} == set(kept)) or due:
        given = inputs()
        possible = _possible(run, given, due)
        kept |= {name: _train(run, given, name) for name in possible}
        left_out = [*left_out, *(name for name in due if name not in possible)]
        known = {**_compare(run, given, list(kept.values())), "left_out": left_out}
        run.bundle.with_fields(rivals=known)
    show_rivals(known, run.console)


def read_trained_rival(run: Run, given: Inputs, name: str) -> "Student | None":
    """Return a trained rival with the weights of its best epoch; None where none of these settings is kept."""
    from edgedistill.distillation.subdistill import read_trained
    from edgedistill.models.start import mark_started

    if _read(run, name) is None:
        return None
    student = build_run_student(run, given)
    mark_started(student, run.bundle.manifest.get("student_start", {}))
    return read_trained(student, run.folder / RIVALS / name)


def worth_sentence(run: Run) -> str:
    """Return the sentence on whether SubDistill was worth it; empty where no rival was measured."""
    return str((run.bundle.manifest.get("rivals") or {}).get("sentence", ""))


def show_rivals(record: Record, console: Console) -> None:
    """Print a line for the expert and for each rival, then whether SubDistill was worth it."""
    of = "images agree with the teacher" if record.get("judged_by") == "teacher" else "images"
    console.say(f"rivals: SubDistill {words.percent(record['expert']['accuracy'])} of {record['images']} {of}")
    for row in record["rows"]:
        found = row["difference"]
        low, high = (words.signed_points(each) for each in found["interval"])
        console.say(
            f"rivals: {row['name']} {words.percent(row['accuracy'])}; SubDistill is {found['verdict']}, "
            f"{words.signed_points(found['mean'])} points ({low} to {high})"
        )
    console.say(f"rivals: {record['sentence']}")


def _train(run: Run, given: Inputs, name: str) -> Record:
    from edgedistill.comparison.rivals.training import train_rival

    student, _ = begin_run_student(run, given, find_run_start(run))
    lesson = open_lesson(run, given)
    with run.console.progress(f"rival {name}") as report:
        watch = show_training(report)
        record = train_rival(name, student, lesson, run.settings.distill, run.folder / RIVALS / name, progress=watch)
    _write(run, given, name, record)
    return record


def _compare(run: Run, given: Inputs, rivals: list[Record]) -> Record:
    from edgedistill.comparison.rivals.record import rivals_record
    from edgedistill.data.unlabelled import judged_by

    expert = _test(given, read_run_student(run, given))
    tested = "test" if given.images.test is not None else "validation"
    record = rivals_record(expert, rivals, confidence=run.settings.validate.confidence, tested=tested)
    return {"student_sha256": _student_hash(run), "judged_by": judged_by(given.images.evaluation), **record}


def _possible(run: Run, given: Inputs, names: list[str]) -> list[str]:
    """Return the rivals that can be trained: labels alone teach nothing where no training image has one."""
    from edgedistill.data.unlabelled import labelled_rows

    if LABELS not in names or len(labelled_rows(given.images.train)):
        return names
    run.console.say(f"note: the rival {LABELS!r} is left out, because no training image has a label")
    return [name for name in names if name != LABELS]


def _test(given: Inputs, student: "Student") -> Record:
    from edgedistill.comparison.testing import measure_answers
    from edgedistill.distillation.training import true_classes

    tested = given.images.evaluation
    return measure_answers(student, given.teacher, tested, true_classes(given.teacher, given.subtask, tested))


def _student_hash(run: Run) -> str:
    return str(run.bundle.manifest["files"]["student"]["sha256"])


def _write(run: Run, given: Inputs, name: str, record: Record) -> None:
    """Keep a rival; what it reached is called agreement where no label says what is right."""
    from edgedistill.data.unlabelled import judged_by

    judge = judged_by(given.images.evaluation)
    told = {("test_agreement" if key == "test_accuracy" and judge == "teacher" else key): record[key] for key in record}
    described = {"kind": "rival", "schema": 1, "key": run.key("distill"), "judged_by": judge, **told}
    write_json(run.folder / RIVALS / f"{name}.json", described, inside=run.folder)


def _read(run: Run, name: str) -> Record | None:
    """Return a rival of these settings; None where there is none that can be used."""
    from edgedistill.comparison.rivals.record import read_correct

    try:
        record: Record = read_json(run.folder / RIVALS / f"{name}.json")
        made_for_these = (record["name"], record["key"]) == (name, run.key("distill"))
        return {**record, "test_accuracy": float(read_correct(record).mean())} if made_for_these else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
