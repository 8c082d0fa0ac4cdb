"""`show`: a bundle and every kind of record as tables, and what is no record."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from command import run_command
from edgedistill_deploy.hardware.device import read_device
from reference.colour_pictures import write_pictures
from reference.hostile_bundles import write_full_bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a record of every kind that a run leaves."""
    folder = write_full_bundle(tmp_path_factory.mktemp("whole"))
    checked = run_command(
        "validate", folder, "--precision", "fp32", "--flips", folder.parent / "flips", "--max-drop", "0.9"
    )
    assert checked.code in (0, 3, 4), checked.stderr
    return folder


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line]


def test_a_bundle_shows_its_classes_its_figures_and_its_files(whole: Path) -> None:
    shown = run_command("show", whole)
    assert shown.code == 0, shown.stderr
    rows = {row[0]: row[1:] for row in rows_of(shown.stdout)}
    manifest = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
    names = manifest["subtask"]["class_names"]
    assert rows["classes"] == [f"{len(names)} ({', '.join(names)})"]
    for role, entry in manifest["files"].items():
        assert (rows[role][0], rows[role][2]) == (entry["path"], "as registered")
    assert "verdict" in rows
    assert run_command("show", whole / "manifest.json").stdout == shown.stdout
    record = json.loads(run_command("show", whole, "--json").stdout)
    assert (record["kind"], record["schema"]) == ("bundle-summary", 1)
    assert record["files"]["golden"]["sha256"] == manifest["files"]["golden"]["sha256"]


def test_files_that_are_not_the_registered_ones_are_named(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / "golden.npz").unlink()
    (copy / "reference.npz").write_bytes(b"another")
    (copy / "parity" / "broken.json").write_text("{")
    shown = run_command("show", copy)
    states = {row[0]: row[3] for row in rows_of(shown.stdout) if len(row) == 4}
    assert {role for role, state in states.items() if state != "as registered"} >= {"golden", "reference"}
    assert (states["golden"], states["reference"]) == ("missing", "changed or refused")
    assert "parity/broken.json is left out" in shown.stdout


def test_a_record_is_shown_as_the_command_showed_it(whole: Path) -> None:
    told = run_command("validate", whole, "--precision", "fp32", "--max-drop", "0.9").stdout
    path = whole / "parity" / f"{read_device().name}-onnxruntime-fp32.json"
    shown = run_command("show", path)
    assert shown.code == 0
    assert rows_of(shown.stdout)[1:] == [row for row in rows_of(told) if row in rows_of(shown.stdout)][1:]
    assert "Parity with the teacher on the subtask" in shown.stdout
    assert json.loads(run_command("show", path, "--json").stdout) == json.loads(path.read_text(encoding="utf-8"))


def records_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.parent.rglob("*.json") if path.name != "manifest.json")


def test_every_record_that_a_run_leaves_has_a_table(whole: Path) -> None:
    kinds = set()
    for path in records_of(whole):
        shown = run_command("show", path)
        assert shown.code == 0, shown.stderr
        assert shown.stdout.strip(), path
        kinds.add(json.loads(path.read_text(encoding="utf-8"))["kind"])
    assert kinds >= {"parity", "latency", "ledger", "flips", "flip-set"}


def test_what_predict_prints_can_be_shown_later(whole: Path, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "photos")
    told = run_command("predict", whole, tmp_path / "photos")
    kept = tmp_path / "answers.json"
    kept.write_text(run_command("predict", whole, tmp_path / "photos", "--json").stdout, encoding="utf-8")
    again = rows_of(run_command("show", kept).stdout)
    assert [row[:3] for row in again] == [row[:3] for row in rows_of(told.stdout)]
    assert len(again) == len(pictures)


def test_a_record_of_any_other_kind_is_shown_by_its_values(tmp_path: Path) -> None:
    record: dict[str, Any] = {
        "kind": "invention",
        "schema": 1,
        "teacher": {"accuracy": 0.9375, "name": "caf\u202ee"},
        "passed": True,
        "unknown": None,
        "many": list(range(50)),
        "stages": [{"name": "distill", "seconds": 1.5}, {"name": "export", "status": "done"}],
        "nothing": [],
    }
    path = tmp_path / "any.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    shown = run_command("show", path)
    rows = rows_of(shown.stdout)
    assert ["teacher.accuracy", "0.9375"] in rows
    assert ["teacher.name", r"caf\u202ee"] in rows
    assert ["passed", "yes"] in rows
    assert ["unknown", "–"] in rows
    assert ["many", "0, 1, 2, 3, 4, 5, 6, 7, ... (50 in all)"] in rows
    assert ["distill", "1.5", ""] in rows
    assert ["export", "", "done"] in rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a record: "),
        (b"\xff\xfe{", "is not a record: "),
        (b"[1]", 'is no JSON object with a "kind"'),
        (b'{"kind": 5, "schema": 1}', 'is no JSON object with a "kind"'),
        (b'{"kind": "parity", "schema": 2}', "has schema 2; this EdgeDistill reads 1"),
        (b'{"kind": "parity", "schema": 1}', "is damaged: it has no "),
        (b'{"kind": "parity-set", "schema": 1, "records": []}', "holds no records"),
        (b'{"kind": "latency-set", "schema": 1, "records": {}}', "holds no records"),
        (b'{"kind": "ledger", "schema": 1}', "is damaged (KeyError: "),
        (b'{"kind": "prediction-set", "schema": 1, "predictions": [7]}', "is damaged (TypeError: "),
        (b'{"kind": "x", "schema": 1, "y": NaN}', "NaN is not a JSON value"),
    ],
)
def test_what_is_no_record_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    for words in (("show", path), ("show", path, "--json")):
        outcome = run_command(*words)
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
        assert outcome.stderr.startswith(f"error: {path} ")
        assert message in outcome.stderr


def test_a_folder_that_is_no_bundle_and_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert "is not a bundle: it has no manifest.json" in run_command("show", tmp_path).stderr
    outcome = run_command("show", tmp_path / "nothing")
    assert outcome.code == 1
    assert f"There is no bundle and no record {tmp_path / 'nothing'};" in outcome.stderr


def test_no_damage_of_a_record_ends_in_a_traceback(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.json"
    wrong: tuple[Any, ...] = (None, [], "x", {"a": 1})
    for source in records_of(whole):
        record = json.loads(source.read_text(encoding="utf-8"))
        for key in record:
            for value in wrong:
                path.write_text(json.dumps({**record, key: value}), encoding="utf-8")
                outcome = run_command("show", path, "--json")
                assert outcome.code in (0, 1), (source, key, value)
                assert bool(outcome.stdout) == (outcome.code == 0)
