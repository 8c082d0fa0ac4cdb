"""The six stages, which work on a run folder. Each imports its heavy libraries when it starts."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli import STAGES
from edgedistill_cli.bundles.recording import say_model_card
from edgedistill_cli.console import Console
from edgedistill_cli.runs._learning import judge_learning, watch_training
from edgedistill_cli.runs.assistance import Assistance, find_assistance
from edgedistill_cli.runs.folder import KNOWN_LOOKS, Run
from edgedistill_cli.runs.further.any_size import renew_any_size
from edgedistill_cli.runs.inputs import (
    Inputs,
    begin_run_student,
    check_teacher,
    find_run_start,
    keep_shrunk,
    load_and_list_inputs,
    load_inputs,
    open_lesson,
    read_run_student,
)
from edgedistill_cli.runs.libraries import require_stage
from edgedistill_cli.runs.rivals import keep_beginning, measure_rivals
from edgedistill_cli.settings import RunSettings
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.hardware.memory import begin_memory_peak, read_peak_memory_bytes
from edgedistill_deploy.progress import Progress, noted, silent
from edgedistill_deploy.wording import counted, size

if TYPE_CHECKING:
    from edgedistill.distillation.lesson import Lesson
    from edgedistill.distillation.subdistill import DistillResult
    from edgedistill.models.student import Student
    from edgedistill.models.teacher import Teacher
    from edgedistill.rejection.rejector import Rejection


def run_stages(
    run: Run, stages: tuple[str, ...] = STAGES, *, anew: bool = False, keep_going: bool = False, rivals: bool = False
) -> None:
    """Run the stages that are due, in order; `anew` runs completed ones too, and `rivals` trains rivals too.

    Raises StudentAtChanceError after the training of a student at chance, unless `keep_going`.
    """
    for stage in stages:
        if anew or not run.is_complete(stage):
            require_stage(stage, run.settings)
    inputs = functools.cache(functools.partial(load_and_list_inputs, run))
    for stage in stages:
        if not anew and run.is_complete(stage):
            run.console.say(f"{stage}: done before, kept")
        else:
            _run_stage(run, stage, inputs)
        if stage == "distill":
            judge_learning(run, keep_going=keep_going)
            measure_rivals(run, inputs, train=rivals)


def _run_stage(run: Run, stage: str, inputs: Callable[[], Inputs]) -> None:
    begin_memory_peak()
    started = time.monotonic()
    _WORK[stage](run, inputs)
    seconds, peak = time.monotonic() - started, read_peak_memory_bytes()
    run.record(stage, seconds, peak)
    run.console.detail(f"{stage}: {seconds:.1f} s, at most {size(peak)} of memory in this process")


def _distill(run: Run, inputs: Callable[[], Inputs]) -> None:
    from edgedistill.distillation.lesson import for_student
    from edgedistill.distillation.record import distillation_record
    from edgedistill.export.bundle import begin_bundle
    from edgedistill.models.student import write_student

    start = find_run_start(run)  # first: without a network it stops here, and the teacher and the images take long
    given = inputs()
    seen = check_teacher(given, run.console)
    student, started = begin_run_student(run, given, start)
    for sentence in (*started.notes, started.sentence()):
        run.console.say(f"distill: {sentence}")
    bundle = begin_bundle(student, given.teacher, given.subtask, run.folder, run.settings.student.name)
    bundle = bundle.with_fields(student_start=started.to_json())
    keep_shrunk(run, student)
    _say_cost(run, bundle)
    chosen = for_student(run.settings.distill, student)
    run.console.say(f"distill: {counted(chosen.epoch_count, 'epoch')}, learning rate {chosen.peak_rate:g}")
    keep_beginning(run, given, student, started)
    lesson = open_lesson(run, given)
    for each in lesson.beside:
        check_teacher(replace(given, teacher=each.teacher, subtask=each.subtask), run.console)
    assistance = find_assistance(run, given, lesson)
    with run.console.progress("distill") as report:
        result = _train(run, lesson, student, report, assistance)
    weights, subspaces = (run.folder / "distill" / f"{name}.safetensors" for name in ("student", "subspaces"))
    write_student(result.student, weights, run.folder)
    bundle = bundle.with_file("student", weights)
    if subspaces.is_file():
        bundle = bundle.with_file("subspaces", subspaces)
    if result.lambda_choice is not None:
        run.console.say(f"distill: {result.lambda_choice.describe()}")
    told = replace(given.images, notes=(*given.images.notes, *seen))
    record = distillation_record(
        result,
        told,
        run.settings.distill,
        beside=lesson.beside,
        assistant=None if assistance is None else assistance.record,
    )
    source = run.settings.data.source or run.settings.data.unlabelled or ""
    bundle.with_fields(distillation=record, data={"source": _name_source(source)})
    run.console.say(f"distill: {_describe_result(result, len(given.images.validation))}")


def _name_source(source: str) -> str:
    """Return a source without the folders above it, because a report is sent to others."""
    kind, colon, rest = source.partition(":")
    if kind == "hf" or not colon or len(kind) == 1:  # a name with an owner, a path, or a path with a drive
        return source if kind == "hf" else Path(source).name or source
    return f"{kind}:{Path(rest).name or rest}"


def _describe_result(result: "DistillResult", count: int) -> str:
    share, epoch = f"{result.validation_accuracy:.2%}", result.best_epoch + 1
    if result.judged_by == "teacher":
        return f"agreement with the teacher {share} on {count} validation images, which have no labels (epoch {epoch})"
    return f"validation accuracy {share} (epoch {epoch}), teacher {result.teacher_validation_accuracy:.2%}"


def _train(
    run: Run, lesson: "Lesson", student: "Student", report: Progress, assistance: Assistance | None = None
) -> "DistillResult":
    """Train the student with the layer pairs of the settings; without any, EdgeDistill pairs the layers."""
    from edgedistill.compute.processes import disband
    from edgedistill.distillation.assistance.assistant import teach
    from edgedistill.networks.layers import LayerPair

    pairs = run.settings.student.layer_pairs
    assistant = None if assistance is None else assistance.assistant
    result = teach(
        student,
        lesson,
        run.settings.distill,
        assistant=None if assistant is None else assistant.guide,
        pairs=[LayerPair(teacher=theirs, student=own) for theirs, own in pairs] or None,
        folder=run.folder / "distill",
        progress=watch_training(run, len(lesson.images.train), report),
    )
    disband()
    return result


def help_training(folder: Path, settings: RunSettings) -> None:
    """Do this process's share of the training in `folder`; the first process leads and records it."""
    run = Run(folder=folder, settings=settings, console=Console(quiet=True))
    if not run.is_complete("distill"):
        given = load_inputs(run, run.folder / KNOWN_LOOKS)
        student, _ = begin_run_student(run, given, find_run_start(run))
        _train(run, open_lesson(run, given), student, silent)


