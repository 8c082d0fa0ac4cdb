"""torchvision's classifiers, with the labels and the preprocessing of one of its sets of weights."""

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn

from edgedistill.models.libraries._hub import require_file_of
from edgedistill.models.libraries._weights import (
    State,
    choose_candidate,
    describe_mismatch,
    describe_shapes,
    read_checkpoint,
)
from edgedistill.models.libraries.forms import refuse_features
from edgedistill.models.libraries.found import Found, crop_fraction
from edgedistill.models.libraries.messages import INSTEAD_OF_TORCHVISION, first_line
from edgedistill.models.torchvision_list import refuse_unknown
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.preprocess import Preprocess


def load_from_torchvision(name: str, weights: Path | None, image_size: int | None) -> Found:
    """Load NAME or NAME:WEIGHTS, with these weights of torchvision (its best ones by default) or those of a file."""
    architecture, _, wanted = name.partition(":")
    entry = _find_weights(architecture, wanted)
    labels = torchvision_labels(name)
    state: State
    notes: list[str]
    if weights is None:
        state, outputs, notes = _fetch(f"torchvision:{name}", entry), len(labels), []
    else:
        state, outputs, notes = _read(name, weights)
    model = _filled(name, outputs, state, image_size)
    if resampled := describe_shapes(state, model.state_dict()):
        notes.append(f"the weights are of another image size, so torchvision resampled them: {resampled}")
    fitting = labels if len(labels) == outputs else None
    return _describe(model, entry, image_size, labels=fitting, notes=tuple(notes), origin=weights)


def torchvision_labels(name: str) -> tuple[str, ...]:
    """Return the labels of NAME or NAME:WEIGHTS, in output order; nothing is loaded or fetched."""
    architecture, _, wanted = name.partition(":")
    labels = _find_weights(architecture, wanted).meta["categories"]
    if labels is None:
        refuse_features(f"torchvision:{name}")
    return tuple(map(str, labels))


def _find_weights(architecture: str, wanted: str) -> Any:
    """Return torchvision's entry of weights, with their labels and transforms."""
    from torchvision import models

    known = models.list_models(module=models)
    entries: Any = models.get_model_weights(architecture) if architecture in known else ()
    refuse_unknown(architecture, known, wanted, [each.name for each in entries])
    return entries[wanted or "DEFAULT"]


def _build(architecture: str, outputs: int, **shape: Any) -> nn.Module:
    from torchvision import models

    with warnings.catch_warnings():  # two of the oldest warn that their initial weights, replaced here, are slow
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = models.get_model(architecture, weights=None, num_classes=outputs, **shape)
    return model


def _fetch(what: str, entry: Any) -> State:
    subject = f"The pretrained weights of {what}"
    instead = INSTEAD_OF_TORCHVISION
    require_file_of(entry.url, subject, instead)
    try:
        state: State = entry.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # a broken download
        raise DataError(f"{subject} could not be fetched ({first_line(error)}); {instead}.") from error
    return state


def _read(name: str, weights: Path) -> tuple[State, int, list[str]]:
    """Return a file's state dict under the architecture's names, its number of outputs, and what was taken off."""
    checkpoint = read_checkpoint(weights)
    wanted = _build(name.partition(":")[0], 1000).state_dict()  # for its names
    chosen = choose_candidate(checkpoint, wanted)
    if chosen is None:
        raise DataError(
            f"The weights {weights} do not fit torchvision:{name}: {describe_mismatch(checkpoint, wanted)}."
        )
    note = chosen.note(weights)
    last = list(wanted)[-1]  # the classifier's bias or weight
    return chosen.state, len(chosen.state[last]), [note] if note else []


def _filled(name: str, outputs: int, state: State, image_size: int | None) -> nn.Module:
    """Build the model for the size of images asked for, and fill it."""
    architecture = name.partition(":")[0]
    model = _build(architecture, outputs)
    own_size: Any = getattr(model, "image_size", None)  # its vision transformers: the number of positions depends on it
    if own_size:
        side = image_size or int(own_size)
        model = model if side == own_size else _build_sized(architecture, outputs, side)
        state = _resampled(name, model, state, side)
    if shapes := describe_shapes(state, model.state_dict()):
        raise DataError(f"The weights do not fit torchvision:{name}: {shapes}.")
    model.load_state_dict(dict(state), strict=False)  # the names were compared; counters may lack
    return model


def _build_sized(architecture: str, outputs: int, side: int) -> nn.Module:
    try:
        return _build(architecture, outputs, image_size=side)
    except Exception as error:  # torchvision checks with torch's assertions
        raise UsageError(
            f"torchvision:{architecture} cannot take images of {side} x {side}: {first_line(error)}."
        ) from error


def _resampled(name: str, model: nn.Module, state: State, side: int) -> State:
    """Resample the positions of a vision transformer to images of this side."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    patch: Any = model.patch_size
    try:
        fitting: State = interpolate_embeddings(side, patch, OrderedDict(state))
    except ValueError as error:  # positions that are no square
        raise DataError(f"The weights do not fit torchvision:{name}: {first_line(error)}.") from error
    return fitting


def _describe(model: nn.Module, entry: Any, image_size: int | None, **rest: Any) -> Found:
    """Read the preprocessing from the transforms that torchvision keeps beside the weights."""
    transforms: Any = entry.transforms()
    crop, resized = transforms.crop_size[0], transforms.resize_size[0]
    return Found(
        model=model,
        preprocess=Preprocess(
            size=(image_size or crop, image_size or crop),
            crop_fraction=crop_fraction(crop, resized),
            interpolation=str(transforms.interpolation.value),
        ),
        mean=transforms.mean,
        std=transforms.std,
        **rest,
    )
