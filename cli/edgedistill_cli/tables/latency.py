"""The tables at the end of `profile`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_cli.tables.layers import show_layers, show_power
from edgedistill_deploy import wording as words
from edgedistill_deploy.recommendation.summary import label_of

Record = Mapping[str, Any]


def show_profile(profile: Mapping[str, Any], console: Console) -> None:
    """Print the latencies, then what else was asked for, then the verdicts and what makes the figures doubtful."""
    records = profile["records"]
    show_latency(records, console)
    _show_sustained([record for record in records if record.get("sustained")], console)
    _show_end_to_end([record for record in records if record.get("end_to_end")], console)
    _show_cold_start([record for record in records if record.get("cold_start")], console)
    for record in records:
        if record.get("layers"):
            show_layers(record, column_name(record, records), console)
    powered = [record for record in records if record.get("power")]
    show_power(powered, [column_name(record, records) for record in powered], console)
    if profile.get("comparison"):
        _show_comparison(profile["comparison"], console)
    for record in records:
        for sentence in _verdicts(record):
            console.result(f"{column_name(record, records)}: {sentence}")


def show_latency(records: Sequence[Record], console: Console) -> None:
    """Print percentiles, throughput and memory, a column per record, then what makes the figures doubtful."""
    console.table(
        f"Latency on {records[0]['device']['name']}",
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
            *_engine_row(records),
            ["flags", *(", ".join(record["flags"]) or "none" for record in records)],
        ],
    )
    for record in records:
        for warning in record["warnings"]:
            console.result(f"{column_name(record, records)}: {warning}")


def column_name(record: Record, records: Sequence[Record]) -> str:
    """Return a record's name in a sentence: the model, and what sets it apart from the others."""
    name = label_of(record["precision"])
    if len({each["runtime"] for each in records}) > 1:
        name += f" on {record['runtime']}"
    return f"{name}, batch {record['batch_size']}" if len({r["batch_size"] for r in records}) > 1 else name


def _engine_row(records: Sequence[Record]) -> list[list[str]]:
    sizes = [record.get("engine_bytes") for record in records]
    return [["engine", *map(words.size, sizes)]] if any(sizes) else []


def _clean_p99(record: Record) -> float | None:
    return record["clean"]["p99_ms"] if record["clean"] else None


def _interval(ends: Sequence[float | None]) -> str:
    low, high = (words.milliseconds(end) for end in ends)
    return f"{low} to {high}"


def _show(title: str, records: Sequence[Record], console: Console, rows: Mapping[str, Callable[[Record], str]]) -> None:
    if records:
        console.table(
            title,
            ["", *(column_name(record, records) for record in records)],
            [[name, *(cell(record) for record in records)] for name, cell in rows.items()],
        )


def _show_sustained(records: Sequence[Record], console: Console) -> None:
    def of(key: str, shown: Callable[[Any], str]) -> Callable[[Record], str]:
        return lambda record: shown(record["sustained"][key])

    if not records:
        return
    first = records[0]["sustained"]
    _show(
        f"From arrival to completion at {first['rate_per_s']:g} images a second, {first['arrivals']} arrivals",
        records,
        console,
        {
            "p50": of("p50_ms", words.milliseconds),
            "p90": of("p90_ms", words.milliseconds),
            "p99": of("p99_ms", words.milliseconds),
            "  waiting, mean": of("wait_mean_ms", words.milliseconds),
            "  waiting, p99": of("wait_p99_ms", words.milliseconds),
            "utilisation": of("utilisation", words.percent),
            "completed": of("completed", str),
            "left over": of("backlog", str),
            "keeps up": of("keeps_up", lambda kept: "yes" if kept else "no"),
        },
    )


def _show_end_to_end(records: Sequence[Record], console: Console) -> None:
    def whole(key: str) -> Callable[[Record], str]:
        return lambda record: words.milliseconds(record["end_to_end"][key])

    def part(index: int) -> Callable[[Record], str]:
        def cell(record: Record) -> str:
            found = record["end_to_end"]["parts"][index]
            return f"{words.milliseconds(found['p50_ms'])} ({words.percent(found['share'])})"

        return cell

    if records:
        _show(
            f"From JPEG to logits ({records[0]['end_to_end']['source']})",
            records,
            console,
            {
                "p50": whole("p50_ms"),
                "p90": whole("p90_ms"),
                "p99": whole("p99_ms"),
                "  decode, p50": part(0),
                "  resize, p50": part(1),
                "  inference, p50": part(2),
            },
        )


def _show_cold_start(records: Sequence[Record], console: Console) -> None:
    def median(part: str) -> Callable[[Record], str]:
        return lambda record: words.milliseconds(record["cold_start"]["median_ms"][part])

    if records:
        _show(
            f"Cold start: medians of {records[0]['cold_start']['repeats']} new processes",
            records,
            console,
            {
                "process start": median("start"),
                "imports": median("import"),
                "load": median("load"),
                "first run": median("first_run"),
                "in all": median("total"),
                "slowest": lambda record: words.milliseconds(record["cold_start"]["slowest_ms"]),
            },
        )


def _show_comparison(comparison: Mapping[str, Any], console: Console) -> None:
    said = {"equal": "not distinguishable", "inconclusive": "undecided"}
    console.table(
        "By alternating blocks",
        ["", "time", "interval", "margin", "verdict"],
        [
            [
                f"{pair['candidate']} / {pair['baseline']}",
                f"{pair['ratio']:.3f}",
                f"{pair['interval'][0]:.3f} to {pair['interval'][1]:.3f}",
                f"{pair['margin']:.1%}",
                said.get(pair["verdict"], pair["verdict"]),
            ]
            for pair in comparison["pairs"]
        ],
    )
    console.result(comparison["a_a"]["sentence"])
    for pair in comparison["pairs"]:
        console.result(pair["sentence"])


def _verdicts(record: Record) -> list[str]:
    found = [record["sustained"]["warning"]] if record.get("sustained") else []
    if "against" in record:
        against = record["against"]
        low, high = against["interval"]
        verdict = {"equal": "not distinguishable", "inconclusive": "undecided"}.get(
            against["verdict"], against["verdict"]
        )
        found.append(
            f"{verdict}, against {against['file']}: it takes {against['ratio']:.3f} of the time, [{low:.3f}, "
            f"{high:.3f}], at a margin of {against['margin']:.1%}."
        )
        found.extend(against["notes"])
    if "budget" in record:
        found.append(record["budget"]["sentence"])
    return [sentence for sentence in found if sentence]
