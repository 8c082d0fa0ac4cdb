"""`export --any-size`: files beside those that are there, which follow them when they change."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from command import run_command
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.prediction.expert import Expert
from reference.colour_bundles import colour_bundle
from reference.colour_pictures import picture

FILES = ["model.fp32-any-size.onnx", "model.fp16-any-size.onnx", "model.int8-any-size.onnx"]


def test_a_run_gets_a_file_for_each_precision_that_follows_its_model(built_run: Path, tmp_path: Path) -> None:
    stages = open_bundle(built_run).manifest["stages"]
    outcome = run_command("export", built_run, "--any-size", "--json")
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    written = [name for name in FILES if (built_run / name.replace("-any-size", "")).exists()]
    assert list(record["files"]) == written
    assert {"model.fp32-any-size.onnx", "model.int8-any-size.onnx"} <= set(written)
    for each in record["files"].values():
        assert each["image_count"] > 6  # the drawn ones, and some of the run's own
        assert each["largest_difference"] <= 1
    bundle = open_bundle(built_run)  # all hashes are checked
    assert bundle.manifest["stages"] == stages  # nothing was exported anew
    photo = picture("red", (90, 61))
    session = onnxruntime.InferenceSession(built_run / "model.fp32-any-size.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": np.asarray(photo)[None]})
    with Expert(built_run, precision="fp32") as expert:
        assert logits[0] == pytest.approx(expert.predict(photo).logits, abs=1e-3)
    for words in (("show",), ("validate", "--precision", "fp32")):
        assert run_command(words[0], built_run, *words[1:], "--quiet").code in (0, 3, 4)
    # A new export makes new models, and the files for any size with them.
    again = run_command("export", built_run, "--opset", "17")
    assert again.code == 0, again.stderr
    renewed = open_bundle(built_run)
    assert {path.name for path in built_run.glob("*any-size*")} == set(written)
    recorded = renewed.manifest["any_size"]["fp32"]["source_sha256"]
    assert recorded == renewed.model_sha256("model.fp32") != bundle.model_sha256("model.fp32")


def test_a_bundle_without_data_is_compared_on_drawn_pictures(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "colours", 12)
    outcome = run_command("export", bundle.path, "--any-size")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout == f"{bundle.path}: model.fp32-any-size.onnx written\n"
    assert "on 6 images its pixels are" in outcome.stderr


def test_what_does_not_go_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "colours", 12)
    for words, code, message in (
        ((bundle.path, "--opset", "18"), 2, "--any-size makes files out of those that are there"),
        ((tmp_path / "none",), 1, "The bundle"),
    ):
        outcome = run_command("export", *words, "--any-size")
        assert (outcome.code, outcome.stdout) == (code, "")
        assert message in outcome.stderr
    (bundle.path / "model.fp32.onnx").write_bytes(b"changed")
    assert "restore or rebuild it" in run_command("export", bundle.path, "--any-size").stderr
    assert not list(bundle.path.glob("*any-size*"))
    assert not (tmp_path / "none").exists()
