"""`engine`: build the TensorRT engine of a model on this device, and check its precision."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

EnginePrecision = Annotated[str, flag("--precision", "P", "fp32, fp16, int8, int8-fp16-tensorrt or teacher.")]
MinBatch = Annotated[int, flag("--min-batch", "N", "Fewest images a run.")]
OptBatch = Annotated[int, flag("--opt-batch", "N", "Images a run to tune for.")]
MaxBatch = Annotated[int, flag("--max-batch", "N", "Most images a run.")]
HardwareCompatible = Annotated[
    bool, typer.Option("--hardware-compatible", help="For all GPUs from Ampere on, somewhat slower; not on a Jetson.")
]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="For later versions of TensorRT too; the file then carries code.")
]
Tf32 = Annotated[bool, typer.Option("--tf32", help="Let fp32 products be computed in TF32.")]
Workspace = Annotated[int | None, flag("--workspace", "MIB", "Memory for computing; half of what is free by default.")]
EngineCache = Annotated[
    Path | None, flag("--engine-cache", "DIR", "Where engines are kept; ~/.cache/edgedistill/tensorrt by default.")
]
EngineFile = Annotated[Path | None, flag("--out", "FILE", "Also write the engine, and FILE's JSON beside it, here.")]
Load = Annotated[Path | None, flag("--load", "FILE", "Load this engine, from --out perhaps, instead of building one.")]


def engine(
    bundle: options.BundlePath,
    *,
    precision: EnginePrecision = "fp16",
    min_batch: MinBatch = 1,
    opt_batch: OptBatch = 1,
    max_batch: MaxBatch = 64,
    hardware_compatible: HardwareCompatible = False,
    version_compatible: VersionCompatible = False,
    tf32: Tf32 = False,
    workspace: Workspace = None,
    engine_cache: EngineCache = None,
    out: EngineFile = None,
    load: Load = None,
    console: Console,
) -> None:
    """Build a TensorRT engine on this device, or take it from the cache, and show what precision its layers really
    have.

    Exit code 0: as the file says, or some layers wider, which are named; 1: nowhere so; 4: TensorRT does not tell.
    """
    from edgedistill_cli.bundles.engines import build_engine, show_engine
    from edgedistill_cli.exit_codes import gate_code
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.runtimes.engine_options import EngineOptions

    chosen = EngineOptions(
        min_batch=min_batch,
        opt_batch=opt_batch,
        max_batch=max_batch,
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
        tf32=tf32,
        workspace_bytes=None if workspace is None else workspace << 20,
        cache=engine_cache,
        file=load,
    )
    record = build_engine(open_bundle(bundle), precision, chosen, console, out)
    console.emit(record)
    show_engine(record, console)
    raise typer.Exit(gate_code("inconclusive" if record["proof"]["verdict"] == "unproven" else "pass"))
