"""The tables of `ledger`: the chain from the teacher to INT8, the nodes that cost most, and those left in float."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words

Step = Mapping[str, Any]
# At most so many fp32 nodes of a model are named in a sentence; the record has all.
NAMED = 8


def show_ledger(record: Mapping[str, Any], console: Console, worst: int) -> None:
    """Print every part of a ledger (see docs/calibrate.md); `worst` is how many nodes of each model are shown."""
    steps: Sequence[Step] = record["steps"]
    _show_chain(steps, console)
    for stage, reason in record.get("left_out", {}).items():
        console.result(f"{stage} has no row: {reason}.")
    if any(_tried(step.get("nodes", ())) < len(step.get("nodes", ())) for step in steps):
        console.result(
            "Only a sample of the nodes was measured; `edgedistill calibrate --ledger-nodes all` measures all."
        )
    for step in steps:
        if step.get("nodes"):
            _show_nodes(step, console, worst)
        if step.get("exclusions"):
            _show_exclusions(step, console)
        if step.get("goal"):
            console.result(_goal_sentence(step))
        if step.get("judged"):
            console.result(str(step["judged"]))
        if step.get("float16"):
            _show_float16(step, console)


def _show_chain(steps: Sequence[Step], console: Console) -> None:
    base = next((step["accuracy"] for step in steps if step["stage"] == "fp32"), None)
    counts = {step["stage"]: step["sample_count"] for step in steps}
    count = counts.get("fp32", max(counts.values(), default=0))
    fewer = f", the teacher on {counts['teacher']}" if counts.get("teacher", count) < count else ""
    console.table(
        f"What each step keeps, on {count} training images held out of calibration{fewer}",
        ["step", "accuracy", "change, points", "agrees with fp32", "with teacher", "signal to noise", "file"],
        [
            [
                step["stage"],
                words.percent(step["accuracy"]),
                words.MISSING if base is None else words.signed_points(step["accuracy"] - base),
                words.percent(step["agreement"]),
                words.percent(step.get("teacher_agreement")),
                words.MISSING if step["stage"] in ("teacher", "fp32") else words.decibel(step["sqnr_db"]),
                words.size(step.get("bytes")),
            ]
            for step in steps
        ],
    )


def _show_nodes(step: Step, console: Console, worst: int) -> None:
    nodes: Sequence[Mapping[str, Any]] = step["nodes"]
    total = sum(node["multiply_adds"] for node in nodes)
    console.table(
        f"{step['stage']}: {_scope(nodes)}, on {step['node_sample_count']} of these images",
        ["node", "kind", "multiply-adds", "signal to noise there", "INT8 alone", "points", "float alone", "points"],
        [
            [
                node.get("module") or node["node"],
                node["op_type"],
                words.percent(node["multiply_adds"] / total if total else None),
                words.decibel(node["sqnr_db"]),
                *_effect(node["alone"]),
                *_effect(node["left_in_float"]),
            ]
            for node in nodes[:worst]
        ],
    )


def _scope(nodes: Sequence[Mapping[str, Any]]) -> str:
    """Say of how many nodes the cost was measured."""
    tried = _tried(nodes)
    if tried == len(nodes):
        return f"the nodes that cost most of {len(nodes)}"
    return f"the nodes that cost most in a sample of {tried} of {len(nodes)} nodes, the noisiest"


def _tried(nodes: Sequence[Mapping[str, Any]]) -> int:
    return sum(node["alone"] is not None for node in nodes)


def _effect(effect: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return signal to noise of the logits, and the accuracy gained or lost in points."""
    if effect is None:
        return words.MISSING, words.MISSING
    return words.decibel(effect["sqnr_db"]), words.signed_points(effect["accuracy_change"])


def _show_exclusions(step: Step, console: Console) -> None:
    console.table(
        f"{step['stage']}: nodes left in float one by one, and what each bought",
        ["node", "kind", "accuracy", "points", "agreement", "points", "signal to noise", "file", "kept"],
        [
            [
                each["node"],
                each["op_type"],
                words.percent(each["accuracy"]),
                words.signed_points(each["bought"]["accuracy"]),
                words.percent(each["agreement"]),
                words.signed_points(each["bought"]["agreement"]),
                words.decibel(each["sqnr_db"]),
                words.size(each["bytes"]),
                "yes" if each["kept"] else "no",
            ]
            for each in step["exclusions"]
        ],
    )


def _goal_sentence(step: Step) -> str:
    """Say whether a step's accuracy drop is within the limit, and the reason if it is not."""
    goal = step["goal"]
    drop, limit = words.bare_points(goal["drop"]), words.bare_points(goal["max_drop"])
    share = f", {words.percent(goal['float_share'])} of the multiply-adds in float" if goal["float_share"] else ""
    side, reason = ("within", "") if goal["met"] else ("beyond", f": {goal['reason']}")
    return f"{step['stage']}: the accuracy drop is {drop} points, {side} the {limit} allowed{share}{reason}."


def _show_float16(step: Step, console: Console) -> None:
    found = step["float16"]
    kept = found.get("kept", ())
    names = ", ".join(each["node"] for each in kept[:NAMED]) + (", ..." if len(kept) > NAMED else "")
    tail = f"; in fp32: {names}" if kept else ""
    console.result(f"{step['stage']}: {found['float16_count']} of {found['node_count']} nodes compute in fp16{tail}.")
