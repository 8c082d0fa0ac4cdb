"""The steps of the ledger: the teacher, the float student, and what was made of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgedistill_calibration.judging import Judge, Logits
from edgedistill_calibration.ledger import LedgerStep, compare_logits
from edgedistill_deploy.bundle import Bundle, model_role
from edgedistill_deploy.reference import read_golden
from edgedistill_deploy.session import logits_of, open_model

CHAIN = ("teacher", "fp32", "fp16", "int8", "int8-tensorrt", "int8-fp16-tensorrt")


def chain_steps(
    bundle: Bundle, judge: Judge, files: Mapping[str, Path], details: Mapping[str, Mapping[str, object]]
) -> list[LedgerStep]:
    """Return a step for the teacher, where the bundle has one, the float student and each of the files.

    Args:
        bundle: has the files under their roles already.
        judge: compares with the float student on the held-out images.
        files: by precision, those that `judge` was asked about, or is asked now.
        details: by precision, the nodes and what else the ledger has of a step.
    """
    models = {"fp32": judge.source, **files}
    if bundle.has(model_role("teacher")):
        models["teacher"] = bundle.file(model_role("teacher"))
    order = [name for name in CHAIN if name in models]
    logits = judge.answers({models[name]: name for name in order})
    answers = {name: logits[models[name]] for name in order}
    return [_step(bundle, name, answers, judge, details.get(name, {})) for name in order]


def _step(
    bundle: Bundle, name: str, answers: Mapping[str, Logits], judge: Judge, details: Mapping[str, object]
) -> LedgerStep:
    role = model_role(name)
    nodes = details.get("nodes", ())
    figures = compare_logits(answers["fp32"], answers[name], judge.images.labels)
    if name == "teacher":  # its logits need not be near the student's to decide alike
        figures = replace(figures, sqnr_db=None)
    return LedgerStep(
        stage=name,
        model_sha256=bundle.model_sha256(role),
        figures=figures,
        teacher_agreement=teacher_agreement(answers.get("teacher"), answers[name]),
        bytes=bundle.file(role).stat().st_size,
        nodes=tuple(nodes) if isinstance(nodes, list) else (),
        details={key: value for key, value in details.items() if key != "nodes"},
    )


def teacher_agreement(teacher: Logits | None, answers: Logits) -> float | None:
    """Return the share of images to which both give the same answer; None without a teacher."""
    return None if teacher is None else float(np.mean(teacher.argmax(axis=1) == answers.argmax(axis=1)))


def student_note(bundle: Bundle, judge: Judge) -> str:
    """Say why the torch student has no step, and what the bundle knows of it instead."""
    if not bundle.has("golden"):
        return "the bundle carries no answers of the torch student"
    inputs, outputs = read_golden(bundle.file("golden"))
    with open_model(judge.source, precision="fp32") as session:
        found = compare_logits(outputs, logits_of(session, inputs), np.zeros(len(inputs), np.int64))
    noise = "without any difference" if found.sqnr_db is None else f"at {found.sqnr_db:.0f} dB"
    return (
        f"the bundle carries the torch student's logits for {len(inputs)} golden images alone, not for the held-out ones;"
        f" there the fp32 file gives {found.agreement:.0%} of its answers, {noise}"
    )
