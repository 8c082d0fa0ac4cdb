"""Pack a bundle for a device, and say what was written."""

from pathlib import Path

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.integration.packing import PackTarget, pack_bundle
from edgedistill_deploy.integration.snippet import PROGRAM_RUNTIME, find_language
from edgedistill_deploy.onnx_files.content import Versions
from edgedistill_deploy.records.writing import SCHEMA

NO_LANGUAGE = "none"
_USUAL_LANGUAGE = "python"


def pack_for(
    path: Path,
    target: str,
    *,
    reader: str,
    newest: tuple[int, int],
    export_name: str,
    out: Path | None,
    precision: str | None,
    language: str | None,
    console: Console,
) -> None:
    """Write the packed bundle; see `pack_bundle`. `newest` are the newest operator set and IR version that are read.

    `language` is that of the program in it; None for the usual one where there is one for the runtime, "none" for none.
    Raises UsageError for a place inside the bundle.
    """
    bundle = open_bundle(path, verify=False)
    place = out or path.resolve().parent / f"{path.resolve().name}-{target}"
    if place.absolute().is_relative_to(path.absolute()):
        raise UsageError(f"{place} lies inside the bundle {path}; choose an --out beside it.")
    runtime = "onnxruntime" if export_name.startswith("onnxruntime") else "tensorrt"
    wanted = PackTarget(
        name=export_name, runtime=runtime, reader=reader, newest=Versions(opset=newest[0], ir_version=newest[1])
    )
    usual = _USUAL_LANGUAGE if runtime == PROGRAM_RUNTIME else NO_LANGUAGE
    chosen = usual if language is None else language
    packed = pack_bundle(bundle, wanted, place, precision, None if chosen == NO_LANGUAGE else find_language(chosen))
    console.emit(
        {
            "kind": "pack",
            "schema": SCHEMA,
            "path": str(packed.path),
            "target": target,
            "runtime": runtime,
            "precision": packed.precision,
            "language": None if chosen == NO_LANGUAGE else chosen,
            "bytes": packed.total_bytes,
            "files": dict(packed.files),
        }
    )
    whole = sum(int(entry["bytes"]) for entry in bundle.manifest["files"].values())
    console.say(f"note: {packed.precision} is packed: {packed.reason}.")
    console.result(
        f"{packed.path}: {len(packed.files)} files, {words.size(packed.total_bytes)} of the bundle's "
        f"{words.size(whole)}."
    )
