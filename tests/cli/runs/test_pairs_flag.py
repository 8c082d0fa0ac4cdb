"""Layers paired by hand: `--pairs` and `[student] pairs`."""

from pathlib import Path

import pytest

from command import Outcome, run_command
from edgedistill_deploy.bundle.folder import open_bundle


def distill(tiny_digits: Path, out: Path, *more: str | Path) -> Outcome:
    return run_command(
        "distill",
        "--data",
        f"npz:{tiny_digits}",
        "--teacher",
        "embedded:glyphs100",
        "--classes",
        "0,1,2,3",
        "--student",
        "plain:8-8",
        "--epochs",
        "1",
        "--augment",
        "none",
        "--compute",
        "cpu",
        "--out",
        out,
        *more,
    )


@pytest.mark.parametrize("way", ["flag", "file"])
def test_pairs_are_matched_as_given(tiny_digits: Path, tmp_path: Path, way: str) -> None:
    file = tmp_path / "pairs.toml"
    file.write_text(
        '[student]\nname = "plain:8-8"\npairs = ["layer2 = stages.0", "layer4=stages.1"]\n', encoding="utf-8"
    )
    ways: dict[str, tuple[str | Path, ...]] = {
        "flag": ("--pairs", "layer2=stages.0, layer4=stages.1"),
        "file": ("--config", file),
    }
    outcome = distill(tiny_digits, tmp_path / "run", *ways[way])
    assert outcome.code == 0, outcome.stderr
    assert open_bundle(tmp_path / "run").manifest["distillation"]["pairs"] == [
        {"teacher": "layer2", "student": "stages.0"},
        {"teacher": "layer4", "student": "stages.1"},
    ]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("layer2", "A pair of layers is written TEACHER=STUDENT, such as layer3=stages.2, and 'layer2' was given"),
        ("layer2=stages.0=x", "A pair of layers is written TEACHER=STUDENT"),
        ("=stages.0", "A pair of layers is written TEACHER=STUDENT"),
        ("layer2=stages.0,layer2=stages.1", "The teacher's layer 'layer2' stands in 2 pairs"),
    ],
)
def test_pairs_that_cannot_be_are_refused_before_anything_is_loaded(
    tiny_digits: Path, tmp_path: Path, pairs: str, message: str
) -> None:
    outcome = distill(tiny_digits, tmp_path / "run", "--pairs", pairs)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert not (tmp_path / "run").exists()


def test_a_layer_that_is_not_there_is_answered_with_the_nearest(tiny_digits: Path, tmp_path: Path) -> None:
    outcome = distill(tiny_digits, tmp_path / "run", "--pairs", "layr2=stages.0")
    assert outcome.code == 2
    assert "no layer 'layr2'. Did you mean layer2" in outcome.stderr
