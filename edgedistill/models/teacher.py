"""The teacher: a trained classifier with its labels, its preprocessing and its normalisation."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_data_config
from timm.data.imagenet_info import infer_imagenet_subset
from timm.models import load_state_dict
from torch import nn

from edgedistill.models import small_images  # noqa: F401  # enters its model into timm's registry
from edgedistill.models.normalise import Normalise
from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill.subtasks.subtask import Subtask, find_subtask
from edgedistill_deploy.errors import DataError, UsageError, nearest_names
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.preprocess import Preprocess

EMBEDDED = "embedded:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A classifier in evaluation mode, with its labels and preprocessing.

    `mean` and `std` are per channel, of images in [0, 1]. `weights_sha256` is the hash of the weights' file, empty for
    weights that timm downloaded.
    """

    name: str
    model: nn.Module
    class_names: tuple[str, ...]
    preprocess: Preprocess
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_sha256: str = ""

    def subtask(self, class_names: Sequence[str], name: str = "subtask") -> Subtask:
        """Look up some of this teacher's classes by name."""
        return find_subtask(self.class_names, class_names, name=name)

    def normalise(self) -> Normalise:
        """Return the module that turns uint8 images into this teacher's input."""
        return Normalise(self.mean, self.std)


def load_teacher(
    name: str, *, weights: Path | None = None, classes: Path | None = None, image_size: int | None = None
) -> Teacher:
    """Load a teacher with its labels and preprocessing.

    Args:
        name: `timm:NAME`, a folder in timm's layout (`config.json` and `model.safetensors`), or `embedded:glyphs100`.
        weights: a safetensors file or a state dict, read without unpickling code; for `timm:NAME` it replaces the
            pretrained weights that timm downloads.
        classes: a text file with one label a line, in output order; needed where the model has no labels.
        image_size: the side of the square images that replaces the model's own.

    Raises:
        UsageError: no such model, or different numbers of labels and outputs.
        DataError: the weights cannot be read, do not fit or cannot be fetched.
    """
    labels = _read_labels(classes) if classes is not None else None
    if name.startswith("timm:"):
        model = _create_from_timm(name.removeprefix("timm:"), weights, len(labels) if labels else None)
        origin = weights
    else:
        folder = _teacher_folder(name)
        if weights is not None:
            raise UsageError(
                f"--teacher-weights goes with --teacher timm:NAME; the folder {name} carries its own weights."
            )
        model = _create_from_folder(folder)
        origin = folder / "model.safetensors"
    model = model.float().eval()
    preprocess, mean, std = _preprocess_of(model, image_size)
    return Teacher(
        name=name,
        model=model,
        class_names=_check_labels(name, model, labels),
        preprocess=preprocess,
        mean=mean,
        std=std,
        weights_sha256=sha256_of_file(origin) if origin is not None else "",
    )


def _teacher_folder(name: str) -> Path:
    if name.startswith(EMBEDDED):
        folder = Path(str(resources.files("edgedistill").joinpath("embedded"))) / name.removeprefix(EMBEDDED)
        if not (folder / "config.json").is_file():
            raise UsageError(f"There is no embedded teacher {name!r}; the one that ships is embedded:glyphs100.")
        return folder
    folder = Path(name.removeprefix("local-dir:"))
    if not folder.is_dir():
        raise UsageError(
            f"The teacher {name!r} is neither timm:NAME nor an existing folder with config.json and model.safetensors."
            " Give one of the two with --teacher."
        )
    for part in ("config.json", "model.safetensors"):
        if not (folder / part).is_file():
            raise DataError(f"The teacher folder {folder} has no {part}; timm's save_for_hf writes both files.")
    return folder


def _create_from_folder(folder: Path) -> nn.Module:
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model: nn.Module = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True)
    except Exception as error:  # timm, safetensors and json raise many kinds for a bad folder
        raise DataError(f"The teacher in {folder} cannot be loaded: {_first_line(error)}.") from error
    return model


def _create_from_timm(name: str, weights: Path | None, class_count: int | None) -> nn.Module:
    check_timm_name(name)
    if weights is None:
        return _create_pretrained(name)
    state = _read_weights(weights)
    try:
        model: nn.Module = timm.create_model(name, num_classes=class_count or _outputs_in(name, state))
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise DataError(
            f"The weights {weights} do not fit timm:{name}"
            f"{f' with {class_count} classes, the number of labels given' if class_count else ''}: {_mismatch(error)}."
        ) from error
    return model


