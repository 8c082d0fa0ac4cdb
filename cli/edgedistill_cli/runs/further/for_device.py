"""A further INT8 file for one device, beside the calibrated files of a run or of a bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_cli.runs.libraries import require_libraries
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.locks import hold_folder
from edgedistill_deploy.records.writing import SCHEMA

if TYPE_CHECKING:
    from edgedistill_calibration.for_device import DeviceFile


def add_for_device(folder: Path, record: Path, settings: Mapping[str, Any], console: Console) -> None:
    """Write the file from the node times in a latency record; see `calibrate_for`.

    `settings` are those of the other flags. Raises UsageError where there are any.
    """
    if settings:
        raise UsageError(
            "--for makes a file out of those that are calibrated; run `edgedistill calibrate` with the other flags "
            f"first, and `edgedistill calibrate {folder} --for {record}` then."
        )
    require_libraries("--for", ("onnx", "onnxruntime"), "quantize")
    from edgedistill_calibration.for_device import calibrate_for

    open_bundle(folder, verify=False)  # before anything is made there
    with hold_folder(folder, "edgedistill calibrate", note=console.say):
        bundle, made = calibrate_for(open_bundle(folder, verify=False), record)
    if made.made_before:
        console.say("calibrate: done before from the same files and records, kept")
    _show(made, console)
    document = {"kind": "calibration-for-device", "schema": SCHEMA, "bundle": bundle.name}
    console.emit({**document, **made.to_json()})


def _show(made: "DeviceFile", console: Console) -> None:
    console.table(
        f"Nodes on {made.device}, one run each",
        ["node", "kind", "fp32", "INT8", "in the file"],
        [
            [
                each.node,
                each.op_type,
                words.milliseconds(each.fp32_ms),
                words.milliseconds(each.int8_ms),
                "INT8" if each.is_int8 else "fp32",
            ]
            for each in made.nodes
        ],
    )
    console.result(made.sentence())
