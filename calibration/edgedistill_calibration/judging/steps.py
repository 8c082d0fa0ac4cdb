"""The steps of the ledger: the teacher, the float student, and the files made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgedistill_calibration.judging.effort import TEACHER_BUDGET, affordable
from edgedistill_calibration.judging.judge import Judge
from edgedistill_calibration.judging.ledger import Figures, LedgerStep, Logits, compare_logits
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import EXPERT_FILES, model_role
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.onnx_files.content import read_arithmetic
from edgedistill_deploy.onnx_files.cost import read_cost
from edgedistill_deploy.runtimes.int8_kernels import unfused_sentence
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model

RECOVERED = "-recovered"  # ends the stage of a file of the student trained under quantisation
CHAIN = ("teacher", *EXPERT_FILES)

# {precision: the file that it should not lie far below}. An INT8 file for one runtime rounds about as much as that for
# the other, and FP16 rounds far less.
_NEIGHBOURS = {"fp16": "int8", "int8": "int8-tensorrt", "int8-tensorrt": "int8", "int8-fp16-tensorrt": "int8-tensorrt"}
_FAR_DB, _ENOUGH_DB, _FAR_SHARE = 6.0, 20.0, 0.05


def chain_steps(
    bundle: Bundle, judge: Judge, files: Mapping[str, Path], details: Mapping[str, Mapping[str, object]]
) -> list[LedgerStep]:
    """Return a step for the teacher, where the bundle has one, the float student and each of the files.

    `files` and `details` are by precision; the details are the nodes and further entries of a step.
    """
    models = {"fp32": judge.source, **files}
    teacher = teacher_answers(bundle, judge, models)
    if teacher is not None:
        models["teacher"] = bundle.file(model_role("teacher"))
    return [step_of(name, models[name], judge, teacher, details.get(name, {})) for name in CHAIN if name in models]


def teacher_answers(bundle: Bundle, judge: Judge, files: Mapping[str, Path] | None = None) -> Logits | None:
    """Return the teacher's logits (K, C) on the held-out images, or the first K for a large teacher.

    None where the bundle has no teacher. Files {precision: path} that were not judged yet run on all of the images.
    """
    judge.answers({path: name for name, path in (files or {}).items()})
    role = model_role("teacher")
    if not bundle.has(role):
        return None
    path = bundle.file(role)
    count = affordable(TEACHER_BUDGET, read_cost(path).multiply_adds, len(judge.images))
    return judge.answers({path: "teacher"}, count)[path]


def step_of(
    precision: str, path: Path, judge: Judge, teacher: Logits | None, details: Mapping[str, object]
) -> LedgerStep:
    """Return the step of one file, compared with the float student and the teacher's logits.

    `teacher` are its logits (K, C) on the first K images; its own step is about these. `details` are the nodes and
    further entries of the step.
    """
    taught = 0 if teacher is None else len(teacher)
    count = taught if precision == "teacher" else None
    answers, labels = judge.answers({judge.source: "fp32", path: precision}, count), judge.labels(count)
    figures = compare_logits(answers[judge.source], answers[path], labels)
    if precision == "teacher":  # its logits may differ much although its classes are the same
        figures = replace(figures, sqnr_db=None)
    nodes = details.get("nodes", ())
    if read_arithmetic(path).mixes_half:
        details = {**details, "judged": unfused_sentence(f"{model_role(precision)}.onnx")}
    return LedgerStep(
        stage=precision,
        model_sha256=sha256_of_file(path),
        figures=figures,
        teacher_agreement=None
        if teacher is None
        else compare_logits(teacher, answers[path][:taught], labels[:taught]).agreement,
        bytes=path.stat().st_size,
        nodes=tuple(nodes) if isinstance(nodes, list) else (),
        details={key: value for key, value in details.items() if key != "nodes"},
    )


def far_below_neighbours(steps: Sequence[LedgerStep]) -> list[str]:
    """Return a sentence for each file that lies far below its neighbour in signal to noise or in agreement."""
    found = {step.stage.removesuffix(RECOVERED): step.figures for step in steps}
    pairs = [(name, other) for name, other in _NEIGHBOURS.items() if name in found and other in found]
    return [
        f"{model_role(name)}.onnx lies far below {model_role(other)}.onnx: {_decibels(found[name])} and "
        f"{found[name].agreement:.1%} agreement with the float model, against {_decibels(found[other])} and "
        f"{found[other].agreement:.1%}. Before you deploy it, see where they part: edgedistill validate BUNDLE "
        f"--bisect --precision {name}."
        for name, other in pairs
        if _is_far_below(found[name], found[other])
    ]


def _is_far_below(figures: Figures, other: Figures) -> bool:
    decibels, wanted = (np.inf if each.sqnr_db is None else each.sqnr_db for each in (figures, other))
    noisy = decibels < _ENOUGH_DB and wanted - decibels >= _FAR_DB
    return noisy or other.agreement - figures.agreement >= _FAR_SHARE


def _decibels(figures: Figures) -> str:
    return "no noise" if figures.sqnr_db is None else f"{figures.sqnr_db:.1f} dB"


def student_note(bundle: Bundle, judge: Judge) -> str:
    """Say why the torch student has no step, and what the bundle knows of it."""
    if not bundle.has("golden"):
        return "the bundle carries no answers of the torch student"
    inputs, outputs = read_golden(bundle.file("golden"))
    with open_model(judge.source, precision="fp32") as session:
        found = compare_logits(outputs, logits_of(session, inputs), np.zeros(len(inputs), np.int64))
    noise = "without any difference" if found.sqnr_db is None else f"at {found.sqnr_db:.0f} dB"
    return (
        f"the bundle carries the torch student's logits for {len(inputs)} golden images alone, not for the held-out "
        f"ones; there the fp32 file gives {found.agreement:.0%} of its answers, {noise}"
    )
