"""`plan`, and `profile --layers --power`, on a device behind a real SSH server."""

import json
from collections.abc import Callable
from pathlib import Path

from command import run_command
from edgedistill_deploy.remote.inventory import Device, add_device
from ssh_server import free_port

BRIEF = ("--duration", "0.05", "--warmup", "0")


def plan(tiny_digits: Path, name: str) -> tuple[str, ...]:
    return (
        "plan",
        "--device",
        name,
        "--budget-ms",
        "1000",
        "--percentile",
        "50",
        "--data",
        f"npz:{tiny_digits}",
        "--teacher",
        "embedded:glyphs100",
        "--classes",
        "0,1",
        "--students",
        "plain:4-8",
        "--no-inspect",
        "--json",
        *BRIEF,
    )


def test_students_are_timed_on_the_device(device: Callable[..., Device], tiny_digits: Path) -> None:
    add_device(device("loop"))
    outcome = run_command(*plan(tiny_digits, "loop"))
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    assert (record["device"], record["verdict"]) == ("loop", "pass")
    assert [row["student"] for row in record["rows"]] == ["plain:4-8"]


def test_a_device_that_does_not_answer_ends_the_plan_at_the_first_student(
    device: Callable[..., Device], tiny_digits: Path
) -> None:
    add_device(device("gone", port=free_port()))
    outcome = run_command(*plan(tiny_digits, "gone"))
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1].startswith("error: gone: ")


def test_nodes_and_power_are_told_from_there(device: Callable[..., Device], built_run: Path) -> None:
    add_device(device("loop", power="vcgencmd"))
    asked = ("--precision", "fp32", "--layers", "--power", "--json", *BRIEF)
    outcome = run_command("profile", built_run, "--device", "loop", *asked)
    assert outcome.code == 0, outcome.stderr
    (record,) = json.loads(outcome.stdout)["devices"][0]["records"]
    assert any((node["module"] or "").startswith("layer1.0.conv") for node in record["layers"])
    assert record["power"]["reason"] == "not available: this machine shows no vcgencmd to this user"
