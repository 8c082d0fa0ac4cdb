"""Recovery: more epochs of SubDistill under INT8 rounding, for a student that loses accuracy in INT8."""

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from edgedistill.config import DistillConfig
from edgedistill.data.unlabelled import JudgedBy, judged_by
from edgedistill.distillation.events import Watcher, ignore
from edgedistill.distillation.lesson import Lesson
from edgedistill.distillation.subdistill import distill
from edgedistill.distillation.training import predict_classes, true_classes
from edgedistill.export.deployed import Deployed
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import normalise_of, share_own_pixels
from edgedistill.models.student import write_student
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import LayerPair
from edgedistill.quantisation._int8_grids import Rounding, read_rounding
from edgedistill.quantisation.fake_quantisation import FakeQuantised, find_calls
from edgedistill.rejection.rejector import Rejector
from edgedistill.subspaces.directions import Subspace
from edgedistill.subspaces.files import load_subspaces
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.wording import counted

# A share of the distillation's learning rate: the student has converged and its ranges are fixed.
LEARNING_RATE_SHARE = 0.1
SAMPLES = 2  # images on which calls are found; more would only take memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySettings:
    """The settings of the distillation, and how many more epochs to train under quantisation, at least 1.

    The learning rate is a tenth of the distillation's where it is None.
    """

    distilled: DistillConfig
    epochs: int
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"recover must be a whole number of at least 1 epoch, and {self.epochs} was given.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A student trained under quantisation.

    Attributes:
        student: with float weights, to be quantised again; architecture and names did not change.
        path: file of its weights.
        epochs: number of epochs that were run.
        best_epoch: the best epoch on the validation images under quantisation, from 0. None means that no epoch was
            better than the first student, which was kept.
        accuracy_before: accuracy of the first student, quantised, on the validation images.
        accuracy: the same for this student.
        left_float: values of the INT8 file that torch does not compute; they stayed float in training.
        judged_by: "teacher" where no validation image has a label, so that the accuracies are agreement with it.
    """

    student: nn.Module
    path: Path
    epochs: int
    best_epoch: int | None
    accuracy_before: float
    accuracy: float
    left_float: tuple[str, ...]
    judged_by: JudgedBy = "labels"

    def sentences(self) -> list[str]:
        """Say how the accuracy changed, and which values stayed float in training."""
        kept = f"epoch {self.best_epoch + 1}" if self.best_epoch is not None else "the student as it was"
        measure = "validation accuracy" if self.judged_by == "labels" else "agreement with the teacher"
        brought = (
            f"{measure} in INT8 {self.accuracy_before:.2%} before, {self.accuracy:.2%} after "
            f"{counted(self.epochs, 'epoch')}, {kept} kept"
        )
        if not self.left_float:
            return [brought]
        names = ", ".join(self.left_float[:3])
        more = f" and {len(self.left_float) - 3} more" if len(self.left_float) > 3 else ""
        return [brought, f"{names}{more} of the INT8 file have no counterpart in torch and stayed float in training"]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "quantised_validation_accuracy_before": self.accuracy_before,
            "quantised_validation_accuracy": self.accuracy,
            "left_float": list(self.left_float),
            "judged_by": self.judged_by,
        }


def recover(
    bundle: Bundle,
    student: nn.Module,
    lesson: Lesson,
    settings: RecoverySettings,
    folder: Path,
    *,
    progress: Watcher = ignore,
) -> Recovered:
    """Continue the training of `student` with weights and activations rounded as in the bundle's INT8 model.

    The objective, the subspaces, the images and their augmentation are those of the distillation. Activations are
    rounded to the calibrated grids, and weights to grids that change with them. The best epoch on the validation images
    under this rounding is kept, or the start where no epoch is better. A run that was stopped continues after its last
    finished epoch.

    Args:
        bundle: exported and calibrated from `student`.
        student: trained; it changes in place.
        lesson: training images feed the training, validation images choose the epoch.
        settings: of the recovery.
        folder: for `recovered.safetensors`, and for checkpoints under `recovery`.
        progress: called several times an epoch.

    Raises:
        BundleError: the bundle is not calibrated, or lacks the subspaces that the objective needs.
        EdgeDistillError: the bundle's INT8 model is of another student.
    """
    teacher, images = lesson.teacher, lesson.images
    rounding = read_rounding(bundle)
    config = _recovery_config(bundle, settings)
    golden, _ = read_golden(bundle.file("golden"))
    floats = onnx.load(bundle.file(model_role("fp32")))
    calls = find_calls(
        student.cpu().eval(), normalise_of(student, teacher.normalise()), floats, rounding, golden[:SAMPLES]
    )
    network = FakeQuantised(student, calls).eval()
    share_own_pixels(network, student)
    truth = true_classes(teacher, lesson.subtask, images.validation)
    before = measure_accuracy(network, teacher, images.validation, truth)
    start = copy.deepcopy(network.state_dict())
    result = distill(
        teacher,
        network,
        lesson.subtask,
        images,
        config,
        pairs=_pairs(bundle),
        subspaces=_subspaces(bundle, config),
        folder=_own_folder(folder / "recovery", _key(bundle, rounding, config)),
        progress=progress,
    )
    better = result.validation_accuracy > before
    if not better:
        network.load_state_dict(start)
    path = folder / "recovered.safetensors"
    write_student(network.network, path, folder)
    return Recovered(
        student=network.network,
        path=path,
        epochs=len(result.history),
        best_epoch=result.best_epoch if better else None,
        accuracy_before=before,
        accuracy=max(before, result.validation_accuracy),
        left_float=network.left_float,
        judged_by=judged_by(images.validation),
    )


def measure_accuracy(
    network: nn.Module, teacher: Teacher, images: ImageSet, truth: NDArray[np.int64] | None = None
) -> float:
    """Return the share of images that a network classifies as `truth` (N,) says, by default their labels."""
    wanted = images.labels if truth is None else truth
    return float((predict_classes(network, teacher, images) == wanted).mean())


def export_recovered(recovered: Recovered, teacher: Teacher, bundle: Bundle, path: Path) -> None:
    """Write the float ONNX file of a recovered student, with the operator set and metadata of the bundle's own.

    Raises:
        EdgeDistillError: file and student do not agree.
    """
    own = onnx.load(bundle.file(model_role("fp32")), load_external_data=False)
    metadata = {each.key: each.value for each in own.metadata_props}
    reject = metadata.get("edgedistill.reject")
    rejector = Rejector(**json.loads(reject)) if reject else None
    opset = {entry.domain: entry.version for entry in own.opset_import}[""]
    golden, _ = read_golden(bundle.file("golden"))
    model = Deployed(recovered.student, normalise_of(recovered.student, teacher.normalise()), rejector=rejector)
    write_onnx(model, teacher.preprocess.size, path, opset=opset, metadata=metadata, samples=golden)


def _recovery_config(bundle: Bundle, settings: RecoverySettings) -> DistillConfig:
    """Return the distillation's settings without what is only for an untrained student."""
    config = settings.distilled.for_start(is_trained=bool(bundle.manifest.get("student_start", {}).get("weights")))
    record = bundle.manifest.get("distillation", {})
    if (record.get("assistant") or {}).get("chosen"):
        # The layers and subspaces of such a distillation are the assistant's, and this one is under the teacher.
        record = {"lambda_layer": 0.0}
    return replace(
        config,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate or config.peak_rate * LEARNING_RATE_SHARE,
        lambda_layer=float(record["lambda_layer"]) if "lambda_layer" in record else config.lambda_layer,
        lambda_schedule="constant",
        schedule="cosine",
        ema=0.0,
        early_stopping=0,
        compile_student=False,
        mixed_precision="no",
        teacher_cache="off",
        tensorboard=False,
    )


