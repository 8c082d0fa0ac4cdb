"""From a trained student to a bundle: the ONNX files of student and teacher, golden outputs, the teacher's answers."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from edgedistill.export._onnx_checking import check_against_torch
from edgedistill.export.config import ExportConfig
from edgedistill.export.deployed import Deployed, logits_in_torch
from edgedistill.export.onnx_writing import OnnxRecord, write_onnx
from edgedistill.models.names import shown_teacher_name
from edgedistill.models.normalise import Normalise, normalise_of
from edgedistill.models.teacher import Teacher
from edgedistill.networks.cost import count_cost
from edgedistill.rejection.rejector import Rejection
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.bundle.folder import GOLDEN_IMAGES, Bundle, create_bundle, open_bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.bundle.reference import Reference, write_golden, write_reference
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.golden import limit_images, make_golden_images, write_golden_images
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet, batches
from edgedistill_deploy.progress import Phases, Progress, silent
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.version import __version__

__all__ = ["Deployed", "OnnxRecord", "begin_bundle", "describe_model", "export_onnx", "write_onnx"]

BATCH = 16
GOLDEN_COUNT = 16
CHECKED_COUNT = 24  # images that torch answers too; spread otherwise than the golden ones
_GOLDEN, _ANSWERS = "golden outputs", "teacher's answers"


def export_onnx(
    student: nn.Module,
    teacher: Teacher,
    subtask: Subtask,
    images: ImageSet,
    folder: Path | str,
    config: ExportConfig | None = None,
    *,
    student_name: str = "student",
    rejection: Rejection | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Write everything a device needs to run the student and to judge it against its teacher.

    The folder becomes a bundle with `model.fp32.onnx`, `teacher.fp32.onnx` (the teacher restricted to the subtask, with
    the same interface), `golden.npz`, `golden-images.npz`, `reference.npz` and `manifest.json`, whose `export` says how
    the ONNX files were made. A model too large for one file has its weights beside it, in `model.fp32.onnx.data`.

    Args:
        student: trained; C outputs in the order of the subtask.
        teacher: gives preprocessing and reference answers, and the normalisation of a student that has none of its own.
        subtask: the classes.
        images: evaluation images (test, or validation where there is no test split), labelled in the subtask's order.
        folder: an existing bundle there is extended; other files in it stay.
        rejection: of this student (`rejection.rejector.fit_rejection`); it gives `model.fp32.onnx` the output
            `in_domain`.
        progress: called with what is done, in thousandths of the whole, and the name of the phase.

    Raises:
        UsageError: the settings ask for a reject score and no rejection is given.
        EdgeDistillError: both of torch's exporters fail, or file and model do not agree; it names the worst output and
            the first layer that differs. Files of an earlier export stay then.
    """
    config, folder = config or ExportConfig(), Path(folder)
    if config.reject and rejection is None:
        raise UsageError(
            f"reject is {config.reject} and no rejection was given; make one with fit_rejection and hand it to "
            "export_onnx."
        )
    student = student.cpu().eval()
    bundle = begin_bundle(student, teacher, subtask, folder, student_name)
    golden = _spread(len(images), GOLDEN_COUNT)
    samples = np.concatenate(list(batches(images.select(golden), teacher.preprocess, BATCH)))
    rejector = rejection.rejector if rejection is not None else None
    expert = Deployed(student, normalise_of(student, teacher.normalise()), rejector=rejector)
    restricted = Deployed(teacher.model.cpu(), teacher.normalise(), subtask.class_indices)
    records = {}
    phases = Phases(progress, _phase_shares(bundle, len(images)))
    for role, model in ((model_role("fp32"), expert), (model_role("teacher"), restricted)):
        phases.begin(f"writing {role}.onnx")
        metadata = _metadata(subtask, teacher, model)
        bundle, records[role] = _write_model(bundle, role, model, samples, metadata, config)
    expert_record, teacher_record = (each.to_json() for each in records.values())
    bundle = bundle.with_fields(export={"target": config.target, **expert_record, "teacher": teacher_record})
    phases.begin(_GOLDEN)
    inputs = np.concatenate([samples, limit_images(teacher.preprocess.size)])
    write_golden(folder / "golden.npz", inputs, logits_in_torch(expert, inputs))
    bundle = bundle.with_file("golden", folder / "golden.npz")
    write_golden_images(folder / "golden-images.npz", make_golden_images(teacher.preprocess))
    bundle = bundle.with_file(GOLDEN_IMAGES, folder / "golden-images.npz")
    answered = _ask_teacher(bundle, restricted, teacher.preprocess, images, config, phases.begin(_ANSWERS))
    named = replace(answered, class_names=np.array(subtask.class_names), golden_index=golden)
    write_reference(folder / "reference.npz", named)
    bundle = bundle.with_file("reference", folder / "reference.npz")
    phases.finish()
    return _with_reject_record(bundle, rejection)


def _phase_shares(bundle: Bundle, image_count: int) -> dict[str, float]:
    """Return about how long each phase takes, in s on one core.

    A thousand million multiply-adds take a tenth of a second. Writing a file takes some seconds for torch's exporter,
    and runs the sample images in torch, in ONNX Runtime and layer by layer.
    """
    student, teacher = (bundle.manifest[model]["multiply_adds"] * 1e-10 for model in ("student", "teacher"))
    return {
        f"writing {model_role('fp32')}.onnx": 4.0 + 4 * GOLDEN_COUNT * student,
        f"writing {model_role('teacher')}.onnx": 4.0 + 4 * GOLDEN_COUNT * teacher,
        _GOLDEN: 0.5 + 2 * GOLDEN_COUNT * student,
        _ANSWERS: image_count * (0.005 + teacher / 3) + CHECKED_COUNT * teacher,
    }


