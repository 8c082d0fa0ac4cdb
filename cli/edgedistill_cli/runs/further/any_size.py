"""Files that take images of any size, beside the expert's files of a run or of a bundle."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.runs.libraries import require_libraries
from edgedistill_cli.settings_file import read_settings
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.precisions import any_size_role
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.locks import hold_folder
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.golden import make_golden_images
from edgedistill_deploy.records.writing import SCHEMA

if TYPE_CHECKING:
    from PIL import Image

_MOST_IMAGES = 48  # of the run's own that the files are compared on


def add_any_size(folder: Path, settings: Mapping[str, Any], console: Console) -> None:
    """Write the files beside those that are there; see `write_any_size`.

    `settings` are those of the other flags. Raises UsageError where there are any.
    """
    if settings:
        raise UsageError(
            "--any-size makes files out of those that are there; run `edgedistill export` with the other flags first, "
            "and `edgedistill export --any-size` then."
        )
    open_bundle(folder, verify=False)  # before anything is made there
    with hold_folder(folder, "edgedistill export", note=console.say):
        bundle = _write(open_bundle(folder, verify=False), console)
    written = [f"{any_size_role(each)}.onnx" for each in bundle.manifest["any_size"]]
    console.result(f"{folder}: {', '.join(written)} written")
    console.emit(
        {
            "kind": "any-size",
            "schema": SCHEMA,
            "bundle": bundle.name,
            "files": {f"{any_size_role(each)}.onnx": record for each, record in bundle.manifest["any_size"].items()},
        }
    )


def renew_any_size(run: Run) -> None:
    """Write the files again where the run has some, after their models changed; where that fails, remove them."""
    from edgedistill.export.any_size import has_any_size, remove_any_size

    if not has_any_size(run.bundle):
        return
    try:
        _write(run.bundle, run.console)
    except EdgeDistillError as error:
        remove_any_size(run.bundle)
        run.console.warn(f"note: {error} The earlier ones are removed.")


def _write(bundle: Bundle, console: Console) -> Bundle:
    require_libraries("--any-size", ("onnx", "onnxruntime"), "quantize")
    from edgedistill.export.any_size import write_any_size

    drawn = [read_image(content) for content in make_golden_images(bundle.preprocess).files]
    with console.progress("any size") as report:
        bundle = write_any_size(bundle, [*drawn, *_own_images(bundle.path, console)], report)
    for precision, record in bundle.manifest["any_size"].items():
        console.say(f"export: {any_size_role(precision)}.onnx written; {_describe(record)}.")
    return bundle


def _describe(record: Mapping[str, Any]) -> str:
    largest, apart = record["largest_difference"], record["probability_difference"]
    pixels = "its pixels are Pillow's" if largest == 0 else f"its pixels are within {largest} level of Pillow's"
    answers = "its answers the file's" if apart == 0 else f"its probabilities within {apart:.1e} of the file's"
    return f"on {record['image_count']} images {pixels} and {answers}"


def _own_images(folder: Path, console: Console) -> "Iterator[Image.Image]":
    """Yield images of the run's data, spread over it; none where the folder is no run or its data are gone."""
    if not (folder / "settings.toml").is_file():
        return
    from edgedistill.data.sources import open_source

    source = read_settings(folder / "settings.toml", {}).data.source
    try:
        splits = open_source(source)
        images = splits.test or splits.validation or splits.train
        step = max(1, len(images) // _MOST_IMAGES)
        yield from (images.read(index) for index in range(0, len(images), step)[:_MOST_IMAGES])
    except EdgeDistillError as error:
        console.say(f"note: Drawn pictures alone are compared, because the images of {source} cannot be read: {error}")