def _say_cost(run: Run, bundle: Bundle) -> None:
    teacher, student = bundle.manifest["teacher"], bundle.manifest["student"]
    share = teacher["multiply_adds"] / max(1, student["multiply_adds"])
    run.console.say(
        f"teacher {teacher['parameters'] / 1e6:.2f} M parameters, {teacher['multiply_adds'] / 1e6:.1f} M multiply-adds;"
        f" student {student['parameters'] / 1e6:.2f} M, {student['multiply_adds'] / 1e6:.1f} M (1/{share:.1f})"
    )


def _export(run: Run, inputs: Callable[[], Inputs]) -> None:
    from edgedistill.export.bundle import export_onnx
    from edgedistill_cli.runs.recovering import say_readiness

    given = inputs()
    student = read_run_student(run, given)
    rejection = _fit_rejection(run, given, student) if run.settings.export.reject else None
    with run.console.progress("export") as report:
        bundle = export_onnx(
            student,
            given.teacher,
            given.subtask,
            given.images.evaluation,
            run.folder,
            run.settings.export,
            student_name=run.settings.student.name,
            rejection=rejection,
            progress=report,
        )
    _say_export(run, bundle.manifest["export"])
    _write_for_others(run, bundle, student, given.teacher)
    renew_any_size(run)
    say_readiness(run, given, student)


