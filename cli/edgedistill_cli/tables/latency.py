"""The tables at the end of `profile`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_cli.tables.layers import show_layers, show_power
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.hardware.int8_outlook import outlook_sentence
from edgedistill_deploy.recommendation.summary import label_of

Record = Mapping[str, Any]
_VERDICTS = {"equal": "not distinguishable", "inconclusive": "undecided"}


def show_profile(profile: Mapping[str, Any], console: Console) -> None:
    """Print the latencies, then the other measurements, then the verdicts."""
    records = profile["records"]
    _show_latency(records, console)
    _show_doubts(records, console)
    for part, title, rows in _PARTS:
        _show_part([record for record in records if record.get(part)], part, title, rows, console)
    for record in records:
        if record.get("layers"):
            show_layers(record, _column_name(record, records), console)
    powered = [record for record in records if record.get("power")]
    show_power(powered, [_column_name(record, records) for record in powered], console)
    if profile.get("comparison"):
        _show_comparison(profile["comparison"], console)
    for record in records:
        for sentence in _describe_verdicts(record, added=record["provider"] in profile.get("added", ())):
            console.result(f"{_column_name(record, records)}: {sentence}")


def _show_latency(records: Sequence[Record], console: Console) -> None:
    """Print percentiles, throughput and memory, a column for each record; an unusual provider has its own table."""
    for where in dict.fromkeys(map(_with_provider, records)):
        _show_place([record for record in records if _with_provider(record) == where], console)


def _show_place(records: Sequence[Record], console: Console) -> None:
    engine_sizes = [record.get("engine_bytes") for record in records]
    console.table(
        f"Latency on {records[0]['device']['name']}{_with_provider(records[0])}",
        ["", *(label_of(record["precision"]) for record in records)],
        [
            ["runtime", *(f"{record['runtime']} {record['provider']}" for record in records)],
            ["batch, threads", *(f"{record['batch_size']}, {record['threads']}" for record in records)],
            *(
                row
                for name in ("p50", "p90", "p99")
                for row in (
                    [name, *(words.milliseconds(record[f"{name}_ms"]) for record in records)],
                    ["  interval", *(_interval(record["intervals"][f"{name}_ms"]) for record in records)],
                )
            ),
            ["p99 undisturbed", *(words.milliseconds(_clean_p99(record)) for record in records)],
            ["images a second", *(words.quantity(record["throughput_per_s"]) for record in records)],
            ["runs, warm-up", *(f"{record['runs']}, {record['warmup_runs']}" for record in records)],
            ["empty call", *(words.milliseconds(record["loop_overhead_ms"]) for record in records)],
            ["load", *(words.milliseconds(record["load_ms"]) for record in records)],
            ["first run", *(words.milliseconds(record["first_run_ms"]) for record in records)],
            ["peak memory", *(words.size(record["peak_memory_bytes"]) for record in records)],
            ["model file", *(words.size(record["model_bytes"]) for record in records)],
            *([["engine", *map(words.size, engine_sizes)]] if any(engine_sizes) else []),
            ["flags", *(", ".join(record["flags"]) or "none" for record in records)],
        ],
    )


def _with_provider(record: Record) -> str:
    return "" if record["provider"] in ("cpu", record["runtime"]) else f" with {record['provider']}"


def _show_doubts(records: Sequence[Record], console: Console) -> None:
    """Print the warnings of the records, and what to expect of INT8 on this processor."""
    for record in records:
        for warning in record["warnings"]:
            console.result(f"{_column_name(record, records)}: {warning}")
    if any(computes_in(record["precision"]) == "int8" and record["provider"] == "cpu" for record in records):
        device = records[0]["device"]
        console.result(outlook_sentence(device.get("int8_instructions"), str(device.get("architecture"))))


def _column_name(record: Record, records: Sequence[Record]) -> str:
    """Return the model's name, with the runtime, provider and batch size if they differ between the records."""
    name = label_of(record["precision"])
    if len({each["runtime"] for each in records}) > 1:
        name += f" on {record['runtime']}"
    if len({each["provider"] for each in records}) > 1:
        name += _with_provider(record)
    return f"{name}, batch {record['batch_size']}" if len({r["batch_size"] for r in records}) > 1 else name


