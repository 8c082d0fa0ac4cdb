import json
from pathlib import Path
from typing import Any

import pytest

from command import run_command
from edgedistill_cli.bundles.profiling import Gates, batch_sizes, one_or_several
from edgedistill_cli.console import Console
from edgedistill_cli.tables.latency import _show_comparison
from edgedistill_deploy.errors import UsageError

QUICK = ("--duration", "0.1", "--warmup", "0", "--quiet")


def measured(*argv: str | Path) -> dict[str, Any]:
    outcome = run_command("profile", *argv, *QUICK, "--json")
    assert outcome.code == 0, outcome.stderr
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def test_a_sweep_makes_a_record_for_every_batch_size(built_run: Path) -> None:
    profile = measured(built_run, "--precision", "fp32", "--batch-size", "1,3")
    assert [record["batch_size"] for record in profile["records"]] == [1, 3]
    device = profile["records"][0]["device"]["name"]
    assert (built_run / "latency" / f"{device}-onnxruntime-fp32-b3.json").is_file()


def test_an_earlier_record_is_compared_with(built_run: Path, tmp_path: Path) -> None:
    earlier = measured(built_run, "--precision", "fp32")
    slower = {**earlier, "samples_ms": [100.0 * ms for ms in earlier["samples_ms"]]}
    file = tmp_path / "before.json"
    file.write_text(json.dumps(slower), encoding="utf-8")
    record = measured(built_run, "--precision", "fp32", "--against", file)
    assert record["against"]["verdict"] == "faster"
    assert record["against"]["file"] == str(file)
    shown = run_command("profile", built_run, "--precision", "fp32", "--against", file, *QUICK).stdout
    assert f"expert fp32: faster, against {file}: it takes 0.0" in shown


def test_an_earlier_record_of_something_else_is_refused(built_run: Path, tmp_path: Path) -> None:
    earlier = measured(built_run, "--precision", "fp32", "--batch-size", "2")
    file = tmp_path / "before.json"
    file.write_text(json.dumps(earlier), encoding="utf-8")
    outcome = run_command("profile", built_run, "--precision", "fp32", "--against", file, *QUICK)
    assert outcome.code == 2
    assert "has no record of a precision and batch size that was measured now" in outcome.stderr


@pytest.mark.parametrize(("budget_ms", "code", "verdict"), [("10000", 0, "pass"), ("0.000001", 3, "fail")])
def test_a_budget_is_a_gate(built_run: Path, budget_ms: str, code: int, verdict: str) -> None:
    outcome = run_command(
        "profile", built_run, "--precision", "fp32", "--budget-ms", budget_ms, "--percentile", "50", "--json", *QUICK
    )
    assert outcome.code == code
    assert json.loads(outcome.stdout)["budget"]["verdict"] == verdict


def test_a_budget_that_too_few_runs_cannot_decide_says_how_many_would(built_run: Path) -> None:
    outcome = run_command(
        "profile", built_run, "--precision", "fp32", "--budget-ms", "10000", "--percentile", "99.99", *QUICK
    )
    assert outcome.code == 4
    assert "more runs would decide it: give a longer --duration" in outcome.stdout


def record(precision: str, batch_size: int = 1, runtime: str = "onnxruntime") -> dict[str, Any]:
    return {
        "kind": "latency", "schema": 1, "precision": precision, "batch_size": batch_size, "runtime": runtime,
        "provider": "cpu", "threads": 1, "samples_ms": [1.0] * 400, "device": {"name": "board"}, "flags": [],
    }  # fmt: skip


def test_the_teacher_does_not_break_the_budget_of_the_experts() -> None:
    gates = Gates.of(2.0, 99.0, None, 0.03, 0)
    slow = {**record("teacher"), "samples_ms": [9.0] * 400}
    assert gates.verdict(gates.judge({"records": [slow, record("fp32")]})) == "pass"
    assert gates.verdict(gates.judge({"records": [slow]})) == "fail"