def check_timm_name(name: str) -> None:
    """Refuse a name that timm does not know; the message lists the nearest."""
    if not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}.{nearest_names(name, timm.list_models())}")


def _create_pretrained(name: str) -> nn.Module:
    # The hub client logs each retry; the one error below replaces these lines.
    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    hub_log.setLevel(logging.ERROR)
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # no network, no such file, no pretrained weights: timm and the hub raise many kinds
        raise DataError(
            f"The pretrained weights of timm:{name} could not be fetched ({_first_line(error)}); give a file with"
            " --teacher-weights, or a teacher folder in timm's layout."
        ) from error
    finally:
        hub_log.setLevel(level)
    return model


def _read_weights(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"There is no weights file {path}; give a .safetensors file or a PyTorch state dict.")
    try:
        state: dict[str, Any] = load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # truncated, pickled code, not a state dict
        raise DataError(
            f"The weights {path} cannot be read without running code from them ({_first_line(error)}); save them as"
            " safetensors or as a plain state dict."
        ) from error
    return state


def _outputs_in(name: str, state: dict[str, Any]) -> int:
    """Read the number of classes from the classifier's weight; timm knows its name for each architecture."""
    config: Any = timm.get_pretrained_cfg(name)
    classifier = config.classifier
    head = classifier[0] if isinstance(classifier, (tuple, list)) else classifier
    weight = state.get(f"{head}.weight")
    if weight is None:
        raise DataError(f"The weights have no classifier {head!r} of timm:{name}; are they of another architecture?")
    return int(weight.shape[0])


def _read_labels(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise UsageError(f"There is no class file {path}; it holds one label a line, in the teacher's output order.")
    return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())


def _check_labels(name: str, model: nn.Module, labels: tuple[str, ...] | None) -> tuple[str, ...]:
    outputs = int(model.num_classes)  # type: ignore[arg-type]  # timm models carry an int
    labels = labels if labels is not None else _labels_of(model)
    if labels is None:
        raise UsageError(
            f"The teacher {name} carries no labels for its {outputs} outputs; give them with --teacher-classes FILE, "
            "one a line, in output order."
        )
    if len(labels) != outputs:
        raise UsageError(
            f"The teacher {name} has {outputs} outputs, and {len(labels)} labels were given"
            f"{f', the first of them {labels[0]!r}' if labels else ''}; give one for each output, in output order."
        )
    return labels


def _labels_of(model: nn.Module) -> tuple[str, ...] | None:
    config: dict[str, Any] = dict(model.pretrained_cfg)  # type: ignore[arg-type]  # timm sets a mapping
    names = config.get("label_names")
    if isinstance(names, dict):  # timm allows {position: name}
        names = [names[position] for position in sorted(names, key=int)]
    if names:
        return tuple(str(name) for name in names)
    subset = infer_imagenet_subset(model)
    labels = imagenet_labels(subset) if subset is not None else ()
    return labels if len(labels) == model.num_classes else None


def _preprocess_of(
    model: nn.Module, image_size: int | None
) -> tuple[Preprocess, tuple[float, float, float], tuple[float, float, float]]:
    config: dict[str, Any] = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    height, width = (image_size, image_size) if image_size else config["input_size"][1:]
    if image_size:
        set_image_size(model, (height, width))
    squash = config["crop_mode"] == "squash"
    preprocess = Preprocess(
        size=(height, width),
        resize_mode="squash" if squash else "shortest",
        crop_fraction=1.0 if squash else float(config["crop_pct"]),
        interpolation=str(config["interpolation"]),
    )
    return preprocess, _three(config["mean"]), _three(config["std"])


def set_image_size(model: nn.Module, image_size: tuple[int, int]) -> None:
    """Set the input size (H, W) of a model that has a fixed one (ViT, Swin); other models do not change."""
    if (resize := getattr(model, "set_input_size", None)) is not None:
        resize(img_size=image_size)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    numbers = [float(value) for value in values]
    red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    return red, green, blue


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]


def _mismatch(error: RuntimeError) -> str:
    """Return the first line of torch's message that names a wrong key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[1] if len(lines) > 1 else lines[0]).rstrip(".")[:300]
