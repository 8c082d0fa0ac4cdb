"""`profile`: how long one inference takes on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

Precisions = Annotated[
    str | None, flag("--precisions", "A,B", "Measure these and compare each with the first, by alternating blocks.")
]
Runtimes = Annotated[
    str | None, flag("--runtimes", "A,B", "Measure on these runtimes and compare them, as --precisions.")
]
Providers = Annotated[
    str | None,
    flag("--providers", "A,B", "Measure on these providers of ONNX Runtime and compare them, as --precisions."),
]
Provider = Annotated[
    str | None,
    flag(
        "--provider",
        "NAME[:DEVICE]",
        "ONNX Runtime's back end: cpu, cuda, tensorrt, openvino, xnnpack, qnn or coreml; by default cpu, and what else "
        "it has here for the processor.",
    ),
]
BatchSize = Annotated[str | None, flag("--batch-size", "N[,N...]", "Images an inference; 1 by default.")]
Sweep = Annotated[
    bool, typer.Option("--sweep", help="Batches of 1, 2, 4, 8, 16 and 32 images: where throughput stops growing.")
]
Rate = Annotated[
    float | None, flag("--rate", "R", "Let R images a second arrive, and time them from arrival to completion.")
]
Arrivals = Annotated[str, flag("--arrivals", "poisson|constant", "How the images of --rate arrive.")]
ColdStart = Annotated[
    bool, typer.Option("--cold-start", help="Time new processes from their start to the first answer.")
]
EndToEnd = Annotated[
    bool, typer.Option("--end-to-end", help="Time from the bytes of a JPEG: decoding, resizing and inference.")
]
Layers = Annotated[
    bool, typer.Option("--layers", help="Time every node by the runtime's profiler, with the student's modules.")
]
Power = Annotated[
    bool, typer.Option("--power", help="Read the board's power: energy of an image, power at rest subtracted.")
]
Against = Annotated[
    Path | None, flag("--against", "FILE", "Compare with an earlier latency record, or what --json printed.")
]
Margin = Annotated[float, flag("--margin", "X", "Of comparisons: smaller differences are none; 0.03 is 3 %.")]
BudgetMs = Annotated[
    float | None, flag("--budget-ms", "X", "A gate on the latency: exit code 3 when it is broken, 4 when undecided.")
]
Seed = Annotated[int, flag("--seed", "N", "Of arrivals, of the order of blocks, and of the bootstrap.")]


def profile(
    context: typer.Context,
    bundles: options.BundlePaths,
    *,
    device: options.Devices = None,
    keep: options.Keep = False,
    wait: options.Wait = None,
    runtime: options.Runtime = "onnxruntime",
    runtimes: Runtimes = None,
    precision: options.Precision = None,
    precisions: Precisions = None,
    provider: Provider = None,
    providers: Providers = None,
    batch_size: BatchSize = None,
    sweep: Sweep = False,
    threads: options.ProfileThreads = 1,
    duration: options.Duration = None,
    warmup: options.Warmup = None,
    limit_s: options.LimitS = None,
    rate: Rate = None,
    arrivals: Arrivals = "poisson",
    cold_start: ColdStart = False,
    end_to_end: EndToEnd = False,
    layers: Layers = False,
    power: Power = False,
    against: Against = None,
    margin: Margin = 0.03,
    budget_ms: BudgetMs = None,
    percentile: options.Percentile = 99.0,
    record: options.Record = None,
    seed: Seed = 0,
    console: Console,
) -> None:
    """Measure latency, throughput and memory of the bundle's models on this machine, or on devices over SSH."""
    from edgedistill_cli.bundles import profiling
    from edgedistill_cli.bundles.devices import Targets, require_devices
    from edgedistill_cli.bundles.tasks import ProfileTask, profile_each
    from edgedistill_deploy.profiling.request import ProfileRequest

    named = profiling.one_or_several(provider, providers, "--providers")
    request = ProfileRequest(
        runtimes=profiling.one_or_several(runtime, runtimes, "--runtimes") or ("onnxruntime",),
        precisions=profiling.one_or_several(precision, precisions, "--precisions"),
        providers=named or ("cpu",),
        added=() if named or device else profiling.providers_nobody_named(),
        threads=threads,
        batch_sizes=profiling.batch_sizes(batch_size, sweep=sweep),
        latency=profiling.latency_config(duration, warmup),
        rate=rate,
        arrivals=profiling.arrivals_named(arrivals),
        cold_start=cold_start,
        end_to_end=end_to_end,
        layers=layers,
        power=power,
        compare=any(each is not None for each in (precisions, runtimes, providers)),
        margin=margin,
        seed=seed,
        **options.not_none(limit_s=limit_s),
    )
    require_devices(device, {"--keep": keep, "--wait": wait})
    task = ProfileTask(
        request=request,
        gates=profiling.Gates.of(budget_ms, percentile, against, margin, seed),
        targets=Targets.of(context, device, keep, wait) if device else None,
        record=record,
        is_one_model=precision is not None,
    )
    raise typer.Exit(profile_each(bundles, task, console))
