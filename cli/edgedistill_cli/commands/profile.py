"""`profile`: how long one inference takes on this machine."""

from typing import Annotated

import typer

from edgedistill_cli import options

BatchSize = Annotated[
    int | None, typer.Option("--batch-size", metavar="N", help="Images an inference; 1 by default.")
]
Duration = Annotated[
    float | None, typer.Option("--duration", metavar="S", help="Seconds to measure; 10 by default.")
]
ProfileThreads = Annotated[
    int, typer.Option("--threads", metavar="N", min=1, help="CPU threads of the runtime.")
]
Warmup = Annotated[
    float | None, typer.Option("--warmup", metavar="S", help="Seconds to warm up; 1 by default.")
]


def profile(
    context: typer.Context,
    bundle: options.BundlePath,
    device: options.Devices = None,
    keep: options.Keep = False,
    wait: options.Wait = None,
    runtime: options.Runtime = "onnxruntime",
    precision: options.Precision = None,
    provider: options.Provider = "cpu",
    batch_size: BatchSize = None,
    threads: ProfileThreads = 1,
    duration: Duration = None,
    warmup: Warmup = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Measure latency, throughput and memory of the bundle's models on this machine, or on devices over SSH."""
    from edgedistill_cli.profiling import profile_bundle, show_latency
    from edgedistill_cli.remote_measuring import Targets, profile_on_devices, require_devices
    from edgedistill_cli.tables import show_choices
    from edgedistill_deploy.bundle import open_bundle
    from edgedistill_deploy.latency import LatencyConfig
    from edgedistill_deploy.profiling import ProfileRequest

    console = options.console_of(as_json, quiet, verbose)
    plain = LatencyConfig()
    config = LatencyConfig(
        batch_size=plain.batch_size if batch_size is None else batch_size,
        duration_s=plain.duration_s if duration is None else duration,
        warmup_s=plain.warmup_s if warmup is None else warmup,
    )
    request = ProfileRequest(
        runtimes=(runtime,),
        precisions=None if precision is None else (precision,),
        provider=provider,
        threads=threads,
        batch_sizes=(config.batch_size,),
        latency=config,
    )
    opened = open_bundle(bundle)
    require_devices(device, {"--keep": keep, "--wait": wait})
    if device:
        targets = Targets.of(context, device, keep, wait)
        raise typer.Exit(profile_on_devices(opened, console, targets, request))
    profile = profile_bundle(opened, console, request)
    console.emit(profile if precision is None else profile["records"][0])
    show_latency(profile["records"], console)
    show_choices(opened, console)