def _pairs(bundle: Bundle) -> list[LayerPair]:
    """Return the distillation's layer pairs, with the student's names inside `FakeQuantised`."""
    pairs = bundle.manifest.get("distillation", {}).get("pairs", [])
    return [LayerPair(teacher=each["teacher"], student=f"network.{each['student']}") for each in pairs]


def _subspaces(bundle: Bundle, config: DistillConfig) -> Mapping[str, Subspace] | None:
    """Return the distillation's subspaces; None where its objective needs none."""
    if not config.lambda_layer or config.layer_loss != "subspace":
        return None
    if not bundle.has("subspaces"):
        raise BundleError(
            f"{bundle.path} has no subspaces, and the student was distilled with layer losses; distil again, then "
            "recover."
        )
    return load_subspaces(bundle.file("subspaces"))


def _key(bundle: Bundle, rounding: Rounding, config: DistillConfig) -> str:
    """Identify a recovery by what decides its result; `distill` checks the images and the teacher."""
    described: Mapping[str, Any] = {
        "student": bundle.model_sha256(model_role("fp32")),
        "rounding": asdict(rounding),
        "settings": config.deciding(),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def _own_folder(folder: Path, key: str) -> Path:
    """Return the folder of this recovery, and delete other ones: each holds a whole training state."""
    for other in folder.glob("*") if folder.is_dir() else ():
        if other.name != key:
            shutil.rmtree(other, ignore_errors=True)
    return folder / key
