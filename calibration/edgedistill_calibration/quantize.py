"""From the float student of a bundle to its FP16 and INT8 files for two runtimes, with ranges measured once."""

import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_calibration.config import CANDIDATES, CalibrationConfig
from edgedistill_calibration.dataset import CalibrationSet, content_key, select_calibration
from edgedistill_calibration.judging.effort import (
    CANDIDATES_BUDGET,
    FEWEST_FOR_FLOAT16,
    FLOAT16_BUDGET,
    SAMPLE_BUDGET,
    affordable,
    set_size,
)
from edgedistill_calibration.judging.judge import (
    CANDIDATE_FILES,
    EXPECTATIONS,
    FLOAT16_FILES,
    LEDGER,
    RANGES,
    SINGLE_NODES,
    WRITING,
    ImageCount,
    Judge,
    Preparation,
)
from edgedistill_calibration.judging.ledger import write_ledger
from edgedistill_deploy.bundle.expectation import expectation_role
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import FP16_FILES, INT8_FILES, device_precisions, model_role
from edgedistill_deploy.bundle.reference import read_reference
from edgedistill_deploy.errors import BundleError, MissingDependencyError
from edgedistill_deploy.files.writing import write_whole
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.onnx_files.cost import read_cost
from edgedistill_deploy.progress import Phases, Progress, silent
from edgedistill_deploy.version import __version__

if TYPE_CHECKING:
    from edgedistill_calibration.float16.files import Float16Files
    from edgedistill_calibration.int8.files import Int8

_PER_SECOND = 5e10  # multiply-adds of two cores, as in `judging.effort`
DEVICE_FILES = "device_files"  # the manifest's records of files made for single devices, by precision
LOW_AGREEMENT = 0.95  # below this the record notes how often the INT8 model differs


def calibrate(
    bundle: Bundle, images: ImageSet, config: CalibrationConfig | None = None, progress: Progress = silent
) -> Bundle:
    """Write the FP16 and INT8 files of `model.fp32.onnx`.

    `model.int8.onnx` is for ONNX Runtime, `model.int8-tensorrt.onnx` for TensorRT. Both use ranges measured once, on a
    sample of the training images, spread evenly over the classes. All files are judged against the float model on
    further training images. Where INT8 loses more accuracy than allowed, its worst nodes are left in float.
    `model.fp16.onnx` and `model.int8-fp16-tensorrt.onnx` compute the rest in FP16. The manifest's `calibration` and
    `ledger.json` have the results. With the same images, model, settings and libraries as last time nothing is done.

    Args:
        bundle: has `model.fp32`.
        images: the TRAINING images; images of other classes are ignored, and so are images that the bundle's reference
            judges the student on.
        progress: called with what is done, in thousandths of the whole, and the name of the phase.

    Returns:
        The bundle with roles `model.int8`, `model.int8-tensorrt`, `ranges`, `ledger`, and with `fp16` its roles. Where
        it has golden inputs, each file has its expectation, see `bundle.expectation`.

    Raises:
        UsageError: `images` lacks a class of the bundle, or fewer images are asked for than the classes need.
        DataError: a class has too few training images, or an image cannot be read.
        BundleError: the bundle has no `model.fp32`, or a damaged one.
        EdgeDistillError: the model cannot be brought to INT8.
        MissingDependencyError: onnx or onnxruntime is not installed.
    """
    require_libraries()
    from edgedistill_calibration.int8.files import int8_details, make_int8
    from edgedistill_calibration.int8.request import Int8Request
    from edgedistill_calibration.judging.expectations import expected_roles, record_expectations
    from edgedistill_calibration.judging.steps import chain_steps, far_below_neighbours, student_note
    from edgedistill_calibration.ranges.measurement import write_ranges

    config = config or CalibrationConfig()
    sample = select_sample(bundle, images, config)
    plan = _plan(bundle, sample, config)
    if _is_done(bundle, plan):
        return bundle
    judge = open_judge(bundle, bundle.file(model_role("fp32")), sample, config, progress)
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as name:
        folder, metadata = Path(name), {"edgedistill.calibration": plan["key"]}
        made = make_int8(
            Int8Request(judge=judge, images=sample.images, folder=folder, config=config, metadata=metadata)
        )
        files = {precision: mixture.path for precision, mixture in made.mixtures.items()}
        fp16 = _make_float16(judge, sample, files["int8-tensorrt"] if config.fp16 else None, folder)
        files |= fp16.files
        # The manifest's record of the last calibration is wrong from here until all is written.
        bundle = keep_files(bundle.with_fields(calibration={}), files)
        for precision in {*FP16_FILES} - {*files}:  # they are of an earlier model
            bundle = bundle.without_file(model_role(precision))
        bundle = drop_device_files(bundle)
        used = made.ranges[made.method]
        ranges_file = write_ranges(
            bundle.path, used["int8"], used["int8-tensorrt"], method=made.method, model_sha256=plan["model_sha256"]
        )
        bundle = bundle.with_file("ranges", ranges_file)
        judge.prepared.work.begin(LEDGER, len(sample.held_out) * (1 + len(fp16.files)))
        steps = chain_steps(bundle, judge, files, {**fp16.details, **int8_details(made)})
    bundle = record_expectations(bundle, judge.prepared.work)
    bundle = write_ledger(bundle, steps, {**fp16.left_out, "student": student_note(bundle, judge)})
    judge.prepared.work.finish()
    outcome = _outcome(sample, made, fp16, config)
    outcome["notes"] += far_below_neighbours(steps)
    return bundle.with_fields(calibration={**plan, **outcome, "expectations": expected_roles(bundle)})


