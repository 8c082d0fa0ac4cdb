"""The commands on damaged bundles: an expected end with a sentence, never a traceback."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command import run_command
from reference.hostile_bundles import copy_of, register_anew, write_full_bundle
from reference.mutations import changed_json
from reference.slow_models import write_slow_model

_STEP = {
    "stage": "int8",
    "sample_count": 3,
    "accuracy": 0.9,
    "agreement": 0.9,
    "sqnr_db": 30.0,
    "node_sample_count": 3,
    "nodes": [
        {
            "node": "conv",
            "module": None,
            "op_type": "Conv",
            "multiply_adds": 7,
            "sqnr_db": 9.0,
            "alone": {"sqnr_db": 3.0, "accuracy_change": -0.01},
            "left_in_float": None,
        }
    ],
    "exclusions": [
        {
            "node": "conv",
            "op_type": "Conv",
            "accuracy": 0.9,
            "agreement": 0.9,
            "bought": {"accuracy": 0.01, "agreement": 0.0},
            "sqnr_db": 9.0,
            "bytes": 100,
            "kept": True,
        }
    ],
    "goal": {"drop": 0.02, "max_drop": 0.01, "met": False, "float_share": 0.1, "reason": "nothing reached it"},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_full_bundle(tmp_path_factory.mktemp("sound"))
    ledger = {"kind": "ledger", "schema": 1, "steps": [{**_STEP, "stage": "fp32"}, _STEP], "left_out": {"fp16": "no"}}
    (folder / "ledger.json").write_text(json.dumps(ledger))
    record = json.loads((folder / "manifest.json").read_text())
    record["files"]["ledger"] = {"path": "ledger.json", "sha256": "0" * 64, "bytes": 0}
    (folder / "manifest.json").write_text(json.dumps(record))
    register_anew(folder)
    return folder


def _ends_well(*argv: str | Path) -> int:
    outcome = run_command(*argv)
    assert outcome.code in (0, 1, 3, 4)
    if outcome.code == 1:
        assert outcome.stderr.startswith("error: ")
        assert outcome.stderr.count("\n") == 1
    return outcome.code


def test_the_sound_bundle_passes_every_command(sound: Path, tmp_path: Path) -> None:
    folder = copy_of(sound, tmp_path / "bundle")
    assert [_ends_well(name, folder) for name in ("report", "ledger")] == [0, 0]
    assert _ends_well("validate", folder, "--json", "--quiet") in (0, 4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms())
def test_a_damaged_ledger_is_shown_or_refused(sound: Path, tmp_path: Path, random: Random) -> None:
    folder = copy_of(sound, tmp_path / "fuzzed")
    path = folder / "ledger.json"
    path.write_text(json.dumps(changed_json(json.loads(path.read_text()), random)))
    register_anew(folder)
    _ends_well("ledger", folder)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms())
def test_damaged_manifests_and_records_end_commands_well(sound: Path, tmp_path: Path, random: Random) -> None:
    folder = copy_of(sound, tmp_path / "fuzzed")
    path = random.choice(sorted(folder.rglob("*.json")))
    path.write_text(json.dumps(changed_json(json.loads(path.read_text()), random)))
    _ends_well("report", folder)
    _ends_well("validate", folder, "--quiet")


@pytest.mark.parametrize(
    ("file", "content", "message", "commands"),
    [
        ("manifest.json", b"{", "is not valid JSON", ("validate", "profile", "report", "ledger")),
        ("golden.npz", b"PK\x03\x04", "golden.npz has 4 bytes, but", ("validate", "profile", "report")),
        ("model.fp32.onnx", b"", "model.fp32.onnx has 0 bytes, but", ("validate", "profile", "report")),
    ],
)
def test_truncated_files_are_named(
    sound: Path, tmp_path: Path, file: str, content: bytes, message: str, commands: tuple[str, ...]
) -> None:
    folder = copy_of(sound, tmp_path / "bundle")
    (folder / file).write_bytes(content)
    for command in commands:
        outcome = run_command(command, folder)
        assert outcome.code == 1
        assert message in outcome.stderr


def test_a_folder_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent, tmp_path / "x", ignore=shutil.ignore_patterns("*"))
    outcome: Any = run_command("report", tmp_path / "x")
    assert (outcome.code, "is not a bundle: it has no manifest.json" in outcome.stderr) == (1, True)


@pytest.mark.parametrize("command", [("validate",), ("profile", "--duration", "0.1", "--precision", "fp32")])
def test_a_model_that_computes_for_minutes_ends_in_a_sentence_with_the_flag(
    sound: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    folder = copy_of(sound, tmp_path / "bundle")
    write_slow_model(folder / "model.fp32.onnx")
    register_anew(folder)
    outcome = run_command(command[0], folder, *command[1:], "--limit-s", "0.3", "--quiet")
    assert outcome.code == 1
    assert outcome.stderr.startswith("error: model.fp32.onnx was stopped: one inference of ")
    assert "took longer than 0.3 s on cpu" in outcome.stderr
    assert "--limit-s" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