def _clean_p99(record: Record) -> float | None:
    return record["clean"]["p99_ms"] if record["clean"] else None


def _interval(ends: Sequence[float | None]) -> str:
    return " to ".join(map(words.milliseconds, ends))


def _show_part(
    records: Sequence[Record], part: str, title: str, rows: Mapping[str, Callable[[Record], str]], console: Console
) -> None:
    """Print a table of one part of the records; the title takes its values from the first record's part."""
    if records:
        console.table(
            title.format(**records[0][part]),
            ["", *(_column_name(record, records) for record in records)],
            [[name, *(cell(record[part]) for record in records)] for name, cell in rows.items()],
        )


def _milliseconds(key: str) -> Callable[[Record], str]:
    return lambda found: words.milliseconds(found[key])


def _median(phase: str) -> Callable[[Record], str]:
    return lambda found: words.milliseconds(found["median_ms"][phase])


def _stage(index: int) -> Callable[[Record], str]:
    def cell(found: Record) -> str:
        part = found["parts"][index]
        return f"{words.milliseconds(part['p50_ms'])} ({words.percent(part['share'])})"

    return cell


_PERCENTILES = {name: _milliseconds(f"{name}_ms") for name in ("p50", "p90", "p99")}
# A part of a record, and the title and the rows of its table.
_PARTS: tuple[tuple[str, str, Mapping[str, Callable[[Record], str]]], ...] = (
    (
        "sustained",
        "From arrival to completion at {rate_per_s:g} images a second, {arrivals} arrivals",
        {
            **_PERCENTILES,
            "  waiting, mean": _milliseconds("wait_mean_ms"),
            "  waiting, p99": _milliseconds("wait_p99_ms"),
            "utilisation": lambda found: words.percent(found["utilisation"]),
            "completed": lambda found: str(found["completed"]),
            "left over": lambda found: str(found["backlog"]),
            "keeps up": lambda found: "yes" if found["keeps_up"] else "no",
        },
    ),
    (
        "end_to_end",
        "From JPEG to logits ({source})",
        {**_PERCENTILES, "  decode, p50": _stage(0), "  resize, p50": _stage(1), "  inference, p50": _stage(2)},
    ),
    (
        "cold_start",
        "Cold start: medians of {repeats} new processes",
        {
            "process start": _median("start"),
            "imports": _median("import"),
            "load": _median("load"),
            "first run": _median("first_run"),
            "in all": _median("total"),
            "slowest": _milliseconds("slowest_ms"),
        },
    ),
)


def _show_comparison(comparison: Mapping[str, Any], console: Console) -> None:
    console.table(
        "By alternating blocks",
        ["", "time", "interval", "margin", "verdict"],
        [
            [
                f"{pair['candidate']} / {pair['baseline']}",
                f"{pair['ratio']:.3f}",
                f"{pair['interval'][0]:.3f} to {pair['interval'][1]:.3f}",
                f"{pair['margin']:.1%}",
                _VERDICTS.get(pair["verdict"], pair["verdict"]),
            ]
            for pair in comparison["pairs"]
        ],
    )
    console.result(comparison["a_a"]["sentence"])
    for pair in comparison["pairs"]:
        console.result(pair["sentence"])


def _describe_verdicts(record: Record, *, added: bool) -> list[str]:
    found = [record["sustained"]["warning"]] if record.get("sustained") else []
    if "against" in record:
        against = record["against"]
        low, high = against["interval"]
        verdict = _VERDICTS.get(against["verdict"], against["verdict"])
        found.append(
            f"{verdict}, against {against['file']}: it takes {against['ratio']:.3f} of the time, [{low:.3f}, "
            f"{high:.3f}], at a margin of {against['margin']:.1%}."
        )
        found.extend(against["notes"])
    if "budget" in record:
        found.append(record["budget"]["sentence"])
        if added:
            found.append(f"Nobody named {record['provider']}, so this does not change the verdict.")
    return [sentence for sentence in found if sentence]