def _write_model(
    bundle: Bundle,
    role: str,
    model: Deployed,
    samples: npt.NDArray[np.uint8],
    metadata: dict[str, str],
    config: ExportConfig,
) -> tuple[Bundle, OnnxRecord]:
    """Write a model's ONNX file, and register it with the file of its weights, if there is one."""
    path, data_role = bundle.path / f"{role}.onnx", f"{role}.data"
    _, height, width, _ = samples.shape
    record = write_onnx(
        model,
        (height, width),
        path,
        opset=config.written_opset,
        metadata=metadata,
        samples=samples,
        single_file_bytes=int(config.single_file_megabytes * 1e6),
    )
    bundle = bundle.with_file(role, path)
    if record.data is not None:
        return bundle.with_file(data_role, record.data), record
    if bundle.has(data_role):  # from an earlier export
        stale = bundle.path / str(bundle.manifest["files"][data_role]["path"])
        bundle = bundle.without_file(data_role)
        stale.unlink(missing_ok=True)
    return bundle, record


def _with_reject_record(bundle: Bundle, rejection: Rejection | None) -> Bundle:
    """Record the rejection; without one, empty the record that an earlier export left."""
    if rejection is None and "reject" not in bundle.manifest:
        return bundle
    return bundle.with_fields(reject={} if rejection is None else rejection.to_json())


def describe_model(name: str, model: nn.Module, image_size: tuple[int, int]) -> dict[str, object]:
    """Return the manifest's record of a model: its name and what it costs."""
    return {"name": name, **count_cost(model, image_size).to_json()}


def begin_bundle(student: nn.Module, teacher: Teacher, subtask: Subtask, folder: Path, student_name: str) -> Bundle:
    """Create a bundle's manifest from what is known before training, or update that of an existing bundle."""
    size = teacher.preprocess.size
    record = {
        **describe_model(shown_teacher_name(teacher.name), teacher.model, size),
        "weights_sha256": teacher.weights_sha256,
    }
    fields: dict[str, Any] = {
        "subtask": subtask.to_json(),
        "teacher": record,
        "student": describe_model(student_name, student, size),
        "provenance": {"edgedistill": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
    }
    if (folder / "manifest.json").is_file():
        preprocess = {**teacher.preprocess.to_json(), "digest": teacher.preprocess.digest}
        return open_bundle(folder, verify=False).with_fields(**fields, preprocess=preprocess)
    return create_bundle(folder, preprocess=teacher.preprocess, **fields)


def _spread(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """Return up to `wanted` positions spread evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def _metadata(subtask: Subtask, teacher: Teacher, model: Deployed) -> dict[str, str]:
    reject = {} if model.rejector is None else {"edgedistill.reject": json.dumps(asdict(model.rejector))}
    return {
        **reject,
        "edgedistill.version": __version__,
        "edgedistill.subtask": subtask.name,
        "edgedistill.class_names": json.dumps(list(subtask.class_names), ensure_ascii=False),
        "edgedistill.preprocess": teacher.preprocess.digest,
        "edgedistill.pixel_range": json.dumps(_pixel_range(model.normalise)),
    }


def _pixel_range(normalise: Normalise) -> dict[str, list[float]]:
    """Return black and white after normalisation, by channel, so that a device can find a wrong normalisation."""
    ends = torch.tensor([[[[0, 0, 0]]], [[[255, 255, 255]]]], dtype=torch.uint8)
    black, white = normalise(ends)[..., 0, 0].tolist()
    return {"black": black, "white": white}


def _ask_teacher(
    bundle: Bundle,
    restricted: Deployed,
    preprocess: Preprocess,
    images: ImageSet,
    config: ExportConfig,
    progress: Progress,
) -> Reference:
    """Record the teacher's subtask logits on the evaluation images, and the prepared images that fit the budget.

    The teacher's file answers, because ONNX Runtime takes less time than torch: 0.4 of it for an EfficientNet. Torch
    answers some of the images too, and the two must agree.
    """
    role = model_role("teacher")
    path, data = bundle.file(role), bundle.file(f"{role}.data") if bundle.has(f"{role}.data") else None
    image_bytes = preprocess.size[0] * preprocess.size[1] * 3
    room = int(config.reference_megabytes * 1e6 // image_bytes)
    stored = np.arange(len(images))
    if room < len(images):
        stored = np.sort(np.random.default_rng(config.seed).choice(len(images), room, replace=False))
    keep = np.zeros(len(images), dtype=bool)
    keep[stored] = True
    logits: list[npt.NDArray[np.float32]] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    done = 0
    with open_model(path, precision="teacher", data=data, limit_s=None) as session:
        for batch in batches(images, preprocess, BATCH):
            logits.append(logits_of(session, batch))
            pixels.append(batch[keep[done : done + len(batch)]])
            done += len(batch)
            progress(done, len(images))
    checked = images.select(_spread(len(images), CHECKED_COUNT))
    check_against_torch(path, restricted, np.concatenate(list(batches(checked, preprocess, BATCH))), data=data)
    return Reference(
        logits=np.concatenate(logits),
        labels=images.labels,
        digests=np.array([images.digest(index) for index in range(len(images))]),
        images=np.concatenate(pixels) if room else None,
        image_index=stored,
    )
