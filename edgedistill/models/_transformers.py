"""Image classifiers of Hugging Face's transformers, from the hub or from a folder; code of a repository never runs."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from edgedistill.models._found import Found, crop_fraction
from edgedistill.models._hub import from_hub
from edgedistill.models._inputs import LogitsOutput
from edgedistill.models._wording import first_line
from edgedistill.models.normalise import Normalise
from edgedistill_deploy.errors import DataError, EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.images.preprocess import INTERPOLATIONS, Preprocess

# Mean difference of a pixel, of 255, from the library's own preparation of an image; filters round differently.
_TOLERANCE = 2.0


def load_from_transformers(name: str, image_size: int | None) -> Found:
    """Load the image classifier OWNER/NAME of the hub, or the folder of one."""
    library = _import_library()
    folder = Path(name)
    if not folder.is_dir() and name.count("/") != 1:
        raise UsageError(f"transformers:{name} is neither OWNER/NAME of the hub nor an existing folder.")
    build = functools.partial(_load, library, name)
    with _quiet(library):
        if folder.is_dir():
            model, processor = _load_folder(build, folder)
        else:
            model, processor = from_hub(
                build, f"The files of transformers:{name}", "give the folder of an image classifier"
            )
    preprocess, (mean, std) = _preprocess_of(name, processor, image_size)
    weights = folder / "model.safetensors"
    return Found(
        model=LogitsOutput(model),
        labels=_labels_of(model.config),
        preprocess=preprocess,
        mean=mean,
        std=std,
        flips_colours=bool(getattr(processor, "do_flip_channel_order", False)),
        channels=int(getattr(model.config, "num_channels", 3)),
        origin=weights if weights.is_file() else None,
    )


def _import_library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("transformers", "transformers", "A teacher transformers:NAME") from error
    return transformers


def _load_folder(build: Any, folder: Path) -> tuple[Any, Any]:
    try:
        found: tuple[Any, Any] = build()
    except EdgeDistillError:
        raise
    except Exception as error:  # a bad folder: json, safetensors and transformers raise many kinds
        raise DataError(f"The teacher in {folder} cannot be loaded by transformers: {first_line(error)}.") from error
    return found


def _load(library: Any, name: str) -> tuple[Any, Any]:
    """Return (model, image processor). Raises DataError where the weights have no trained classifier."""
    model, report = library.AutoModelForImageClassification.from_pretrained(
        name, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
    )
    missing = sorted({*report["missing_keys"], *(str(each) for each in report["mismatched_keys"])})
    if missing:
        raise DataError(
            f"transformers:{name} is not a trained classifier: it lacks weights for {', '.join(missing[:4])}"
            f"{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}."
        )
    return model, library.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)


def _labels_of(config: Any) -> tuple[str, ...] | None:
    """Return the labels in output order; None where the library made them up (LABEL_0, LABEL_1, ...)."""
    named: Mapping[int, str] = config.id2label
    labels = tuple(str(named[position]) for position in sorted(named))
    made_up = tuple(f"LABEL_{position}" for position in range(len(labels)))
    return None if labels == made_up else labels


def _preprocess_of(
    name: str, processor: Any, image_size: int | None
) -> tuple[Preprocess, tuple[list[float], list[float]]]:
    """Read size, crop, filter and scaling from an image processor, and hold them against what it really does."""
    try:
        preprocess, scaling = _read_size(processor), _read_scaling(processor)
    except (AttributeError, KeyError, TypeError, ValueError, EdgeDistillError) as error:
        raise DataError(
            f"The image processor of transformers:{name}, {type(processor).__name__}, has settings that EdgeDistill "
            f"does not know: {first_line(error)}."
        ) from error
    apart = _difference(processor, preprocess, *scaling)
    if not apart <= _TOLERANCE:
        raise DataError(
            f"The image processor of transformers:{name}, {type(processor).__name__}, does something that EdgeDistill "
            f"does not know: the same image differs by {apart:.1f} of 255 on average. Save the model without it, in "
            "timm's layout, or give it with python:MODULE:FUNCTION."
        )
    if image_size:
        preprocess = _with_size(preprocess, image_size)
    return preprocess, scaling


def _with_size(preprocess: Preprocess, side: int) -> Preprocess:
    return Preprocess.from_json({**preprocess.to_json(), "size": [side, side]})


def _read_size(processor: Any) -> Preprocess:
    """Return the resize and the crop of an image processor."""
    interpolation = next(each for each, number in INTERPOLATIONS.items() if int(number) == int(processor.resample))
    size = {key: value for key, value in dict(processor.size).items() if value is not None}
    crop = _crop_of(processor)
    if "shortest_edge" not in size:
        sides = int(size["height"]), int(size["width"])
        cropped = crop or sides
        return Preprocess(
            size=cropped,
            resize_mode="squash",
            crop_fraction=crop_fraction(cropped[0], sides[0]),
            interpolation=interpolation,
        )
    edge = int(size["shortest_edge"])
    fraction = getattr(processor, "crop_pct", None)
    if fraction is not None and not crop:  # ConvNeXt's: it crops below 384, and squashes from there on
        mode, own = ("shortest", crop_fraction(edge, int(edge / fraction))) if edge < 384 else ("squash", 1.0)
        return Preprocess(size=(edge, edge), resize_mode=mode, crop_fraction=own, interpolation=interpolation)
    cropped = crop or (edge, edge)
    resized = int((256 / 224) * edge) if type(processor).__name__.startswith("Levit") else edge
    return Preprocess(size=cropped, crop_fraction=crop_fraction(cropped[0], resized), interpolation=interpolation)


def _crop_of(processor: Any) -> tuple[int, int] | None:
    if not getattr(processor, "do_center_crop", False):
        return None
    size = dict(processor.crop_size)
    return int(size["height"]), int(size["width"])


def _read_scaling(processor: Any) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of images in [0, 1] that have the effect of rescaling and normalising."""
    factor = float(processor.rescale_factor) if processor.do_rescale else 1.0
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    return ([(float(each) + offset) / (255 * factor) for each in mean], [float(each) / (255 * factor) for each in std])


def _difference(processor: Any, preprocess: Preprocess, mean: list[float], std: list[float]) -> float:
    """Return by how much of 255 a pixel differs on average from what the image processor makes of the same image."""
    height, width = (2 * side for side in preprocess.size)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (9 + 4 * channel)) * np.cos(columns / (14 - 3 * channel)) for channel in range(3)]
    image = Image.fromarray(np.uint8(127.5 + 120 * np.stack(waves, axis=-1)))
    theirs = processor(images=image, return_tensors="pt")["pixel_values"][0]
    if getattr(processor, "do_flip_channel_order", False):
        theirs = theirs.flip(0)
    own = Normalise(mean, std)(torch.from_numpy(preprocess.apply(image).copy())[None])[0]
    if theirs.shape != own.shape:
        return float("inf")
    spread = 255 * torch.tensor(std)[:, None, None]
    return float(((theirs - own) * spread).abs().mean())


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Silence the library's bars and warnings inside the block."""
    log = library.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
