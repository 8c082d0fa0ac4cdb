"""What a device sends back is taken only in the shape that the device part gives it."""

import copy
import json
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.lines import read_error
from edgedistill_deploy.remote._answers import read_event, read_probe, read_result
from edgedistill_deploy.remote.check import check_devices
from edgedistill_deploy.remote.jobs import run_on_devices
from reference.mutations import changed_json
from reference.report_bundles import POWER, latency_record, models_only, parity_record

Make = Callable[..., Any]
EVENTS: list[dict[str, Any]] = [
    {"event": "ready", "python": [3, 11, 2]},
    {"event": "opened", "work": "/w", "pid": 7, "free_bytes": 10, "machine": "x", "python": [3, 11, 2]},
    {"event": "locked", "holder": {"owner": "ada", "host": "desk", "time": 1.7e9, "pid": 7}},
    {
        "event": "tried",
        "python": [3, 11, 2],
        "modules": {"numpy": {"version": "2"}, "PIL": {"missing": True, "error": ""}},
    },
    {"event": "tried", "code": -4, "stderr": "Illegal instruction"},
    {"event": "found", "kept": ["ab"], "parts": {"cd": 4}, "free_bytes": None},
    {"event": "settled", "damaged": []},
    {"event": "free", "free_bytes": 3},
    {"event": "started", "pid": 8, "folder": "/w/runs/1"},
    {"event": "said", "line": {"progress": [0.5, 2, "fp32"]}},
    {"event": "said", "line": {"error": {"kind": "UsageError", "arguments": ["No."]}}},
    {"event": "said", "line": {"done": True}},
    {"event": "ended", "code": -9, "stderr": "", "result": {}},
    {"event": "ended", "code": 0, "stderr": "", "result": {"path": "/r", "bytes": 3, "sha256": "ab"}},
    {"event": "closed"},
    {"event": "failed", "errno": 28, "text": "No space left", "free_bytes": 0},
]


@pytest.fixture(scope="module")
def latencies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    bundle = models_only(tmp_path_factory.mktemp("latencies"))
    record = latency_record(bundle, "fp32")
    record = {**record, "samples_ms": record["samples_ms"][:50], "power": POWER | {"idle": _WINDOW, "load": _WINDOW}}
    times = {"p50_ms": 1.0, "p90_ms": 1.5, "p99_ms": 2.0}
    record["cold_start"] = {
        "repeats": 5,
        "parts_ms": {"start": [1.0]},
        "median_ms": dict.fromkeys(("start", "import", "load", "first_run", "total"), 1.0),
        "slowest_ms": 2.0,
    }
    record["end_to_end"] = {
        **times,
        "source": "images",
        "jpeg_bytes": 9,
        "runs": 3,
        "samples_ms": [1.0, 2.0],
        "intervals": {"p50_ms": [None, 1.0]},
        "parts": [{"name": name, **times, "share": 0.3} for name in ("decode", "resize", "inference")],
    }
    return {"kind": "latency-set", "schema": 1, "records": [record], "machine": read_device().to_json()}


_WINDOW = {"mean_w": 4.0, "block_w": [4.0] * 5, "seconds": 3.0, "reading_count": 10}


@pytest.fixture(scope="module")
def parities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    bundle = models_only(tmp_path_factory.mktemp("parities"))
    records = [parity_record(bundle, "fp32"), parity_record(bundle, "int8")]
    return {"kind": "parity-set", "schema": 1, "records": records, "chain": None, "machine": read_device().to_json()}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["event"])
def test_every_event_of_the_keeper_is_taken_as_it_is(event: dict[str, Any]) -> None:
    assert read_event(json.dumps(event) + "\n") == event


@pytest.mark.parametrize(
    "line", ["", "Welcome to Ubuntu\n", "{", "[1]", "3", '"x"', "{}", '{"motd": 1}', "\x1b[0m", "[" * 10**5]
)
def test_greetings_are_no_events(line: str) -> None:
    assert read_event(line) is None


