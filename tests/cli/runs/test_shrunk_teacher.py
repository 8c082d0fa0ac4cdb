"""A run whose student is its own teacher with fewer channels: from the command to the exported file."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from command import Outcome, run_command, write_quick_settings, write_tiny_digits
from edgedistill.shrinking import shrinking
from edgedistill.shrinking.shape import ShrunkShape
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model

TEACHER = ("--teacher", "embedded:glyphs100", "--classes", "0,1")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shrunk")
    digits = write_tiny_digits(folder / "few.npz", counts=(8, 4, 4))
    return write_quick_settings(folder / "s.toml", digits, student="teacher:0.5", opset=17, epochs=1)


@pytest.fixture(scope="module")
def distilled(settings: Path) -> tuple[Path, Outcome]:
    run = settings.parent / "run"
    return run, run_command("distill", "--config", settings, "--out", run)


def manifest_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_the_run_says_and_records_what_the_student_is(distilled: tuple[Path, Outcome]) -> None:
    run, outcome = distilled
    assert outcome.code == 0, outcome.stderr
    assert (
        "the student starts from the trained weights of the teacher, shrunk to 0.5 of its channels by relevance; the "
        "head starts from 4 of 4 trained rows"
    ) in outcome.stderr
    manifest = manifest_of(run)
    assert manifest["shrunk"]["architecture"] == "resnet18"
    assert manifest["shrunk"]["channels"] == "relevance"
    assert manifest["student"]["name"] == "teacher:0.5"
    assert manifest["student"]["multiply_adds"] < 0.7 * manifest["teacher"]["multiply_adds"]
    assert 'channels = "relevance"' in (run / "settings.toml").read_text(encoding="utf-8")


def test_the_exported_file_answers_as_the_network_of_the_manifest(
    distilled: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    run, _ = distilled
    monkeypatch.setitem(sys.modules, "torch_pruning", None)  # what is distilled needs the library no more
    outcome = run_command("export", run)
    assert outcome.code == 0, outcome.stderr
    manifest, bundle = manifest_of(run), open_bundle(run)
    network = ShrunkShape.from_json(manifest["shrunk"]).build(4, bundle.preprocess.size)
    network.load_state_dict(load_file(run / "distill" / "student.safetensors"), strict=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *bundle.preprocess.size, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network.eval()((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.13) / 0.3).numpy()
    with open_model(run / "model.fp32.onnx", precision="fp32") as session:
        np.testing.assert_allclose(logits_of(session, pixels), expected, atol=1e-3)


def test_a_run_that_goes_on_chooses_no_channels_again(
    distilled: tuple[Path, Outcome], settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = distilled
    before = load_file(run / "distill" / "student.safetensors")
    (run / "distill" / "student.safetensors").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the channels were chosen before")

    monkeypatch.setattr(shrinking, "shrink_teacher", refuse)
    outcome = run_command("distill", "--config", settings, "--out", run)
    assert outcome.code == 0, outcome.stderr
    after = load_file(run / "distill" / "student.safetensors")
    assert all((after[name] == tensor).all() for name, tensor in before.items())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--student", "teacher:half"), "above 0 and below 1, such as teacher:0.5, and 'teacher:half' was given"),
        (("--student", "teacher:1.5"), "and 'teacher:1.5' was given"),
        (("--student", "teacher:0.5", "--student-width", "0.5"), "--student-width 0.5 was given too; leave it out"),
        (("--student", "teacher:0.5", "--student-channels", "colour"), "student.channels cannot be 'colour'"),
        (("--student", "plain:8-8", "--student-channels", "random"), "the student is plain:8-8; leave it out"),
        (("--student", "teacher:0.5", "--teacher", "torchvision:resnet18"), "Only a teacher of timm can be shrunk"),
    ],
)
def test_wrong_names_are_refused_at_once(flags: tuple[str, ...], said: str, settings: Path, tmp_path: Path) -> None:
    data = settings.parent / "few.npz"
    teacher = TEACHER[2:] if "--teacher" in flags else TEACHER
    outcome = run_command("build", *teacher, "--data", f"npz:{data}", "--dry-run", "--out", tmp_path / "out", *flags)
    assert outcome.code == 2, outcome.stderr
    assert said in " ".join(outcome.stderr.split())


def test_weights_of_ones_own_are_refused(settings: Path, tmp_path: Path) -> None:
    outcome = run_command("distill", "--config", settings, "--student-weights", "mine", "--out", tmp_path / "out")
    assert outcome.code == 2, outcome.stderr
    assert "the student teacher:0.5 starts from its teacher's weights" in outcome.stderr


def test_without_the_library_nothing_starts(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch_pruning" else object())
    outcome = run_command("distill", "--config", settings, "--out", tmp_path / "out")
    assert outcome.code == 1, outcome.stderr
    assert "The student teacher:0.5 needs torch_pruning, which is not installed" in outcome.stderr
    assert "pip install 'edgedistill[shrink]'" in outcome.stderr
