"""timm's models: pretrained, from a folder in timm's layout, from the hub, or filled from a file of weights."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from edgedistill.models import small_images  # noqa: F401  # enters its model into timm's registry
from edgedistill.models.libraries._hub import from_hub, require_file_of
from edgedistill.models.libraries._weights import (
    choose_candidate,
    describe_mismatch,
    describe_shapes,
    find_candidates,
    find_tensor,
    read_checkpoint,
)
from edgedistill.models.libraries.forms import HUB
from edgedistill.models.libraries.found import Found
from edgedistill.models.libraries.messages import INSTEAD_OF_TIMM, first_line
from edgedistill.models.libraries.timm_names import check_timm_name, find_timm_labels, timm_config
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.preprocess import Preprocess


def load_from_timm(name: str, weights: Path | None, image_size: int | None, *, instead: str = INSTEAD_OF_TIMM) -> Found:
    """Load `timm:NAME` or `timm:hf-hub:OWNER/NAME`, with its pretrained weights or those of a file.

    `instead` ends the message where weights cannot be fetched: what the user can do.
    """
    check_timm_name(name)
    if weights is not None:
        return _fill(name, weights, image_size)
    return describe_timm_model(_create_pretrained(name, instead), image_size)


def load_from_timm_folder(folder: Path, image_size: int | None, *, whose: str = "teacher") -> Found:
    """Load a folder in timm's layout: `config.json` and `model.safetensors`; messages name it as `whose`."""
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model: nn.Module = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True)
    except Exception as error:  # timm, safetensors and json raise many kinds for a bad folder
        raise DataError(f"The {whose} in {folder} cannot be loaded: {first_line(error)}.") from error
    return describe_timm_model(model, image_size, origin=folder / "model.safetensors")


def set_image_size(model: nn.Module, image_size: tuple[int, int]) -> None:
    """Set the input size (H, W) of a model that has a fixed one (ViT, Swin); other models do not change."""
    if (resize := getattr(model, "set_input_size", None)) is not None:
        resize(img_size=image_size)