def _write_for_others(run: Run, bundle: Bundle, student: "Student", teacher: "Teacher") -> None:
    """Write what people without EdgeDistill expect: the student as timm keeps its models, and a model card."""
    from edgedistill.export.timm_folder import FOLDER, export_timm_folder

    settings = run.settings
    name, width = settings.student.name, settings.student.width
    made = export_timm_folder(bundle, student, teacher, name=name, width=width)
    stated = {"teacher": settings.export.teacher_licence or "", "data": settings.export.data_licence or ""}
    bundle = made.bundle.with_fields(licences=stated)
    if made.because:
        run.console.say(f"export: no folder for timm, because {made.because}")
    else:
        run.console.say(f"export: {run.folder / FOLDER} is the expert for timm.create_model, equal to torch")
    say_model_card(bundle, run.console)


def _say_export(run: Run, record: Mapping[str, Any]) -> None:
    target = f" for {record['target']}" if record["target"] else ""
    run.console.say(
        f"export: model.fp32.onnx and teacher.fp32.onnx written{target} (ONNX opset {record['opset']}, IR version"
        f" {record['ir_version']}) and equal to torch on real images"
    )
    for model, made in (("model.fp32.onnx", record), ("teacher.fp32.onnx", record["teacher"])):
        if made["fell_back_because"]:
            run.console.say(
                f"note: {model} is of torch's {made['exporter']} exporter, because the other one says: "
                f"{made['fell_back_because']}"
            )


def _fit_rejection(run: Run, given: Inputs, student: "Student") -> "Rejection":
    """Set the expert's reject score, and print how well it works."""
    from edgedistill.rejection.outside import find_outside
    from edgedistill.rejection.rejector import fit_rejection

    with run.console.progress("reject") as report:
        outside = find_outside(
            given.source, given.teacher.class_names, given.subtask.classes, given.images, seed=run.settings.distill.seed
        )
        rejection = fit_rejection(
            student,
            given.teacher,
            given.subtask,
            given.images,
            outside,
            run.settings.export.reject,
            progress=noted(report, "images inside and outside the subtask"),
        )
    for sentence in rejection.sentences():
        run.console.say(f"export: {sentence}")
    return rejection


def _calibrate(run: Run, inputs: Callable[[], Inputs]) -> None:
    from edgedistill_calibration import calibrate
    from edgedistill_cli.runs.recovering import recover_run

    with run.console.progress("calibrate") as report:
        bundle = calibrate(run.bundle, inputs().images.train, run.settings.calibrate, progress=report)
    record = bundle.manifest["calibration"]
    written = ", ".join(f"model.{precision}.onnx" for precision in record["written"])
    run.console.say(f"calibrate: {written} written, ranges by {record['method']}")
    for note in record["notes"]:
        run.console.say(f"note: {note}")
    if run.settings.calibrate.recover:
        recover_run(run, inputs())
    renew_any_size(run)


def _validate(run: Run, inputs: Callable[[], Inputs]) -> None:
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_cli.bundles.validating import validate_models, validate_on_added
    from edgedistill_deploy.parity.validation import ValidationRequest

    recorder, request = (
        Recorder(folder=run.folder, console=run.console),
        ValidationRequest(limits=run.settings.validate),
    )
    validate_models(run.bundle, recorder, request)
    validate_on_added(run.bundle, recorder, request)


def _profile(run: Run, inputs: Callable[[], Inputs]) -> None:
    from edgedistill_cli.bundles.profiling import profile_bundle, providers_nobody_named
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_deploy.profiling.request import ProfileRequest

    config = run.settings.profile
    recorder = Recorder(folder=run.folder, console=run.console)
    sizes, added = (config.batch_size,), providers_nobody_named()
    profile_bundle(run.bundle, recorder, ProfileRequest(latency=config, batch_sizes=sizes, added=added))


def _report(run: Run, inputs: Callable[[], Inputs]) -> None:
    from edgedistill_deploy.report.page import write_report

    run.console.say(f"report: {write_report(run.bundle)}")
    say_model_card(run.bundle, run.console)


_WORK: dict[str, Callable[[Run, Callable[[], Inputs]], None]] = {
    "distill": _distill,
    "export": _export,
    "calibrate": _calibrate,
    "validate": _validate,
    "profile": _profile,
    "report": _report,
}
