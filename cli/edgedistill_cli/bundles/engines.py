"""Build and show TensorRT engines for the command."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import InterruptedRunError
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.writing import require_inside, write_whole

if TYPE_CHECKING:
    from edgedistill_deploy.bundle.folder import Bundle
    from edgedistill_deploy.runtimes.engine_options import EngineOptions


def build_engine(
    bundle: "Bundle", precision: str, chosen: "EngineOptions", console: Console, out: Path | None
) -> dict[str, Any]:
    """Open the model with TensorRT, which builds the engine if the cache lacks it, and return the engine's record.

    Raises:
        UsageError: `out` ends in .json.
        BundleError: `out` or the cache lies in the bundle, and a symbolic link leads out of it from there.
        InterruptedRunError: Ctrl-C; TensorRT first stops at its next step.
    """
    from edgedistill_deploy.runtimes.opening import open_session

    if out is not None and out.suffix == ".json":
        raise UsageError(f"--out is {out}, but .json is for what describes the engine; call it FILE.engine.")
    for place in (chosen.cache, out):
        if place is not None and place.absolute().is_relative_to(bundle.path.absolute()):
            require_inside(place, bundle.path)
    try:
        with (
            console.progress(f"build {precision}") as report,
            open_session(bundle, runtime="tensorrt", precision=precision, engine=chosen, progress=report) as session,
        ):
            record = dict(session.engine_record or {})  # TensorRT always has one
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            "Interrupted; TensorRT stopped, and no engine was written. Run the same command to build it."
        ) from error
    if out is not None:
        engine = Path(record["path"])
        for source, target in ((engine, out), (engine.with_suffix(".json"), out.with_suffix(".json"))):
            with write_whole(target) as temporary:
                shutil.copyfile(source, temporary)
    return record


def show_engine(record: Mapping[str, Any], console: Console) -> None:
    """Print the engine, its target, its options, and the precision that the inspector reports."""
    if record["rebuilt_because"]:
        console.say(f"The engine in the cache was not taken: {record['rebuilt_because']}")
    options, gpu = record["options"], record["gpu"]
    how = "built before" if record["cached"] else f"built in {record['build_s']:.0f} s"
    layers = Counter(layer["precision"] or "not told" for layer in record["layers"])
    rows = {
        "engine": f"{record['path']} ({record['engine']['bytes'] / 1e6:.1f} MB, {how})",
        "model": f"{record['onnx']['name']}, {record['precision']}",
        "for": f"TensorRT {record['tensorrt']}, {gpu['name']} (compute capability {gpu['compute_capability']})",
        "images a run": f"{options['min_batch']} to {options['max_batch']}, tuned for {options['opt_batch']}",
        "workspace": f"{record['workspace_bytes'] / 2**20:.0f} MiB",
        "layers": ", ".join(f"{count} {precision}" for precision, count in sorted(layers.items())),
        "precision": f"{record['proof']['verdict']}: {record['proof']['detail']}",
    }
    for name, value in rows.items():
        console.result(f"{name + ':':<14}{value}")
