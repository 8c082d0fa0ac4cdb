"""The tables a user reads at the end of a command."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle import Bundle

if TYPE_CHECKING:
    from edgedistill_deploy.latency import LatencyReport
    from edgedistill_deploy.parity import ParityReport

_LABELS = {"teacher": "teacher fp32", "fp32": "expert fp32", "fp16": "expert fp16", "int8": "expert int8"}


def label_of(precision: str) -> str:
    """Return what a table calls the model of a precision."""
    return _LABELS.get(precision, f"expert {precision}")


def percent(share: float | None) -> str:
    """Write a share as a percentage with one decimal; "-" where it was not measured."""
    return "-" if share is None else f"{100 * share:.1f} %"


def percent_interval(share: float | None, interval: tuple[float | None, float | None]) -> str:
    """Write a share with its interval, in per cent."""
    low, high = interval
    if share is None or low is None or high is None:
        return "-"
    return f"{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}] %"


def points_interval(drop: float | None, interval: tuple[float | None, float | None]) -> str:
    """Write a difference of accuracies with its interval, in percentage points."""
    low, high = interval
    if drop is None or low is None or high is None:
        return "-"
    return f"{100 * drop:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def milliseconds(value: float | None) -> str:
    """Write a time in milliseconds with three significant digits."""
    return "-" if value is None else f"{value:.3g} ms"


def show_summary(bundle: Bundle, console: Console) -> None:
    """Print one row per model: cost, size, accuracy, agreement, latency, verdict; then each expert's verdict in words."""
    from edgedistill_deploy.report.summary import summarise

    rows = summarise(bundle)
    console.table(
        "Summary",
        ("model", "parameters", "multiply-adds", "file", "accuracy", "agreement", "p50", "p99", "verdict"),
        [
            (
                label_of(row.precision),
                _millions(row.parameters),
                _millions(row.multiply_adds),
                "-" if row.file_bytes is None else f"{row.file_bytes / 1e6:.2f} MB",
                percent_interval(row.accuracy, row.accuracy_interval),
                percent(row.agreement),
                milliseconds(row.p50_ms),
                milliseconds(row.p99_ms),
                row.verdict or "-",
            )
            for row in rows
        ],
    )


def _millions(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f} M"


def show_parity(reports: "Sequence[ParityReport]", console: Console) -> None:
    """Print accuracy, drop and verdict of each model, then the reasons."""
    console.table(
        "Parity with the teacher on the subtask",
        ("model", "images", "teacher", "accuracy", "drop (points)", "agreement", "verdict"),
        [
            (
                label_of(report.precision),
                str(report.sample_count),
                percent(report.accuracy.teacher),
                percent_interval(report.accuracy.candidate, report.accuracy.candidate_interval),
                points_interval(report.accuracy.drop, report.accuracy.interval),
                percent(report.agreement),
                report.verdict,
            )
            for report in reports
        ],
    )
    for report in reports:
        for reason in (*report.reasons, *report.notes):
            console.result(f"{label_of(report.precision)}: {reason}")


def show_latency(reports: "Sequence[LatencyReport]", console: Console) -> None:
    """Print percentiles, throughput and memory of each model, then what makes the figures doubtful."""
    console.table(
        "Latency on this machine",
        (
            "model",
            "provider",
            "batch",
            "threads",
            "p50",
            "p90",
            "p99",
            "images/s",
            "load",
            "first run",
            "peak memory",
        ),
        [
            (
                label_of(report.precision),
                report.provider,
                str(report.batch_size),
                str(report.threads),
                milliseconds(report.p50_ms),
                milliseconds(report.p90_ms),
                milliseconds(report.p99_ms),
                "-" if report.throughput_per_s is None else f"{report.throughput_per_s:.0f}",
                milliseconds(report.load_ms),
                milliseconds(report.first_run_ms),
                "-" if report.peak_memory_bytes is None else f"{report.peak_memory_bytes / 1e6:.0f} MB",
            )
            for report in reports
        ],
    )
    for report in reports:
        for warning in report.warnings:
            console.result(f"{label_of(report.precision)}: {warning}")