def _make_float16(judge: Judge, sample: CalibrationSet, int8: Path | None, folder: Path) -> "Float16Files":
    """Write FP16 of the float model and of TensorRT's INT8 file; none of either without an INT8 file."""
    from edgedistill_calibration.float16.files import write_float16_files

    sources = {} if int8 is None else dict(zip(FP16_FILES, (judge.source, int8), strict=True))
    shown = show_float16(judge, sample.images)
    judge.prepared.work.begin(FLOAT16_FILES, 2 * len(sources) * len(shown))
    return write_float16_files(sources, judge.prepared, shown, folder)


def require_libraries() -> None:
    """Raise MissingDependencyError with the first library that calibration lacks."""
    for library in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(library) is None:
            raise MissingDependencyError(library, "quantize", "Calibration")


def select_sample(bundle: Bundle, images: ImageSet, config: CalibrationConfig) -> CalibrationSet:
    """Draw the images to calibrate on and to judge with, without the images of the bundle's reference."""
    if images.class_names != bundle.class_names:
        images = images.with_classes(bundle.class_names)
    judged = read_reference(bundle.file("reference")).digests.tolist() if bundle.has("reference") else ()
    each = read_cost(bundle.file(model_role("fp32"))).multiply_adds
    count, held_out = (set_size(asked, each) for asked in (config.images, config.held_out))
    return select_calibration(images, count, config.seed, held_out=held_out, exclude=judged)


def _plan(bundle: Bundle, sample: CalibrationSet, config: CalibrationConfig) -> dict[str, Any]:
    """Return everything that decides the result: the same plan gives the same files."""
    libraries = {name: importlib.import_module(name).__version__ for name in ("numpy", "onnx", "onnxruntime")}
    return {
        "key": sample.key(bundle.preprocess),
        "held_out_key": content_key(sample.held_out, bundle.preprocess),
        "model_sha256": bundle.model_sha256(model_role("fp32")),
        "golden_sha256": bundle.model_sha256("golden") if bundle.has("golden") else None,
        "settings": asdict(config),
        "versions": {"edgedistill": __version__, **libraries},
    }


def _is_done(bundle: Bundle, plan: Mapping[str, Any]) -> bool:
    recorded = bundle.manifest.get("calibration", {})
    if any(recorded.get(name) != value for name, value in plan.items()):
        return False
    roles = (
        *map(model_role, recorded.get("written", INT8_FILES)),
        "ledger",
        "ranges",
        *recorded.get("expectations", ()),
    )
    try:
        return all(bundle.file(role).is_file() for role in roles)
    except BundleError:
        return False


def open_judge(
    bundle: Bundle, source: Path, sample: CalibrationSet, config: CalibrationConfig, progress: Progress
) -> Judge:
    """Return a judge that compares models with `source` on the held-out images, and counts all images run."""
    work = ImageCount(phases=Phases(progress, _phase_shares(config, sample, read_cost(source).multiply_adds)))
    prepared = Preparation(preprocess=bundle.preprocess, work=work)
    return Judge(source=source, images=sample.held_out, prepared=prepared, teacher=find_teacher(bundle))


