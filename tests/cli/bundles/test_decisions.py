"""`validate`: the chain, the flips, the summaries for build servers, and the search for the first node that differs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from command import Outcome, run_command
from edgedistill_deploy.onnx_files.graph import read_graph
from reference.faulty_models import scale_weight
from reference.html_page import Page
from reference.junit_shape import checked_suites, outcomes
from shapes import write_shape_folder


def record_of(outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(outcome.stdout)
    return record


def test_the_chain_is_on_screen_in_the_record_and_in_the_report(built_run: Path) -> None:
    outcome = run_command("validate", built_run, "--json")
    record = record_of(outcome)
    steps = {step["precision"]: step for step in record["chain"]}
    assert list(steps) == ["teacher", "fp32", "int8", "int8-tensorrt"]
    assert [step["source"] for step in steps.values()] == [None, "teacher", "fp32", "fp32"]
    by_precision = {each["precision"]: each for each in record["records"]}
    assert set(by_precision) == {"teacher", "fp32", "int8"}
    for name in ("fp32", "int8"):
        assert steps[name]["accuracy"] == by_precision[name]["accuracy"]["candidate"]
        assert steps[name]["model_sha256"] == by_precision[name]["model_sha256"]
    assert steps["fp32"]["loss"] == pytest.approx(by_precision["fp32"]["accuracy"]["drop"])
    lost = steps["fp32"]["accuracy"] - steps["int8"]["accuracy"]
    assert steps["int8"]["loss"] == pytest.approx(lost)

    shown = run_command("validate", built_run).stdout
    assert "Where the accuracy went" in shown
    assert re.search(r"int8-tensorrt\W+fp32\W+\d+\.\d %", shown)
    run_command("report", built_run)
    page = Page((built_run / "report.html").read_text(encoding="utf-8"))
    assert [row[:2] for row in page.sections["parity"].tables[-1][1:]] == [
        ["teacher", ""],
        ["expert fp32", "teacher"],
        ["expert int8", "expert fp32"],
        ["expert int8-tensorrt", "expert fp32"],
    ]


def test_a_build_leaves_the_chain_for_the_report(built_run: Path) -> None:
    (path,) = (built_run / "chain").glob("*.json")
    steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
    # `validate` on the same folder, which another test may have run, adds the file for TensorRT.
    assert [step["precision"] for step in steps][:3] == ["teacher", "fp32", "int8"]


def test_flips_are_pictured_in_the_folder_and_in_the_report(built_run: Path, tmp_path: Path) -> None:
    outcome = run_command("validate", built_run, "--flips", tmp_path / "flips")
    records = json.loads((tmp_path / "flips" / "flips.json").read_text(encoding="utf-8"))["records"]
    assert [each["precision"] for each in records] == ["fp32", "int8"]
    for record in records:
        pictures = sorted(path.name for path in (tmp_path / "flips" / record["precision"]).glob("*.png"))
        assert len(pictures) == record["flip_count"] > 0
        told = f"expert {record['precision']}: {record['flip_count']} of 80 images are decided differently"
        assert told in outcome.stdout
    run_command("report", built_run)
    html = (built_run / "report.html").read_text(encoding="utf-8")
    start = html.index('<section id="flips"')
    shown = re.findall("<img ", html[start : html.index("</section>", start)])
    assert len(shown) == sum(min(12, record["flip_count"]) for record in records)


def test_flips_of_own_images_carry_their_names(built_run: Path, tiny_digits: Path, tmp_path: Path) -> None:
    run_command("validate", built_run, "--precision", "fp32", "--data", f"npz:{tiny_digits}", "--flips", tmp_path / "f")
    (record,) = json.loads((tmp_path / "f" / "flips.json").read_text(encoding="utf-8"))["records"]
    assert record["flips"]
    assert all("tiny.npz" in flip["name"] for flip in record["flips"])


def test_summaries_are_written_for_build_servers(
    built_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Job\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    words: list[str | Path] = [
        "validate",
        built_run,
        "--max-drop",
        "0.9",
        "--junit",
        tmp_path / "junit.xml",
        "--markdown",
    ]
    assert run_command(*words, summary).code == 0
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("# Job\n\n## ✅ EdgeDistill: ")
    suites = checked_suites((tmp_path / "junit.xml").read_text(encoding="utf-8"))
    assert [suite.attrib["failures"] for suite in suites] == ["0", "0", "0"]
    assert "metamorphic.batch_of_one" in outcomes(suites[1])
    other = tmp_path / "other.md"
    other.write_text("old", encoding="utf-8")
    run_command(*words, other)
    assert other.read_text(encoding="utf-8").startswith("## ✅ EdgeDistill: ")
    assert "## ✅ EdgeDistill: " in run_command(*words, "-").stdout


def test_an_unmet_gate_is_red_in_the_summaries_too(built_run: Path, tmp_path: Path) -> None:
    words = ("--precision", "fp32", "--max-drop", "0", "--junit", tmp_path / "junit.xml")
    assert run_command("validate", built_run, *words).code in (3, 4)
    (suite,) = checked_suites((tmp_path / "junit.xml").read_text(encoding="utf-8"))
    assert int(suite.attrib["failures"]) >= 1


def test_bisection_of_a_sound_run_finds_nothing(built_run: Path) -> None:
    outcome = run_command("validate", built_run, "--bisect")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith("No difference was found: all ")
    (path,) = (built_run / "bisect").glob("*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["candidate"]["precision"] == "int8"
    for against in ("unoptimised", "onnxruntime:cpu", "int8-tensorrt"):
        found = run_command("validate", built_run, "--bisect", "--against", against, "--image", "5", "--json")
        assert (found.code, record_of(found)["verdict"]) == (0, "agree")
    fp32 = record_of(run_command("validate", built_run, "--bisect", "--precision", "fp32", "--json"))
    assert fp32["reference"]["optimised"] is False


def test_bisection_names_the_node_and_the_module(built_run: Path, tmp_path: Path) -> None:
    source = built_run / "model.fp32.onnx"
    convolutions = [node for node in read_graph(source).nodes if node.operator == "Conv"]
    faulty = scale_weight(source, tmp_path / "faulty.onnx", convolutions[4].name, 1.5)
    words = ("--bisect", "--precision", "fp32", "--against", faulty)
    outcome = run_command("validate", built_run, *words, "--json")
    record = record_of(outcome)
    assert (outcome.code, record["verdict"]) == (3, "diverge")
    assert record["first"]["node"] == convolutions[4].name
    assert convolutions[4].inputs[1].removeprefix("model.").startswith(record["first"]["module"])
    shown = run_command("validate", built_run, *words).stdout
    assert f"They differ first at Conv {convolutions[4].name}, of module {record['first']['module']}:" in shown
    assert "runs, by bisection." in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--against", "fp32"), "--against belongs to --bisect; give both."),
        (("--image", "3"), "--image belongs to --bisect"),
        (("--tolerance", "0.1"), "--tolerance belongs to --bisect"),
        (("--bisect", "--flips", "x"), "so --flips has nothing to tell; leave one of them out."),
        (("--bisect", "--junit", "x"), "so --junit has nothing to tell"),
        (("--json", "--markdown", "-"), "--json and --markdown - both want the standard output"),
        (("--bisect", "--image", "80"), "There is no image 80; the 80 images are numbered from 0 to 79."),
        (("--bisect", "--image", "-1"), "There is no image -1;"),
        (("--bisect", "--against", "nothing"), "There is nothing called nothing to compare with; name a precision"),
        (("--bisect", "--tolerance", "0"), "The tolerance is 0.0; it must be above 0"),
    ],
)
def test_flags_that_do_not_fit_are_refused(words: tuple[str, ...], told: str, built_run: Path) -> None:
    outcome = run_command("validate", built_run, *words)
    assert outcome.code == 2
    assert told in " ".join(outcome.stderr.split())


def test_a_precision_that_is_not_there_cannot_be_searched(built_run: Path) -> None:
    outcome = run_command("validate", built_run, "--bisect", "--precision", "fp16")
    assert outcome.code == 1
    assert "has no model of precision fp16; it has fp32, int8, int8-tensorrt, teacher." in outcome.stderr


def test_images_of_other_classes_are_refused_by_name(built_run: Path, tmp_path: Path) -> None:
    images = write_shape_folder(tmp_path / "shapes", count=2, formats=("RGB.png",))
    outcome = run_command("validate", built_run, "--data", images)
    assert outcome.code == 2
    assert f"{images} has none of the bundle's classes (" in outcome.stderr
    assert "only circle, cross, ring, square, triangle; name its" in outcome.stderr
