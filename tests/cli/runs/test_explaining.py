"""`edgedistill explain` on a finished run: the record, the tables, the gate, a rival, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from command import run_command
from edgedistill_cli.console import Console
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.settings_file import read_settings

FEW = ("--images", "4", "--method", "lrp")


@pytest.fixture(scope="module")
def explained(shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run, explained once, with the student itself in the place of the rival on labels."""
    run = shutil.copytree(shared_run, tmp_path_factory.mktemp("explained") / "run")
    rivals = run / "rivals" / "labels" / "checkpoint"
    rivals.mkdir(parents=True)
    shutil.copy(run / "distill" / "checkpoint" / "state.pt", rivals / "state.pt")
    settings = read_settings(run / "settings.toml", {})
    key = Run(folder=run, settings=settings, console=Console(quiet=True)).key("distill")
    kept = {"kind": "rival", "name": "labels", "key": key, "correct_hex": "ff", "test_images": 8}
    (run / "rivals" / "labels.json").write_text(json.dumps(kept), encoding="utf-8")
    outcome = run_command("explain", run, *FEW, "--json")
    assert outcome.code == 0, outcome.stderr
    (run / "stdout.json").write_text(outcome.stdout, encoding="utf-8")
    return run


def test_the_record_is_printed_kept_and_shown(explained: Path) -> None:
    path = explained / "explain" / "lrp.json"
    record: dict[str, Any] = json.loads((explained / "stdout.json").read_text(encoding="utf-8"))
    assert record == json.loads(path.read_text(encoding="utf-8"))
    expected = {"kind": "explanation", "schema": 1, "method": "lrp", "images": 4, "split": "validation"}
    assert {name: record[name] for name in expected} == expected
    for picture in record["pictures"]:
        assert (explained / picture["file"]).is_file()
    assert len(record["pictures"]) == 4
    shown = run_command("show", path)
    assert shown.code == 0, shown.stderr
    texts = (
        "Agreement of reasons by lrp, on 4 validation images",
        record["sentences"][0],
        "floor: students of",
        "the expert with itself, under slight noise",
        "cosine with themselves",
    )
    for text in texts:
        assert text in shown.stdout


def test_a_record_of_an_earlier_version_is_shown_without_noise(explained: Path, tmp_path: Path) -> None:
    record = json.loads((explained / "explain" / "lrp.json").read_text(encoding="utf-8"))
    del record["checks"]["noise"]
    (tmp_path / "lrp.json").write_text(json.dumps(record), encoding="utf-8")
    shown = run_command("show", tmp_path / "lrp.json")
    assert shown.code == 0, shown.stderr
    assert "floor: students of" in shown.stdout
    assert "under slight noise" not in shown.stdout


def test_a_rival_with_the_students_own_weights_agrees_as_the_student_does(explained: Path) -> None:
    record = json.loads((explained / "explain" / "lrp.json").read_text(encoding="utf-8"))
    assert record["floors"]["labels"] == record["agreement"]
    assert record["above"]["labels"]["cosine"]["mean"] == 0
    assert not any("labels" in each for each in record["left_out"])


def test_the_gate_reads_what_is_there_and_its_exit_code_says_the_verdict(explained: Path) -> None:
    low, high = json.loads((explained / "explain" / "lrp.json").read_text())["agreement"]["cosine"]["interval"]
    cases = ((max(-1, low - 0.01), "pass", 0), ((low + high) / 2, "inconclusive", 4), (min(1, high + 0.01), "fail", 3))
    made = (explained / "explain" / "lrp" / "images.json").stat().st_mtime_ns
    for least, verdict, code in cases:
        outcome = run_command("explain", explained, *FEW, "--min-agreement-of-reasons", str(least))
        assert outcome.code == code, outcome.stderr
        assert f"agreement of reasons of at least {least:g}: {verdict}" in outcome.stdout
    assert (explained / "explain" / "lrp" / "images.json").stat().st_mtime_ns == made  # nothing was examined anew


def test_a_run_without_rivals_says_so_and_how_to_keep_one(built_run: Path) -> None:
    outcome = run_command("explain", built_run, "--images", "1", "--method", "lrp")
    assert outcome.code == 0, outcome.stderr
    assert "no rival trained on labels was kept; `edgedistill build --rivals` keeps it" in outcome.stdout
    assert "a student trained on labels" not in outcome.stdout


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--min-agreement-of-reasons", "1.5"), 2, "a cosine, from -1 to 1, such as 0.5, and 1.5 was given"),
        (("--method", "lpr"), 2, "method cannot be 'lpr'. Did you mean lrp?"),
        (("--images", "0"), 2, "images must be a number of at least 1, and 0 was given"),
        (("--method", "attention"), 2, "is none: it has no attention. Take --method integrated-gradients."),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(
    built_run: Path, flags: tuple[str, ...], code: int, message: str
) -> None:
    outcome = run_command("explain", built_run, *flags)
    assert outcome.code == code
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA GPU")
def test_a_device_that_is_not_there_is_one_sentence(built_run: Path) -> None:
    outcome = run_command("explain", built_run, "--compute", "cuda")
    assert outcome.code == 2
    assert "compute = 'cuda' is not available on this machine" in outcome.stderr


def test_a_folder_without_a_run_or_a_student_says_what_makes_one(built_run: Path, tmp_path: Path) -> None:
    outcome = run_command("explain", tmp_path / "nowhere")
    assert outcome.code == 2
    assert "is not a run folder" in outcome.stderr
    (built_run / "manifest.json").unlink()
    outcome = run_command("explain", built_run)
    assert outcome.code == 1
    assert (
        f"has no trained student that could be explained; run `edgedistill build --config {built_run}" in outcome.stderr
    )


def test_nothing_is_written_through_a_link_out_of_the_run(built_run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (built_run / "explain").symlink_to(elsewhere)
    outcome = run_command("explain", built_run, *FEW)
    assert outcome.code == 1
    assert "leads out of the bundle" in outcome.stderr
    assert not list(elsewhere.iterdir())