def find_teacher(bundle: Bundle) -> Path | None:
    """Return the file of the teacher; None where the bundle has none."""
    role = model_role("teacher")
    return bundle.file(role) if bundle.has(role) else None


def show_float16(judge: Judge, images: ImageSet) -> ImageSet:
    """Return the calibration images that show what FP16 can hold: fewer of them for a large model."""
    each = read_cost(judge.source).multiply_adds
    return images.select(range(affordable(FLOAT16_BUDGET, each, len(images), FEWEST_FOR_FLOAT16)))


def _phase_shares(config: CalibrationConfig, sample: CalibrationSet, multiply_adds: int) -> dict[str, float]:
    """Return about how long each phase takes, in seconds of two cores, for a model of so many multiply-adds.

    Every value of the model is read in the phases `RANGES` and `FLOAT16_FILES`, which takes several times as long as a
    run.
    """
    from edgedistill_calibration.ranges.measurement import range_passes

    images, held_out, methods = len(sample.images), len(sample.held_out), CANDIDATES[config.method]
    run_s = 0.001 + multiply_adds / _PER_SECOND
    compared = affordable(CANDIDATES_BUDGET, multiply_adds * 2 * len(methods), held_out)
    shown = affordable(FLOAT16_BUDGET, multiply_adds, images, FEWEST_FOR_FLOAT16)
    return {
        RANGES: 8 * run_s * range_passes(methods) * images,
        WRITING: 2.0 * len(methods),
        CANDIDATE_FILES: run_s * (2 * len(methods) * compared + 3 * (held_out - compared)),
        SINGLE_NODES: (SAMPLE_BUDGET / _PER_SECOND + 4) if config.ledger_nodes else 0.0,
        FLOAT16_FILES: 4 * 8 * run_s * shown if config.fp16 else 0.0,
        LEDGER: 5 * run_s * held_out,
        EXPECTATIONS: 4.0,
    }


def keep_files(bundle: Bundle, files: Mapping[str, Path]) -> Bundle:
    """Copy {precision: file} into the bundle under their roles."""
    for precision, made in files.items():
        role = model_role(precision)
        path = bundle.path / f"{role}.onnx"
        with write_whole(path, inside=bundle.path) as temporary:
            shutil.copyfile(made, temporary)
        bundle = bundle.with_file(role, path)
    return bundle


def drop_device_files(bundle: Bundle, precisions: Sequence[str] | None = None) -> Bundle:
    """Delete the INT8 files made for single devices, all or those of these precisions, and what is known of them."""
    given = device_precisions(bundle.manifest["files"]) if precisions is None else precisions
    for precision in given:
        role = model_role(precision)
        for each, ending in ((role, "onnx"), (expectation_role(role), "npz")):
            if bundle.has(each):
                bundle = bundle.without_file(each)
                # The name that it was written under, whatever the manifest says.
                (bundle.path / f"{each}.{ending}").unlink(missing_ok=True)
    known: Mapping[str, Any] = bundle.manifest.get(DEVICE_FILES, {})
    kept = {} if precisions is None else {name: each for name, each in known.items() if name not in precisions}
    return bundle if kept == known else bundle.with_fields(**{DEVICE_FILES: kept})


def _outcome(sample: CalibrationSet, made: "Int8", fp16: "Float16Files", config: CalibrationConfig) -> dict[str, Any]:
    low = [
        f"{model_role(name)}.onnx and the float model agree on {mixture.figures.agreement:.1%} of held-out images."
        for name, mixture in made.mixtures.items()
        if mixture.figures.agreement < LOW_AGREEMENT
    ]
    missed = [mixture.sentence(f"{model_role(name)}.onnx") for name, mixture in made.mixtures.items()]
    return {
        "image_count": len(sample.images),
        "per_class": sample.per_class,
        "held_out_count": len(sample.held_out),
        "method": made.method,
        "candidates": [
            {"method": each.method, **{name: asdict(each.figures[name]) for name in each.files}}
            for each in made.candidates
        ],
        "written": [*made.mixtures, *fp16.files],
        "notes": [*config.notes, *sample.notes, *low, *filter(None, missed), *fp16.notes],
    }