@settings(max_examples=80, deadline=None)
@given(event=st.sampled_from(EVENTS), random=st.randoms())
def test_events_of_another_shape_are_refused_and_never_crash(event: dict[str, Any], random: Random) -> None:
    changed = changed_json(copy.deepcopy(event), random)
    try:
        found = read_event(json.dumps(changed))
    except DataError:
        return
    assert found is None or set(found) == set(changed)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"event": "ready", "python": "3.11"}, "'3.11' stands where a list belongs"),
        ({"event": "ready"}, "it has no python"),
        ({"event": "exploded"}, "it has no exploded"),
        ({"event": "said", "line": {"progress": [1, 2]}}, "shorter"),
        ({"event": "said", "line": []}, "stands where an object belongs"),
        ({"event": "ended", "code": "0", "stderr": "", "result": {}}, "stands where a whole number belongs"),
        ({"event": "ended", "code": 0, "stderr": "", "result": {"path": "/r"}}, "it has no bytes"),
        ({"event": "found", "kept": [], "parts": {"a": -1}, "free_bytes": 1}, "stands where a count belongs"),
    ],
)
def test_what_is_wrong_with_an_event_is_said(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_event(json.dumps(event))


def test_control_characters_are_taken_out_of_what_a_device_says() -> None:
    found = read_event(json.dumps({"event": "failed", "text": "\x1b[2Jgone\x07\nnext"}))
    assert found is not None
    assert found["text"] == "[2Jgone\nnext"


def test_sound_results_are_taken_as_they_are(latencies: dict[str, Any], parities: dict[str, Any]) -> None:
    for result in (latencies, parities):
        plain = json.loads(json.dumps(result))
        assert read_result(json.dumps(result).encode(), result["kind"]) == plain


def test_what_a_device_leaves_out_gets_the_value_that_it_is_read_with(latencies: dict[str, Any]) -> None:
    given = copy.deepcopy(latencies)
    for name in ("flags", "warnings", "modes"):
        del given["records"][0][name]
    (record,) = read_result(json.dumps(given).encode(), "latency-set")["records"]
    assert (record["flags"], record["warnings"], record["modes"]) == ([], [], None)


@settings(max_examples=60, deadline=None)
@given(random=st.randoms())
def test_damaged_results_are_refused_and_never_crash(
    latencies: dict[str, Any], parities: dict[str, Any], random: Random
) -> None:
    for result in (latencies, parities):
        changed = changed_json(copy.deepcopy(result), random)
        try:
            found = read_result(json.dumps(changed).encode(), result["kind"])
        except DataError:
            continue
        assert len(found["records"]) == len(changed["records"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"\xff", "invalid start byte"),
        (b"[]", "stands where an object belongs"),
        (b'{"kind": "parity-set"}', "it is no latency-set"),
        (b'{"kind": "latency-set", "records": []}', "it has no machine"),
        (b"[" * 10**5, "levels are nested"),
        (b'{"kind": NaN}', "NaN is not a JSON value"),
    ],
)
def test_what_is_wrong_with_a_result_is_said(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_result(content, "latency-set")


@pytest.mark.parametrize("module", [{}, {"version": None}, {"missing": False}, {"error": ""}])
def test_a_module_that_is_neither_there_nor_missing_nor_broken_is_refused(module: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="a module is neither there nor missing"):
        read_event(json.dumps({"event": "tried", "modules": {"numpy": module}}))
    with pytest.raises(DataError, match="a module is neither there nor missing"):
        read_probe(json.dumps({"python": [3, 11, 2], "modules": {"PIL": module}}))


def test_probes_of_another_shape_are_refused() -> None:
    assert read_probe("hello") is None
    strange: tuple[dict[str, object], ...] = (
        {"modules": []},
        {"device": {"name": 1}},
        {"conditions": {"governor": 1e308}},
        {"providers": "cpu"},
    )
    for answer in ({"python": 3}, {}, *({"python": [3], **each} for each in strange)):
        with pytest.raises(DataError):
            read_probe(json.dumps(answer))


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"kind": "MissingDependencyError", "arguments": ["a"]}, "a"),
        ({"kind": "MissingDependencyError", "arguments": [1, 2, 3, 4]}, "1, 2, 3, 4"),
        ({"kind": ["x"], "arguments": None}, "None"),
        ({"kind": "UsageError", "arguments": "no"}, "no"),
        ({}, "None"),
    ],
)
def test_errors_of_a_strange_shape_still_tell_what_they_can(told: dict[str, Any], text: str) -> None:
    error = read_error(told)
    assert isinstance(error, EdgeDistillError)
    assert str(error) == text


def test_a_program_that_is_no_python_of_ours_ends_in_a_sentence(device: Make, validating: Make, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nread line\necho \'{"event": "ready", "python": 3}\'\nsleep 1\n')
    program.chmod(stat.S_IRWXU)
    target = device(python=str(program))
    (outcome,) = run_on_devices([target], validating(target))
    assert outcome.error is not None
    assert outcome.error.startswith(
        "loop sent what EdgeDistill's part there does not send (3 stands where a list belongs)"
    )
    program.write_text("#!/bin/sh\necho '{\"python\": 3}'\n")
    (record,) = check_devices([target])
    assert record["verdict"] == "unreachable"
    assert "3 stands where a list belongs" in record["error"]
