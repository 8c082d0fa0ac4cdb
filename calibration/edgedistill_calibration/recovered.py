"""INT8 of a student that was trained under quantisation, compared with that of the student before."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from edgedistill_calibration.config import CalibrationConfig
from edgedistill_calibration.float16.files import write_float16_files
from edgedistill_calibration.graphs.preparation import metadata_of
from edgedistill_calibration.int8.exclusions import ROUNDING
from edgedistill_calibration.int8.files import Int8, int8_details, make_int8
from edgedistill_calibration.int8.request import Int8Request
from edgedistill_calibration.judging.expectations import record_expectations
from edgedistill_calibration.judging.judge import FLOAT16_FILES, Judge
from edgedistill_calibration.judging.ledger import LedgerStep, Logits, read_ledger, write_ledger_record
from edgedistill_calibration.judging.steps import RECOVERED, far_below_neighbours, step_of, teacher_answers
from edgedistill_calibration.quantize import (
    drop_device_files,
    keep_files,
    open_judge,
    require_libraries,
    select_sample,
    show_float16,
)
from edgedistill_calibration.ranges.measurement import read_ranges
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import INT8_FILES, model_role
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Progress, silent

_MIXED = "int8-fp16-tensorrt"


def calibrate_recovered(
    bundle: Bundle,
    recovered: Path,
    images: ImageSet,
    config: CalibrationConfig | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Quantise a student that was trained under quantisation, and keep its INT8 files where they are the better ones.

    The better of two kinds of ranges is taken: new ones, or those of its training. Its worst nodes are left in float
    where its accuracy needs that, and it is judged on the same held-out images. Of two INT8 files the better is the one
    whose accuracy drop is allowed, then the more accurate one, then the one that agrees more with the teacher, or
    without a teacher with the float student. The steps `int8-recovered` and `int8-tensorrt-recovered` of `ledger.json`
    say whether they were kept.

    Args:
        bundle: calibrated, see `calibrate`.
        recovered: the float model of the recovered student, with the interface of `model.fp32`.
        images: the TRAINING images.
        config: the settings of the calibration.
        progress: called with what is done, in thousandths of the whole, and the name of the phase.

    Raises:
        BundleError: the bundle was not calibrated.
        EdgeDistillError: `recovered` has other inputs or outputs, or cannot be brought to INT8.
        UsageError, DataError, MissingDependencyError: as `calibrate`.
    """
    require_libraries()
    config = config or CalibrationConfig()
    source = bundle.file(model_role("fp32"))
    _require_same_interface(recovered, source)
    record = read_ledger(bundle)
    sample = select_sample(bundle, images, config)
    judge = open_judge(bundle, recovered, sample, config, progress)
    before = replace(judge, source=source)
    contest = _open_contest(bundle, before, config)
    recovered_sha256 = sha256_of_file(recovered)
    metadata = {**metadata_of(onnx.load(source, load_external_data=False)), "edgedistill.recovered": recovered_sha256}
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as name:
        request = Int8Request(
            judge=judge,
            images=sample.images,
            folder=Path(name),
            config=config,
            metadata=metadata,
            accuracy=contest.accuracy,
            trained_ranges=read_ranges(bundle.file("ranges")),
        )
        made = make_int8(request)
        steps, better = contest.decide(made)
        calibration = dict(bundle.manifest["calibration"])
        # The manifest's record of the last calibration is wrong from here until all is written.
        bundle = keep_files(bundle.with_fields(calibration={}), better)
        if "int8" in better:
            bundle = drop_device_files(bundle)
        if "int8-tensorrt" in better and bundle.has(model_role(_MIXED)):
            shown = show_float16(judge, sample.images)
            judge.prepared.work.begin(FLOAT16_FILES, 2 * len(shown))
            fp16 = write_float16_files({_MIXED: better["int8-tensorrt"]}, judge.prepared, shown, Path(name))
            bundle = keep_files(bundle, fp16.files)
            steps += [contest.step(name, path, fp16.details[name]) for name, path in fp16.files.items()]
    bundle = record_expectations(bundle, judge.prepared.work)
    bundle = write_ledger_record(bundle, _with_steps(record, steps, better))
    judge.prepared.work.finish()
    recovery = {"recovered_sha256": recovered_sha256, "method": made.method, "kept": list(better)}
    notes = [*calibration.get("notes", []), *far_below_neighbours(steps)]
    return bundle.with_fields(calibration={**calibration, "notes": notes, "recovery": recovery})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contest:
    """Decides between INT8 files on the held-out images, against the float student of the bundle."""

    judge: Judge
    teacher: Logits | None
    current: Mapping[str, Path]  # the bundle's INT8 files by precision
    accuracy: float  # of the float student
    max_drop: float

    def rank(self, precision: str, path: Path) -> tuple[bool, float, float]:
        """Larger is better: whether the accuracy holds, the accuracy, agreement."""
        step = self.step(precision, path, {})
        agreement = step.figures.agreement if step.teacher_agreement is None else step.teacher_agreement
        holds = self.accuracy - step.figures.accuracy <= self.max_drop + ROUNDING
        return holds, step.figures.accuracy, agreement

    def step(self, precision: str, path: Path, details: Mapping[str, object]) -> LedgerStep:
        """Return a step of a file, compared with the float student and the teacher."""
        return step_of(precision, path, self.judge, self.teacher, details)

    def decide(self, made: Int8) -> tuple[list[LedgerStep], dict[str, Path]]:
        """Return the steps of new files, and the files that are better than the bundle's."""
        files = {name: mixture.path for name, mixture in made.mixtures.items()}
        self.judge.answers({path: name for name, path in files.items()})
        better = {
            name: path for name, path in files.items() if self.rank(name, path) > self.rank(name, self.current[name])
        }
        details = int8_details(made)
        steps = [
            replace(self.step(name, path, {**details[name], "kept": name in better}), stage=f"{name}{RECOVERED}")
            for name, path in files.items()
        ]
        return steps, better


def _open_contest(bundle: Bundle, judge: Judge, config: CalibrationConfig) -> _Contest:
    current = {name: bundle.file(model_role(name)) for name in INT8_FILES}
    figures = judge.judge({judge.source: "fp32", **{path: name for name, path in current.items()}})
    return _Contest(
        judge=judge,
        teacher=teacher_answers(bundle, judge),
        current=current,
        accuracy=figures[judge.source].accuracy,
        max_drop=config.max_drop,
    )


def _with_steps(record: Mapping[str, Any], new: Sequence[LedgerStep], better: Mapping[str, Path]) -> dict[str, Any]:
    """Return the ledger with these steps in place of old ones; each INT8 step says whether it was kept."""
    added = {step.stage: step.to_json() for step in new}
    kept = [
        {**step, "kept": step["stage"] not in better} if step["stage"] in INT8_FILES else step
        for step in record["steps"]
        if step["stage"] not in added
    ]
    return {**record, "steps": [*kept, *added.values()]}


def _require_same_interface(recovered: Path, source: Path) -> None:
    found, wanted = (_interface(path) for path in (recovered, source))
    if found != wanted:
        raise EdgeDistillError(
            f"{recovered} has the values {', '.join(found)}, and {source.name} of the bundle has {', '.join(wanted)}; "
            "export the recovered student with the same settings."
        )


def _interface(path: Path) -> list[str]:
    graph = onnx.load(path, load_external_data=False).graph
    return [each.name for each in (*graph.input, *graph.output)]