def test_the_counterpart_is_the_same_model_or_the_only_one(tmp_path: Path) -> None:
    def compared(earlier: list[dict[str, Any]], *now: dict[str, Any]) -> list[float | None]:
        file = tmp_path / "set.json"
        file.write_text(json.dumps({"kind": "latency-set", "schema": 1, "records": earlier}), encoding="utf-8")
        judged = Gates.of(None, 99.0, file, 0.03, 0).judge({"records": list(now)})
        return [each["against"]["ratio"] if "against" in each else None for each in judged["records"]]

    halves = {**record("int8"), "samples_ms": [2.0] * 9}
    assert compared([record("fp32"), halves], record("int8"), record("fp32")) == [0.5, 1.0]
    assert compared([halves], record("teacher"), record("fp32")) == [None, 0.5]
    other = {**record("int8", runtime="tensorrt"), "samples_ms": [4.0] * 9}
    assert compared([other, halves], record("int8")) == [0.5]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--batch-size", "0"], "--batch-size takes different whole numbers from 1 on"),
        (["--batch-size", "1,x"], "such as 4 or 1,4,16, and '1,x' was given"),
        (["--batch-size", "4,4"], "different whole numbers"),
        (["--batch-size", "4", "--sweep"], "--sweep chooses the batch sizes itself"),
        (["--rate", "0"], "rate is 0.0; it must be more than 0"),
        (["--rate", "0.01"], "--duration 500 or more"),
        (["--rate", "9", "--arrivals", "constnt"], "no arrivals 'constnt'. Did you mean constant"),
        (["--precisions", "fp32,in8"], "no precision 'in8'. Did you mean int8"),
        (["--precisions", "fp32"], "A comparison needs two models at least"),
        (["--precisions", ","], "--precisions takes different names"),
        (["--runtimes", "onnxruntime,tensort"], "no runtime 'tensort'. Did you mean tensorrt"),
        (["--budget-ms", "-1"], "The budget is -1.0 ms"),
        (["--budget-ms", "8", "--percentile", "100"], "The percentile is 100.0"),
        (["--margin", "2"], "margin is 2.0"),
        (["--duration", "-1"], "duration_s is -1.0"),
    ],
)
def test_wrong_flags_are_one_sentence_and_code_2(built_run: Path, argv: list[str], sentence: str) -> None:
    outcome = run_command("profile", built_run, *argv)
    assert outcome.code == 2
    assert sentence in outcome.stderr
    assert outcome.stderr.startswith("error: ")
    assert "Traceback" not in outcome.stderr


def test_lists_of_flags() -> None:
    assert one_or_several(None, None, "--precisions") is None
    assert one_or_several("int8", None, "--precisions") == ("int8",)
    assert one_or_several("int8", "fp32, int8", "--precisions") == ("fp32", "int8")
    assert batch_sizes(None, sweep=False) == (1,)
    assert batch_sizes("1, 4,16", sweep=False) == (1, 4, 16)
    assert batch_sizes(None, sweep=True) == (1, 2, 4, 8, 16, 32)
    with pytest.raises(UsageError, match="different whole numbers"):
        batch_sizes("", sweep=False)


def test_comparisons_are_shown_with_their_margin_and_the_machine_against_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = {"candidate": "int8", "baseline": "fp32", "ratio": 1.004, "interval": [0.99, 1.02], "margin": 0.05}
    _show_comparison(
        {
            "a_a": {"sentence": "A/A was quiet."},
            "pairs": [
                {**pair, "verdict": "equal", "sentence": "They are alike."},
                {**pair, "verdict": "inconclusive", "sentence": "Who knows."},
            ],
        },
        Console(),
    )
    shown = capsys.readouterr().out
    for text in (
        "int8 / fp32",
        "1.004",
        "0.990 to 1.020",
        "5.0%",
        "not distinguishable",
        "undecided",
        "A/A was quiet.",
        "Who knows.",
    ):
        assert text in shown


@pytest.mark.slow
def test_everything_together_is_shown_in_tables(built_run: Path) -> None:
    outcome = run_command(
        "profile", built_run, "--precisions", "fp32,int8", "--rate", "100", "--cold-start", "--end-to-end",
        "--budget-ms", "10000", "--percentile", "50", "--batch-size", "1,2", *QUICK,
    )  # fmt: skip
    assert outcome.code == 0
    for text in (
        "empty call", "p99 undisturbed", "expert int8, batch 2",
        "From arrival to completion at 100 images a second, poisson arrivals", "keeps up",
        "From JPEG to logits", "decode, p50", "Cold start: medians of 5 new processes",
        "int8 on onnxruntime / fp32 on onnxruntime", "A/A: the same model in two processes, 4 times",
        "p50 of arrival to completion at 100 images a second keeps the budget",
    ):  # fmt: skip
        assert text in outcome.stdout
