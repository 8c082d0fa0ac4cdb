"""Measure how INT8 will affect the student, and, with `--recover N`, distil it further as it computes in INT8."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.runs._learning import show_training
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.runs.inputs import Inputs, read_run_student
from edgedistill_deploy.bundle.precisions import INT8_FILES
from edgedistill_deploy.errors import EdgeDistillError

if TYPE_CHECKING:
    from edgedistill.models.student import Student


def say_readiness(run: Run, given: Inputs, student: "Student") -> None:
    """Measure how INT8 will affect the student; print a sentence, and write the record into the manifest."""
    from edgedistill.quantisation.readiness import readiness

    found = readiness(student, given.teacher, given.images.train, seed=run.settings.calibrate.seed)
    run.bundle.with_fields(readiness=found.to_json())
    run.console.say(f"export: {found.sentence()}")


def recover_run(run: Run, given: Inputs) -> None:
    """Train under quantisation for the epochs in the settings, quantise anew, and keep the better INT8 files.

    Raises:
        EdgeDistillError: this is one of several training processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise EdgeDistillError(
            f"Recovery trains in one process; run `edgedistill calibrate {run.folder} --recover"
            f" {run.settings.calibrate.recover}` without the launcher."
        )
    from edgedistill.distillation.lesson import Lesson
    from edgedistill.quantisation.recovery import RecoverySettings, export_recovered, recover
    from edgedistill_calibration.recovered import calibrate_recovered

    student = read_run_student(run, given)
    with run.console.progress("recover") as report:
        outcome = recover(
            run.bundle,
            student,
            Lesson(teacher=given.teacher, subtask=given.subtask, images=given.images),
            RecoverySettings(distilled=run.settings.distill, epochs=run.settings.calibrate.recover),
            run.folder / "distill",
            progress=show_training(report),
        )
    bundle = run.bundle.with_file("recovered", outcome.path).with_fields(recovery=outcome.to_json())
    for sentence in outcome.sentences():
        run.console.say(f"recover: {sentence}")
    with run.console.progress("calibrate the recovered student") as report, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recovered.fp32.onnx"
        export_recovered(outcome, given.teacher, bundle, path)
        bundle = calibrate_recovered(bundle, path, given.images.train, run.settings.calibrate, progress=report)
    for precision in INT8_FILES:
        kept = bundle.manifest["calibration"]["recovery"]["kept"]
        winner = "recovered" if precision in kept else "calibrated"
        run.console.say(f"calibrate: model.{precision}.onnx: the INT8 of the {winner} student is kept")
