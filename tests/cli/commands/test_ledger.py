"""`ledger`: what it shows of a student with a planted fault, and of what is no ledger."""

import json
import shutil
from pathlib import Path

import pytest

from command import run_command
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from reference.fitted_networks import shape_images
from reference.fragile_networks import fragile_bundle
from reference.shape_bundles import empty_bundle, labelled


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A student one of whose nodes must be left in float."""
    folder = tmp_path_factory.mktemp("ledger")
    training = labelled(folder / "shapes.npz", *shape_images(50, seed=1))
    config = CalibrationConfig(images=32, held_out=64, method="minmax", profile="x86", max_drop=0.1, fp16=False)
    return calibrate(fragile_bundle(folder / "bundle", "inner_1"), training, config)


def test_it_shows_the_chain_the_worst_node_and_what_leaving_it_in_float_bought(bundle: Bundle) -> None:
    outcome = run_command("ledger", bundle.path)
    assert outcome.code == 0
    lines = outcome.stdout.splitlines()
    assert "on 64 training images held out of calibration" in lines[0]
    chain = [line.split("│")[1].strip() for line in lines[4:7]]
    assert chain == ["fp32", "int8", "int8-tensorrt"]
    assert "student has no row: the bundle carries no answers of the torch student." in lines
    first_rows = [
        lines[place + 4].split("│")[1].strip()
        for place, line in enumerate(lines)
        if line.startswith("int8") and "nodes" in line
    ]
    assert first_rows == ["inner_2"] * 4  # two files, their worst node and their only one in float
    assert "of the multiply-adds in float" in outcome.stdout
    assert outcome.stderr == ""


def test_it_shows_as_many_nodes_as_asked_for(bundle: Bundle) -> None:
    few = run_command("ledger", bundle.path, "--nodes", "1").stdout
    assert "longer_2" not in few
    assert "longer_2" in run_command("ledger", bundle.path).stdout


def test_a_sample_of_the_nodes_is_called_one(bundle: Bundle, tmp_path: Path) -> None:
    assert "sample" not in run_command("ledger", bundle.path).stdout
    copied = open_bundle(Path(shutil.copytree(bundle.path, tmp_path / "copy")))
    record = json.loads((copied.path / "ledger.json").read_text())
    for step in record["steps"]:
        for node in step["nodes"][3:]:
            node["alone"] = None
    (copied.path / "ledger.json").write_text(json.dumps(record))
    copied.with_file("ledger", copied.path / "ledger.json")
    shown = run_command("ledger", copied.path).stdout
    assert "int8: the nodes that cost most in a sample of 3 of 8 nodes, the noisiest, on 64 of these images" in shown
    assert "`edgedistill calibrate --ledger-nodes all` measures all" in shown


def test_json_is_the_record(bundle: Bundle) -> None:
    outcome = run_command("ledger", bundle.path, "--json")
    assert json.loads(outcome.stdout) == json.loads((bundle.path / "ledger.json").read_text())


def test_a_missed_goal_is_said_with_its_reason(tmp_path: Path) -> None:
    training = labelled(tmp_path / "shapes.npz", *shape_images(30, seed=1))
    config = CalibrationConfig(images=32, held_out=32, method="minmax", profile="x86", fp16=False, ledger_nodes=0)
    made = calibrate(fragile_bundle(tmp_path / "bundle", "inner_1"), training, config)
    out = run_command("ledger", made.path).stdout
    assert "points, beyond the 1.00 allowed: ledger_nodes is 0, so no node was measured" in out


def test_a_bundle_that_was_not_calibrated_is_refused(tmp_path: Path) -> None:
    outcome = run_command("ledger", empty_bundle(tmp_path / "bundle").path)
    assert outcome.code == 1
    assert "has no ledger" in outcome.stderr


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    outcome = run_command("ledger", tmp_path / "nowhere")
    assert outcome.code == 1
    assert "nowhere" in outcome.stderr
