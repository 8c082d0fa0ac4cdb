"""`edgedistill explain --shortcuts` on a finished run: the record, what is printed, and what it refuses."""

import json
from pathlib import Path

from command import run_command

FEW = ("--shortcuts", "--images", "8", "--method", "lrp")


def test_the_search_keeps_a_record_that_is_printed_and_shown(built_run: Path) -> None:
    outcome = run_command("explain", built_run, *FEW, "--json")
    assert outcome.code == 0, outcome.stderr
    path = built_run / "explain" / "shortcuts.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record == json.loads(outcome.stdout)
    expected = {"kind": "shortcuts", "schema": 1, "method": "lrp", "images": 8, "split": "validation"}
    assert {name: record[name] for name in expected} == expected
    names = json.loads((built_run / "manifest.json").read_text(encoding="utf-8"))["subtask"]["class_names"]
    assert set(record["classes"]) <= set(names)
    for found in record["classes"].values():
        cells = record["grid"][0] * record["grid"][1]
        for network in ("teacher", "student"):
            assert len(found[network]) == len(record["regions"])
            assert sum(found[network][:cells]) <= 1.0001
    shown = run_command("show", path)
    assert shown.code == 0, shown.stderr
    again = run_command("explain", built_run, *FEW)
    assert again.code == 0, again.stderr
    for sentence in record["sentences"]:
        assert sentence in shown.stdout
        assert sentence in again.stdout
    assert f"written: {path}" in again.stdout
    damaged = built_run / "damaged.json"
    damaged.write_text(json.dumps({**record, "findings": [{"class": "1"}]}), encoding="utf-8")
    outcome = run_command("show", damaged)
    assert outcome.code == 1
    assert "damaged.json is damaged" in outcome.stderr


def test_a_gate_on_agreement_does_not_go_with_the_search(tmp_path: Path) -> None:
    outcome = run_command("explain", tmp_path, "--shortcuts", "--min-agreement-of-reasons", "0.5")
    assert outcome.code == 2
    assert outcome.stderr == (
        "error: --min-agreement-of-reasons judges maps of teacher and expert, which --shortcuts does not compare; "
        "leave one of them out.\n"
    )


def test_a_folder_without_a_student_says_what_to_run(tmp_path: Path) -> None:
    outcome = run_command("explain", tmp_path, "--shortcuts")
    assert outcome.code in (1, 2)
    assert len(outcome.stderr.splitlines()) == 1
