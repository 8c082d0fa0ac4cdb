from pathlib import Path

import onnx

from command import run_command
from edgedistill_deploy.bundle.folder import open_bundle


def test_a_target_decides_what_is_written_and_the_record_says_so(built_run: Path) -> None:
    outcome = run_command("export", built_run, "--target", "onnxruntime-1.15", "--opset", "17")
    assert outcome.code == 0, outcome.stderr
    assert "written for onnxruntime-1.15 (ONNX opset 17, IR version 8)" in outcome.stderr
    assert "note: model.fp32.onnx is of torch's torchscript exporter, because" in outcome.stderr
    bundle = open_bundle(built_run)
    for role in ("model.fp32", "teacher.fp32"):
        assert onnx.load(bundle.file(role)).opset_import[0].version == 17
    record = bundle.manifest["export"]
    assert (record["target"], record["opset"], record["exporter"]) == ("onnxruntime-1.15", 17, "torchscript")


def test_what_cannot_be_read_is_refused_before_anything_is_loaded(built_run: Path) -> None:
    before = (built_run / "manifest.json").read_bytes()
    for flags, said in (
        (("--target", "jetpak-6"), "no export target 'jetpak-6'. Did you mean jetpack-6?"),
        (("--target", "jetpack-6", "--opset", "21"), "reads ONNX opset 20 at most, and opset 21 was asked for"),
    ):
        outcome = run_command("export", built_run, *flags)
        assert outcome.code == 2
        assert said in outcome.stderr
    assert (built_run / "manifest.json").read_bytes() == before
