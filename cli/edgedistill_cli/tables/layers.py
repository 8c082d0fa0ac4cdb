"""The tables of `profile --layers` and `profile --power`."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words

Record = Mapping[str, Any]

TOP = 10


def show_layers(record: Record, name: str, console: Console) -> None:
    """Print the ten slowest nodes with the student's modules, then the time of the other nodes and outside all."""
    run, nodes = record["layer_run"], record["layers"]
    rest = nodes[TOP:]
    rows = [
        [
            node["node"],
            node["op_type"] or words.MISSING,
            node["module"] or words.MISSING,
            words.milliseconds(node["mean_ms"]),
            words.percent(node["share"]),
            node["provider"],
        ]
        for node in nodes[:TOP]
    ]
    if rest:
        rows.append(
            _row(f"{len(rest)} other nodes", *(sum(node[key] for node in rest) for key in ("mean_ms", "share")))
        )
    if run["outside_ms"] is not None:
        rows.append(_row("in no node", run["outside_ms"], run["outside_share"]))
    columns = ["node", "operator", "module", "time", "share", "provider"]
    console.table(f"Where the time goes: {name}", columns, rows)
    console.result(
        f"{name}: {words.milliseconds(run['mean_ms'])} a run by {run['source']}, which costs time at every node; "
        f"without it a run takes {words.milliseconds(record['p50_ms'])} (p50)."
    )


def show_power(records: Sequence[Record], names: Sequence[str], console: Console) -> None:
    """Print the power at rest and under load and the energy of an image, or why the board cannot give them."""
    measured = [(record["power"], name) for record, name in zip(records, names, strict=True)]
    told = [(power, name) for power, name in measured if power["load"] is not None]
    if told:
        console.table(
            f"Power of the {told[0][0]['scope']} ({told[0][0]['reader']})",
            ["", *(name for _, name in told)],
            [
                ["at rest", *(_watts(power["idle"]["mean_w"]) for power, _ in told)],
                ["under load", *(_watts(power["load"]["mean_w"]) for power, _ in told)],
                ["difference", *(_watts(power["net_w"]) for power, _ in told)],
                ["  interval", *(" to ".join(map(_watts, power["net_interval_w"])) for power, _ in told)],
                ["an image, less the rest", *(_millijoules(power["energy_per_image_mj"]) for power, _ in told)],
                ["an image, in all", *(_millijoules(power["gross_energy_per_image_mj"]) for power, _ in told)],
            ],
        )
    for power, name in measured:
        if power["reason"]:
            console.result(
                f"{name}: energy {power['reason'] if power['load'] is None else 'not stated: ' + power['reason']}."
            )


def _row(name: str, time_ms: float, share: float) -> list[str]:
    return [name, words.MISSING, words.MISSING, words.milliseconds(time_ms), words.percent(share), words.MISSING]


def _watts(value: float) -> str:
    return f"{words.significant(value)} W"


def _millijoules(value: float | None) -> str:
    return "not available" if value is None else f"{words.significant(value)} mJ"
