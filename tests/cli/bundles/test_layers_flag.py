"""`profile --layers` and `--power`: the tables, and the modules of a real run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from command import run_command
from edgedistill.models.student import build_student
from edgedistill_cli.console import Console
from edgedistill_cli.tables.layers import show_layers, show_power
from edgedistill_deploy.bundle.folder import Bundle
from reference.report_bundles import POWER, latency_record, models_only, with_layers

QUICK = ("--duration", "0.1", "--warmup", "0", "--quiet")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return models_only(tmp_path / "bundle")


def shown(capsys: pytest.CaptureFixture[str], records: list[dict[str, Any]]) -> str:
    console = Console(as_json=False, quiet=False, verbose=False)
    for record in records:
        if record.get("layers"):
            show_layers(record, "expert fp32", console)
    show_power([each for each in records if each.get("power")], ["expert fp32"], console)
    return capsys.readouterr().out


def test_the_commands_tables_say_the_same(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    text = shown(capsys, [with_layers(bundle, power=POWER)])
    assert re.search(r"n11 +│ +Conv │ +layer11 │ +120 µs │ +12.0 % │ +cpu", text)
    assert re.search(r"2 other nodes +│.*30.0 µs │ +3.0 %", text)
    assert re.search(r"in no node +│.*220 µs │ +22.0 %", text)
    assert re.search(r"at rest +│ +4 W", text)
    assert re.search(r"an image, less the rest +│ +11 mJ", text)


def test_the_command_says_what_is_not_available(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {**dict.fromkeys(POWER, None), "reason": "not available: this machine shows no power sensor to this user"}
    text = shown(capsys, [latency_record(bundle, "fp32", power=nothing)])
    assert text == "expert fp32: energy not available: this machine shows no power sensor to this user.\n"


def test_a_real_runs_nodes_are_of_the_students_modules(built_run: Path) -> None:
    outcome = run_command("profile", built_run, "--precisions", "fp32,int8", "--layers", "--power", *QUICK, "--json")
    assert outcome.code == 0, outcome.stderr
    student = dict(build_student("timm:resnet10t", 4, width=0.125).named_modules())
    for record in json.loads(outcome.stdout)["records"]:
        weighted = [node for node in record["layers"] if "Conv" in node["op_type"] or "Gemm" in node["op_type"]]
        kinds = {type(student[node["module"]]).__name__ for node in weighted}
        assert kinds == {"Conv2d", "Linear"}, record["precision"]
        own = {name for name, module in student.items() if type(module).__name__ in ("Conv2d", "Linear")}
        assert {node["module"] for node in weighted} == own, record["precision"]
        others = {node["module"] for node in record["layers"] if node["module"] is not None}
        assert others <= {*student, "normalise"}
        assert 0 < record["layer_run"]["outside_share"] < 1
        assert record["power"]["energy_per_image_mj"] != 0
    page = run_command("report", built_run)
    assert page.code == 0
    assert "Where the time of expert int8 goes" in (built_run / "report.html").read_text(encoding="utf-8")
