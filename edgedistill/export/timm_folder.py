"""A network as a folder in timm's layout: `config.json` and `model.safetensors`, which `timm.create_model` reads.

A student is written so only where timm, alone, builds it again and gives the same logits. That is tried, not assumed.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgedistill.export.deployed import Deployed, logits_in_torch
from edgedistill.models.libraries.messages import first_line
from edgedistill.models.normalise import Normalise, normalise_of
from edgedistill.models.student import scaled_arguments
from edgedistill.models.student_names import PREFIX
from edgedistill.models.teacher import Teacher
from edgedistill.networks.modes import evaluating
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.files.writing import write_json, write_whole

FOLDER = "timm"
ROLES = {"timm.config": "config.json", "timm.weights": "model.safetensors"}
_CLOSE = 1e-4  # largest difference of a logit, relative to the largest logit: both compute the same in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmFolder:
    """A bundle with its student in timm's layout; `because` says why it has none, and is empty if it has one."""

    bundle: Bundle
    because: str = ""


def write_timm_folder(
    folder: Path, model: nn.Module, config: Mapping[str, Any], *, half: bool = False, inside: Path | None = None
) -> None:
    """Write config.json and model.safetensors, which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    With `half` the floating-point weights are rounded to half precision; timm loads them into a float32 model. `inside`
    is as for `write_whole`.
    """
    state = {name: _round(value, half).contiguous() for name, value in model.state_dict().items()}
    write_json(folder / "config.json", dict(config), inside=inside)
    with write_whole(folder / "model.safetensors", inside=inside) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})


def export_timm_folder(bundle: Bundle, student: nn.Module, teacher: Teacher, *, name: str, width: float) -> TimmFolder:
    """Write the student into the folder `timm` of its bundle, where timm can build it.

    The files are registered in the bundle. Those of an earlier export, of another student, are removed.

    Args:
        bundle: exported; its golden images are what both networks are asked.
        student: trained.
        teacher: gives the normalisation of a student that has none of its own.
        name, width: as for `build_student`.
    """
    folder = bundle.path / FOLDER
    because = _find_obstacle(name)
    if not because:
        normalise = normalise_of(student, teacher.normalise())
        write_timm_folder(folder, student, _config(bundle, student, normalise, name, width), inside=bundle.path)
        because = _compare(folder, Deployed(student, normalise), read_golden(bundle.file("golden"))[0])
    for role, file in ROLES.items():
        bundle = bundle.without_file(role) if because else bundle.with_file(role, folder / file)
    if because and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    return TimmFolder(bundle=bundle, because=because)


def _find_obstacle(name: str) -> str:
    """Say why timm cannot build a student of this name; empty where it can."""
    if name.startswith(PREFIX):
        return "a plain student is no architecture of timm"
    architecture = name.removeprefix("timm:").partition(".")[0]
    if not timm.is_model(architecture):
        return f"timm does not list {architecture}"
    if not timm.model_entrypoint(architecture).__module__.startswith("timm."):
        return f"{architecture} is EdgeDistill's own, and no architecture of timm"
    return ""


def _config(bundle: Bundle, student: nn.Module, normalise: Normalise, name: str, width: float) -> dict[str, Any]:
    """Return the config.json: how timm builds the network, how images are prepared, and what the outputs mean."""
    own: dict[str, Any] = dict(student.pretrained_cfg)  # type: ignore[arg-type]  # timm sets a mapping
    names, preprocess = bundle.class_names, bundle.preprocess
    size = list(preprocess.size)
    arguments = dict(scaled_arguments(name, width))
    if hasattr(student, "set_input_size"):  # its weights are of one size of images
        arguments["img_size"] = size
    mean, std = _mean_and_std(normalise)
    return {
        "architecture": own["architecture"],
        "num_classes": len(names),
        "num_features": int(student.num_features),  # type: ignore[arg-type]  # timm models carry an int
        "label_names": list(names),
        "model_args": {"num_classes": len(names), **arguments},
        "pretrained_cfg": {
            "input_size": [3, *size],
            "fixed_input_size": bool(own.get("fixed_input_size", False)),
            "interpolation": preprocess.interpolation,
            "crop_pct": preprocess.crop_fraction,
            "crop_mode": "squash" if preprocess.resize_mode == "squash" else "center",
            "mean": mean,
            "std": std,
            "num_classes": len(names),
            "pool_size": own.get("pool_size"),
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
        },
    }


def _mean_and_std(normalise: Normalise) -> tuple[list[float], list[float]]:
    """Return mean and deviation per channel, of images in [0, 1], without the noise of float32."""
    std = 1 / (255 * normalise.norm_scale.double().flatten())
    mean = -normalise.norm_shift.double().flatten() * std
    return [round(each, 6) for each in mean.tolist()], [round(each, 6) for each in std.tolist()]


def _compare(folder: Path, expert: Deployed, images: npt.NDArray[np.uint8]) -> str:
    """Say why the folder is not the expert; empty where timm builds a network from it that gives the same logits."""
    try:
        found: nn.Module = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True)
        config: Any = found.pretrained_cfg
        given = _logits(found, Normalise(config["mean"], config["std"]), images)
    except Exception as error:  # noqa: BLE001  # timm raises many kinds for what it cannot build
        return f"timm does not build it again: {first_line(error)}"
    wanted = logits_in_torch(expert, images)
    largest = float(np.abs(given - wanted).max())
    if largest > _CLOSE * max(1.0, float(np.abs(wanted).max())):
        return f"built again by timm, its logits differ by up to {largest:.3g}"
    return ""


def _logits(model: nn.Module, normalise: Normalise, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with evaluating(model), torch.no_grad():
        logits: npt.NDArray[np.float32] = model(normalise(torch.from_numpy(images))).numpy()
    return logits


def _round(value: Tensor, half: bool) -> Tensor:
    return value.half() if half and value.is_floating_point() else value
