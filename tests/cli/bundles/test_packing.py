"""`pack`: the smallest bundle for a device, which answers as the whole one does."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest

from command import run_command
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.golden import make_golden_images
from edgedistill_deploy.prediction.expert import Expert
from reference.colour_bundles import colour_bundle
from reference.colour_pictures import picture


@pytest.fixture
def whole(tmp_path: Path) -> Bundle:
    """A bundle with four models, answers of its teacher, and what a training leaves."""
    bundle = colour_bundle(tmp_path / "colours", 12)
    for role in ("model.int8", "model.int8-tensorrt", "teacher.fp32"):
        path = bundle.path / f"{role}.onnx"
        model = onnx.load(bundle.path / "model.fp32.onnx")
        model.doc_string = role
        onnx.save(model, path)
        bundle = bundle.with_file(role, path)
    for role, content in (("golden.int8", b"int8's"), ("student", b"weights"), ("golden-images", b"images")):
        path = bundle.path / f"{role}.npz"
        path.write_bytes(content)
        bundle = bundle.with_file(role, path)
    return bundle.with_fields(distillation={"epochs": 5}, export={"opset": 20})


def recommend(bundle: Bundle, **precisions: str | None) -> Bundle:
    choices = {
        device: {
            "precision": precision,
            "runtime": precision and "onnxruntime",
            "provider": "cpu",
            "model_sha256": precision and bundle.model_sha256(f"model.{precision}"),
        }
        for device, precision in precisions.items()
    }
    return bundle.with_fields(choices=choices)


def pack(bundle: Bundle, *words: str | Path) -> dict[str, Any]:
    outcome = run_command("pack", bundle.path, *words, "--json")
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    assert isinstance(record, dict)
    return record


def test_the_folder_holds_one_model_and_what_belongs_to_it(whole: Bundle) -> None:
    record = pack(whole, "--target", "pi", "--precision", "int8")
    folder = whole.path.parent / "colours-pi"
    assert record["path"] == str(folder)
    names = {"manifest.json", "model.int8.onnx", "golden.npz", "golden.int8.npz", "golden-images.npz", "labels.txt"}
    names |= {"predict.py", "expected.json", *(f"images/{name}" for name in make_golden_images(whole.preprocess).names)}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.relative_to(folder).as_posix() for path in files} == names == set(record["files"])
    assert record["bytes"] == sum(path.stat().st_size for path in files)
    assert record["language"] == "python"
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "red\ngreen\nyellow\n"
    manifest = open_bundle(folder).manifest  # every hash is checked
    for role in ("model.int8", "golden", "golden.int8", "golden-images"):
        assert manifest["files"][role]["sha256"] == whole.manifest["files"][role]["sha256"]
    assert manifest["preprocess"] == whole.manifest["preprocess"]
    assert manifest["packed"] == {"from": "colours", "target": "onnxruntime", "runtime": "onnxruntime"}
    assert manifest["export"] == {"opset": 20}
    assert "distillation" not in manifest


def test_a_packed_expert_answers_as_the_whole_one(whole: Bundle, tmp_path: Path) -> None:
    pack(whole, "--target", "onnxruntime", "--out", tmp_path / "deep" / "packed")
    with Expert(whole, precision="fp32") as one, Expert(tmp_path / "deep" / "packed") as two:
        assert two.model.precision == "fp32"
        assert one.predict(picture("green")).logits.tolist() == two.predict(picture("green")).logits.tolist()


def test_a_zip_holds_the_same_and_is_the_same_each_time(whole: Bundle, tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "expert.zip", tmp_path / "two" / "expert.zip"
    for out in (one, two):
        assert pack(whole, "--target", "pi", "--out", out)["path"] == str(out)
    assert sha256_of_file(one) == sha256_of_file(two)
    with zipfile.ZipFile(one) as archive:
        archive.extractall(tmp_path / "unpacked")
    program = tmp_path / "unpacked" / "expert" / "predict.py"
    checked = subprocess.run([sys.executable, program, "--check"], check=False, capture_output=True, timeout=120)
    assert (checked.returncode, checked.stdout.count(b"as expected: images/")) == (0, 6), checked.stderr
    assert open_bundle(tmp_path / "unpacked" / "expert").precisions == ("fp32",)
    assert {path.name for path in tmp_path.iterdir()} == {"colours", "one", "two", "unpacked"}


def test_tensorrt_gets_the_file_made_for_it(whole: Bundle, tmp_path: Path) -> None:
    record = pack(whole, "--target", "jetson", "--precision", "int8", "--out", tmp_path / "out")
    assert (record["runtime"], record["precision"]) == ("tensorrt", "int8")
    assert "model.int8-tensorrt.onnx" in record["files"]
    assert record["language"] is None
    assert not [name for name in record["files"] if name.startswith(("predict", "images"))]


def test_the_program_can_be_in_another_language_or_be_left_out(whole: Bundle, tmp_path: Path) -> None:
    record = pack(whole, "--target", "pi", "--language", "cpp", "--out", tmp_path / "cpp")
    assert "predict.cpp" in record["files"]
    assert '"model.fp32.onnx"' in (tmp_path / "cpp" / "predict.cpp").read_text(encoding="utf-8")
    plain = pack(whole, "--target", "pi", "--language", "none", "--out", tmp_path / "none")
    assert not {"expected.json", "predict.py"} & set(plain["files"])
    assert plain["bytes"] < record["bytes"]


@pytest.mark.parametrize(
    ("recommended", "packed"),
    [
        ({}, "fp32"),
        ({"pi5": "int8"}, "int8"),
        ({"pi5": "int8", "server": "int8"}, "int8"),
        ({"pi5": "int8", "server": "fp32"}, "fp32"),
        ({"pi5": None}, "fp32"),
    ],
)
def test_the_model_that_all_measured_devices_recommend_is_packed(
    whole: Bundle, tmp_path: Path, recommended: dict[str, str | None], packed: str
) -> None:
    record = pack(recommend(whole, **recommended), "--target", "pi", "--out", tmp_path / "out")
    assert record["precision"] == packed
    choices = open_bundle(tmp_path / "out").manifest["choices"]
    assert set(choices) == {device for device, precision in recommended.items() if precision == packed}


def test_a_file_for_one_device_is_packed_only_where_it_is_asked_for(whole: Bundle, tmp_path: Path) -> None:
    own = whole.path / "model.int8-pi5.onnx"
    shutil.copy(whole.file("model.int8"), own)
    bundle = recommend(whole.with_file("model.int8-pi5", own), pi5="int8-pi5")
    outcome = run_command("pack", bundle.path, "--target", "pi", "--out", tmp_path / "usual")
    assert outcome.code == 0, outcome.stderr
    assert "int8-pi5 is for one device alone, and --precision int8-pi5 packs it" in outcome.stderr
    assert open_bundle(tmp_path / "usual").has("model.int8")
    asked = pack(bundle, "--target", "pi", "--precision", "int8-pi5", "--out", tmp_path / "asked")
    assert asked["precision"] == "int8-pi5"


def test_what_cannot_be_packed_is_one_sentence_and_leaves_nothing(whole: Bundle, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for words, code, message in (
        (["--target", "pii"], 2, "There is no target 'pii'. Did you mean pi?"),
        (["--target", "pi", "--out", tmp_path / "there"], 2, "there is there already, and nothing is replaced"),
        (["--target", "pi", "--out", tmp_path / "link"], 2, "link is there already"),
        (["--target", "pi", "--out", whole.path / "inside"], 2, "lies inside the bundle"),
        (["--target", "pi", "--precision", "fp16"], 1, "has no model of precision fp16"),
        (["--target", "pi", "--language", "c"], 2, "There is no program in 'c'."),
        (["--target", "jetson", "--language", "cpp"], 2, "run the model with onnxruntime, and JetPack"),
        (["--target", "onnxruntime-1.16"], 2, "`edgedistill export "),
        (
            ["--target", "onnxruntime-1.16"],
            2,
            "has ONNX opset 20 and IR version 9, and ONNX Runtime 1.16 reads opset 19",
        ),
    ):
        outcome = run_command("pack", whole.path, *words)
        assert (outcome.code, outcome.stdout) == (code, "")
        assert message in outcome.stderr
    shutil.copy(whole.path / "model.int8.onnx", whole.path / "golden.npz")
    assert "golden.npz has" in run_command("pack", whole.path, "--target", "pi").stderr
    assert {path.name for path in tmp_path.iterdir()} == {"colours", "there", "link"}
