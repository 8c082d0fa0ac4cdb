"""Profile the models of a bundle on this machine, and show the figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle import Bundle
from edgedistill_deploy.report import wording as words
from edgedistill_deploy.report.summary import label_of

if TYPE_CHECKING:
    from edgedistill_deploy.profiling import ProfileRequest


def profile_bundle(bundle: Bundle, console: Console, request: "ProfileRequest") -> dict[str, Any]:
    """Measure as asked, write the records into the bundle, and return them."""
    from edgedistill_deploy.profiling import run_profile, write_profile
    from edgedistill_deploy.recommendation import record_choices

    with console.progress("profile") as report:
        profile = run_profile(bundle.path, request, lambda name, done, total: report(done, total, name))
    write_profile(bundle, profile)
    record_choices(bundle)
    return profile


def show_latency(records: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print percentiles, throughput and memory, a column per record, then what makes the figures doubtful."""
    labels = [label_of(record["precision"]) for record in records]
    console.table(
        f"Latency on {records[0]['device']['name']}",
        ["", *labels],
        [
            ["runtime", *(f"{record['runtime']} {record['provider']}" for record in records)],
            ["batch, threads", *(f"{record['batch_size']}, {record['threads']}" for record in records)],
            ["p50", *(words.milliseconds(record["p50_ms"]) for record in records)],
            ["p90", *(words.milliseconds(record["p90_ms"]) for record in records)],
            ["p99", *(words.milliseconds(record["p99_ms"]) for record in records)],
            ["images a second", *(words.quantity(record["throughput_per_s"]) for record in records)],
            ["load", *(words.milliseconds(record["load_ms"]) for record in records)],
            ["first run", *(words.milliseconds(record["first_run_ms"]) for record in records)],
            ["peak memory", *(words.size(record["peak_memory_bytes"]) for record in records)],
        ],
    )
    for label, record in zip(labels, records, strict=True):
        for warning in record["warnings"]:
            console.result(f"{label}: {warning}")