def check_fit(weights: str, trained: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise DataError where trained tensors have other names or shapes than a student's."""
    if trained.keys() != wanted.keys() or describe_shapes(trained, wanted):
        raise DataError(
            f"The weights {weights} do not fit the student: {describe_mismatch(trained, wanted)}; name the student that"
            " they are of with --student timm:NAME."
        )


def describe_timm_model(
    model: nn.Module, image_size: int | None, *, origin: Path | None = None, notes: tuple[str, ...] = ()
) -> Found:
    """Read labels, preprocessing and channels from what timm keeps beside a model; `image_size` replaces its own."""
    config: dict[str, Any] = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    kept: dict[str, Any] = dict(model.pretrained_cfg)  # type: ignore[arg-type]  # timm sets a mapping
    kept["num_classes"] = getattr(model, "num_classes", kept.get("num_classes", 0))
    own_size = config["input_size"][1:]
    height, width = (image_size, image_size) if image_size else own_size
    if image_size:
        _set_size_or_refuse(model, image_size)
    squash = config["crop_mode"] == "squash"
    return Found(
        model=model,
        labels=find_timm_labels(kept),
        preprocess=Preprocess(
            size=(height, width),
            resize_mode="squash" if squash else "shortest",
            crop_fraction=1.0 if squash else float(config["crop_pct"]),
            interpolation=str(config["interpolation"]),
        ),
        mean=config["mean"],
        std=config["std"],
        channels=_channels_of(model),
        origin=origin,
        notes=notes,
    )


def _set_size_or_refuse(model: nn.Module, side: int) -> None:
    try:
        set_image_size(model, (side, side))
    except (AssertionError, RuntimeError, ValueError) as error:  # patches that do not divide it, windows
        raise UsageError(f"The teacher cannot take images of {side} x {side}: {first_line(error)}.") from error


def _create_pretrained(name: str, instead: str) -> nn.Module:
    build = functools.partial(timm.create_model, name, pretrained=True)
    what = f"The pretrained weights of timm:{name}"
    repository = _repository_of(name)
    if not repository and (url := timm_config(name).get("url")):
        require_file_of(url, what, instead)
    model: nn.Module = from_hub(build, repository, what, instead)
    return model


def _repository_of(name: str) -> str:
    """Return OWNER/NAME of the hub's files of a model; empty where they lie on another server."""
    given = name.removeprefix(HUB) if name.startswith(HUB) else timm_config(name).get("hf_hub_id") or ""
    return str(given).partition("@")[0]


def _fill(name: str, weights: Path, image_size: int | None) -> Found:
    """Build a model with as many outputs and channels as the weights have, and fill it."""
    checkpoint = read_checkpoint(weights)
    config = _config_of(name)
    outputs = _size_in(checkpoint, config["classifier"], 0, config["num_classes"])
    is_grey = _size_in(checkpoint, config["first_conv"], 1, 3) == 1
    shape: dict[str, Any] = {"num_classes": outputs} | ({"in_chans": 1} if is_grey else {})
    model: nn.Module = timm.create_model(name, **shape)
    if image_size:
        _set_size_or_refuse(model, image_size)
    chosen = choose_candidate(checkpoint, model.state_dict())
    if chosen is not None and not describe_shapes(chosen.state, model.state_dict()):
        model.load_state_dict(dict(chosen.state), strict=True)
        return describe_timm_model(model, image_size, origin=weights, notes=_notes(chosen.note(weights)))
    return _fill_as_timm_does(name, weights, checkpoint, model, image_size)


def _fill_as_timm_does(
    name: str, weights: Path, checkpoint: Mapping[str, Any], model: nn.Module, image_size: int | None
) -> Found:
    """Let timm change what it knows of this architecture: position embeddings of another size, names of its authors."""
    wanted = model.state_dict()
    chosen = choose_candidate(checkpoint, wanted) or next(find_candidates(checkpoint))
    height, width = (image_size, image_size) if image_size else model.pretrained_cfg["input_size"][1:]  # type: ignore[index]
    outputs, channels = int(model.num_classes), _channels_of(model)  # type: ignore[arg-type]  # timm models carry an int
    found = {
        "state_dict": dict(chosen.state),
        "num_classes": outputs,
        "input_size": (channels, height, width),
        "label_offset": 0,
        "custom_load": False,
    }
    shape: dict[str, Any] = {"num_classes": outputs} | ({"in_chans": 1} if channels == 1 else {})
    if image_size and hasattr(model, "set_input_size"):
        shape["img_size"] = image_size
    try:
        filled: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=found, **shape)
    except Exception as error:  # timm's filters raise any kind for names that they do not expect
        raise DataError(
            f"The weights {weights} do not fit timm:{name}: {describe_mismatch(checkpoint, wanted)}."
        ) from error
    _forget_weights(filled)
    resampled = describe_shapes(chosen.state, filled.state_dict())
    changed = (
        f"{weights.name} is of another image size than {height} x {width}, so timm resampled it: {resampled}"
        if resampled
        else f"{weights.name} has other names than timm:{name}, and timm translated them"
    )
    return describe_timm_model(filled, image_size, origin=weights, notes=_notes(chosen.note(weights), changed))


def _notes(*notes: str) -> tuple[str, ...]:
    return tuple(note for note in notes if note)


def _config_of(name: str) -> dict[str, Any]:
    if not name.startswith(HUB):
        return timm_config(name)
    build = functools.partial(timm.create_model, name)
    model: Any = from_hub(build, _repository_of(name), f"The settings of timm:{name}", INSTEAD_OF_TIMM)
    return dict(model.pretrained_cfg)


def _size_in(checkpoint: Mapping[str, Any], layer: Any, axis: int, otherwise: int) -> int:
    """Read one side of a layer's weight from a checkpoint; timm knows the layer's name for each architecture."""
    first = layer[0] if isinstance(layer, (tuple, list)) else layer
    weight: Tensor | None = find_tensor(checkpoint, f"{first}.weight") if first else None
    return int(weight.shape[axis]) if weight is not None and weight.ndim > axis else otherwise


def _channels_of(model: nn.Module) -> int:
    """Read the channels of a model's images from its first convolution; timm's settings may be those of another."""
    config: dict[str, Any] = dict(model.pretrained_cfg)  # type: ignore[arg-type]
    layer = config.get("first_conv")
    first = layer[0] if isinstance(layer, (tuple, list)) else layer
    convolution = dict(model.named_modules()).get(first) if first else None
    return convolution.in_channels if isinstance(convolution, nn.Conv2d) else int(config["input_size"][0])


def _forget_weights(model: nn.Module) -> None:
    """Drop the state dict that timm keeps beside a model that was built from it."""
    config: Any = model.pretrained_cfg
    model.pretrained_cfg = {key: value for key, value in config.items() if key != "state_dict"}  # type: ignore[assignment]
