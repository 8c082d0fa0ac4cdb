"""`validate --preprocess-drift` on the four digits, of which the images are smaller than the teacher's input."""

import json
from pathlib import Path

import jsonschema

from command import run_command

SCHEMA = json.loads((Path(__file__).parents[2] / "deploy" / "schemas" / "parity.json").read_text(encoding="utf-8"))


def test_the_drift_is_a_table_and_part_of_each_experts_record(built_run: Path, tiny_digits: Path) -> None:
    words = ("validate", built_run, "--data", f"npz:{tiny_digits}", "--preprocess-drift")
    as_json = run_command(*words, "--json")
    assert as_json.code in (0, 3, 4), as_json.stderr
    for record in json.loads(as_json.stdout)["records"]:
        jsonschema.validate(record, SCHEMA)
        rows = record["preprocess_drift"]
        if record["precision"] == "teacher":
            assert rows is None
            continue
        variants = {row["variant"]: row for row in rows}
        assert {"as_trained", "no_antialias", "nearest", "bicubic", "lanczos", "squash", "bgr"} <= set(variants)
        assert variants["as_trained"]["accuracy"] == record["accuracy"]["candidate"]
        assert variants["nearest"]["changed_share"] == 1.0
        # The digits are grey.
        assert variants["bgr"]["drop_points"] == 0
    shown = run_command(*words, "--precision", "fp32")
    assert "What other preparations of the images would cost: expert fp32" in shown.stdout
    assert "no_antialias" in shown.stdout


def test_the_drift_needs_image_files(built_run: Path) -> None:
    outcome = run_command("validate", built_run, "--preprocess-drift")
    assert outcome.code == 2
    assert "--preprocess-drift needs image files to prepare in other ways" in outcome.stderr
