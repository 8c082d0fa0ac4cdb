"""Image classifiers of Hugging Face's transformers, from the hub or from a folder; code of a repository never runs."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgedistill.models.libraries._hub import from_hub
from edgedistill.models.libraries._image_processor import read_image_processor
from edgedistill.models.libraries.forms import check_transformers_form
from edgedistill.models.libraries.found import Found
from edgedistill.models.libraries.inputs import LogitsOutput
from edgedistill.models.libraries.messages import INSTEAD_OF_TRANSFORMERS, first_line
from edgedistill_deploy.errors import DataError, EdgeDistillError, MissingDependencyError


def load_from_transformers(name: str, image_size: int | None) -> Found:
    """Load the image classifier OWNER/NAME of the hub, or the folder of one."""
    library = _import_library()
    folder = Path(name)
    check_transformers_form(name)
    build = functools.partial(_load, library, name)
    with _quiet(library):
        if folder.is_dir():
            model, processor = _load_folder(build, folder)
        else:
            what = f"The files of transformers:{name}"
            model, processor = from_hub(build, name, what, INSTEAD_OF_TRANSFORMERS)
    preprocess, pixels = read_image_processor(f"transformers:{name}", processor)
    if image_size:
        preprocess = replace(preprocess, size=(image_size, image_size))
    weights = folder / "model.safetensors"
    return Found(
        model=LogitsOutput(model),
        labels=_labels_of(model.config),
        preprocess=preprocess,
        mean=pixels.mean,
        std=pixels.std,
        flips_colours=pixels.flips_colours,
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
