"""`edgedistill compare` as a user types it: killed and gone on with, as JSON, and refused where it must be."""

import importlib.util
import json
import shutil
import statistics
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from command import run_command
from edgedistill_cli.studies.comparison_table import _at_the_edge
from forking import fork_command, wait_until


def argv(npz: Path, out: Path, *more: str) -> list[str]:
    return [
        "compare",
        *("--data", f"npz:{npz}"),
        *("--teacher", "embedded:glyphs100"),
        *("--classes", "0,1,2,3"),
        *("--student", "plain:8-8"),
        *("--epochs", "1", "--batch-size", "16", "--augment", "none", "--compute", "cpu", "--lr", "0.01"),
        *("--train-sizes", "24", "--validation-images", "20", "--seeds", "2", "--lambdas", "1,10"),
        *("--methods", "subdistill,logits"),
        *("--out", str(out)),
        *more,
    ]


@pytest.fixture(scope="module")
def whole(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison that nobody stopped."""
    out = tmp_path_factory.mktemp("compared") / "out"
    outcome = run_command(*argv(tiny_digits, out))
    assert outcome.code == 0, outcome.stderr
    for words in ("subdistill", "logits", "not distinguishable", "test accuracy, %", "teacher: "):
        assert words in outcome.stdout
    assert "…" not in outcome.stdout
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["rows"]
    return found


def lines(folder: Path) -> list[str]:
    file = folder / "results.jsonl"
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def test_the_record_holds_what_was_compared_and_the_picture_is_svg(whole: Path) -> None:
    record = json.loads((whole / "comparison.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["schema"], record["reference"]) == ("comparison", 1, "subdistill")
    assert [row["method"] for row in record["rows"]] == ["subdistill", "logits"]
    assert [row["trainings"] for row in record["rows"]] == [3, 2]
    assert record["tasks"][0]["images"] == {"train": 160, "validation": 20, "test": 80}
    for row in record["rows"]:
        assert row["mean"] == pytest.approx(sum(run["test_accuracy"] for run in row["runs"]) / 2)
    assert ElementTree.parse(whole / "comparison.svg").getroot().tag.endswith("svg")


def children(process: BaseProcess) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8")
    return [int(each) for each in listed.split()]


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_table(
    whole: Path, tiny_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = fork_command(*argv(tiny_digits, out, "--jobs", "2", "--quiet"), output=tmp_path / "out.txt")
    wait_until(lambda: len(lines(out)) >= 2, process)
    workers = children(process)
    process.kill()
    process.join()
    kept = lines(out)
    assert len(kept) < len(lines(whole))
    deadline = time.monotonic() + 120
    while any(running(each) for each in workers):
        assert time.monotonic() < deadline, "a process outlived the command that started it"
        time.sleep(0.05)

    outcome = run_command(*argv(tiny_digits, out, "--json"))
    assert outcome.code == 0, outcome.stderr
    assert lines(out)[: len(kept)] == kept
    assert len(lines(out)) == len(lines(whole))
    assert json.loads(outcome.stdout)["rows"] == rows(out) == rows(whole)


def test_a_dry_run_counts_and_touches_nothing(whole: Path, tiny_digits: Path, tmp_path: Path) -> None:
    outcome = run_command(*argv(tiny_digits, tmp_path / "new", "--dry-run", "--json"))
    assert json.loads(outcome.stdout)["runs"] == 5
    assert json.loads(outcome.stdout)["done"] == 0
    assert not (tmp_path / "new").exists()
    again = run_command(*argv(tiny_digits, whole, "--dry-run"))
    assert "5 runs of 2 methods, 5 of them done" in again.stdout


def test_a_weight_at_the_edge_of_those_tried_is_named(whole: Path) -> None:
    record = json.loads((whole / "comparison.json").read_text(encoding="utf-8"))
    (chosen,) = record["rows"][0]["lambdas"]
    (sentence,) = _at_the_edge(record)
    assert sentence.startswith(
        f"lambda {chosen:g} is at the edge of those tried (subdistill): a better one may lie beyond"
    )
    assert _at_the_edge({**record, "lambdas": [0.1, 1, 10, 100]}) == []
    assert _at_the_edge({**record, "lambdas": [chosen]}) == []


def test_one_weight_for_all_is_taken_without_tuning(whole: Path, tiny_digits: Path) -> None:
    words = argv(tiny_digits, whole, "--dry-run", "--json", "--lambda-layer", "10")
    without = [each for each in words if each not in ("--lambdas", "1,10")]
    assert json.loads(run_command(*without).stdout)["runs"] == 4


def test_several_seeds_choose_the_weight_when_asked_to(whole: Path, tiny_digits: Path, tmp_path: Path) -> None:
    """One weight more is tried with the second seed, and the better mean of both is taken."""
    copy = shutil.copytree(whole, tmp_path / "copy")
    outcome = run_command(*argv(tiny_digits, copy, "--tune-seeds", "2", "--json"))
    assert outcome.code == 0, outcome.stderr
    assert len(trained(copy)) == len(trained(whole)) + 1
    means = {
        weight: statistics.fmean(
            each["validation_accuracy"]
            for each in trained(copy)
            if each["method"] == "subdistill" and each["lambda_layer"] == weight
        )
        for weight in (1.0, 10.0)
    }
    assert rows(copy)[0]["lambdas"] == [max(means, key=lambda weight: (means[weight], -weight))]


def trained(out: Path) -> list[dict[str, Any]]:
    return [each for each in map(json.loads, lines(out)) if each["kind"] == "train"]


def test_one_seed_distinguishes_nothing_and_says_why(whole: Path, tiny_digits: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    outcome = run_command(*argv(tiny_digits, copy, "--seeds", "1"))
    assert outcome.code == 0, outcome.stderr
    assert lines(copy) == lines(whole)
    assert "logits: one seed: no spread to judge the difference by" in outcome.stdout
    assert "ahead" not in outcome.stdout
    assert json.loads((copy / "comparison.json").read_text(encoding="utf-8"))["rows"][1]["deviation"] is None


def test_failed_runs_are_said_after_the_table(tiny_digits: Path, tmp_path: Path) -> None:
    words = argv(tiny_digits, tmp_path, "--lr", "1e30", "--methods", "logits,labels", "--seeds", "1")
    config = tmp_path / "clip.toml"
    config.write_text("[distill]\ngradient_clip = 0.0\n", encoding="utf-8")
    outcome = run_command(*words, "--config", config)
    assert outcome.code == 1
    assert "2 runs failed and are missing from the table; the first (logits, seed 0)" in outcome.stderr
    assert "1 missing" in outcome.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--methods", "subdistil"), "There is no method 'subdistil' to compare. Did you mean subdistill"),
        (("--lambdas", "1;10"), "--lambdas takes numbers with commas between them, and '1;10' was given"),
        (("--train-sizes", "60,many"), "--train-sizes takes whole numbers with commas"),
        (("--train-sizes", "nan"), "--train-sizes takes whole numbers with commas"),
        (("--train-sizes", "60.7"), "--train-sizes takes whole numbers with commas"),
        (("--classes", "0,zz"), "The teacher has no class 'zz'"),
        (("--lambda-layer", "much"), "lambda_layer must be"),
        (("--train-sizes", "2"), "2 training images were asked for"),
        (("--tune-sizes", "none"), "tune_sizes cannot be 'none'"),
        (("--tune-seeds", "3"), "tune_seeds must be from 1 to the number of seeds (2), and 3 was given"),
        (("--student", "timm:resnet10"), "resnet10"),
    ],
)
def test_wrong_usage_is_refused_with_code_2_before_anything_is_run(
    tiny_digits: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    outcome = run_command(*argv(tiny_digits, tmp_path / "out", *more))
    assert outcome.code == 2
    assert message in outcome.stderr
    assert lines(tmp_path / "out") == []


@pytest.mark.parametrize("library", ["matplotlib", "scipy"])
def test_a_missing_library_is_named_before_anything_starts(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else find(name))
    outcome = run_command(*argv(tiny_digits, tmp_path / "out"))
    assert outcome.code == 1
    assert f"needs {library}, which is not installed: pip install 'edgedistill[compare]'" in outcome.stderr
    assert not (tmp_path / "out").exists()


REASONS = ("--explain", "--explain-method", "integrated-gradients", "--explain-images", "4", "--explain-steps", "1")


def test_reasons_are_added_to_a_finished_comparison_and_stay_there(
    whole: Path, tiny_digits: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    planned = json.loads(run_command(*argv(tiny_digits, copy, *REASONS, "--dry-run", "--json")).stdout)
    assert {key: planned[key] for key in ("runs", "done", "explanations", "explained")} == {
        "runs": 5,
        "done": 5,
        "explanations": 6,
        "explained": 0,
    }
    outcome = run_command(*argv(tiny_digits, copy, *REASONS))
    assert outcome.code == 0, outcome.stderr
    assert trained(copy) == trained(whole)
    added = [json.loads(line)["kind"] for line in lines(copy)[len(lines(whole)) :]]
    assert sorted(added) == ["explain"] * 4 + ["floors"] * 2
    for words in ("reasons", "Agreement of reasons with the teacher, 24 training images", "top tenth", "cosine on 4"):
        assert words in outcome.stdout
    explained = rows(copy)
    for row, plain in zip(explained, rows(whole), strict=True):
        assert (row["mean"], row["difference"]) == (plain["mean"], plain["difference"])
        cosines = [run["reasons"]["cosine"] for run in row["runs"]]
        assert row["reasons"]["cosine"]["mean"] == pytest.approx(statistics.fmean(cosines))
        shown = f"{statistics.fmean(cosines):.2f} ± {statistics.stdev(cosines):.2f}"
        assert shown.replace("-", "−") in outcome.stdout

    later = run_command(*argv(tiny_digits, copy, "--json"))
    assert later.code == 0, later.stderr
    assert json.loads(later.stdout)["rows"] == rows(copy) == explained


def test_without_the_flag_nothing_is_said_about_reasons(whole: Path, tiny_digits: Path) -> None:
    outcome = run_command(*argv(tiny_digits, whole, "--dry-run"))
    assert "explanations" not in outcome.stdout
    assert json.loads((whole / "comparison.json").read_text(encoding="utf-8"))["explain"] is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--explain-method", "lrp"), "--explain-method says how to explain; give --explain as well"),
        (("--explain", "--explain-method", "lrpp"), "For --explain, method cannot be 'lrpp'"),
        (("--explain", "--explain-images", "0"), "For --explain, images must be a number of at least 1"),
        (("--explain", "--explain-steps", "0"), "steps must be a number of at least 1"),
    ],
)
def test_wrong_ways_to_explain_are_refused_with_code_2(
    tiny_digits: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    outcome = run_command(*argv(tiny_digits, tmp_path / "out", *more))
    assert outcome.code == 2
    assert message in outcome.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("library", "method"), [("captum", "auto"), ("zennit", "lrp")])
def test_a_library_that_explains_is_missed_before_anything_is_trained(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, method: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else find(name))
    outcome = run_command(*argv(tiny_digits, tmp_path / "out", "--explain", "--explain-method", method))
    assert outcome.code == 1
    assert f"needs {library}, which is not installed: pip install 'edgedistill[explain]'" in outcome.stderr
    assert not (tmp_path / "out").exists()
