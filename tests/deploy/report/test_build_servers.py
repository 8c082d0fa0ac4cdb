"""What a build server and a maintainer are shown, from records that hold, fail, cannot tell, or cannot be read."""

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.parity.check import check_parity
from edgedistill_deploy.records.parity import ParityReport, UnreadableParity, read_parity
from edgedistill_deploy.report.junit import junit_text, write_junit
from edgedistill_deploy.report.markdown import markdown_text, write_markdown
from edgedistill_deploy.runtimes.opening import open_session
from reference.junit_shape import checked_suites, outcomes
from reference.measured_bundles import bundle_of
from reference.report_bundles import models_only, parity_record

HOSTILE = "]]></failure>|`x`\n# @all <img src=x> \x00\x0b\ud800 [a](http://b) \\"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return models_only(tmp_path_factory.mktemp("summaries") / "bundle")


def read(records: Sequence[Any]) -> list[ParityReport | UnreadableParity]:
    """Return records as a device's answers are read: from their JSON."""
    return [read_parity(each) for each in json.loads(json.dumps(records))]


def junit_of(records: Sequence[Any]) -> str:
    return junit_text(read(records))


def markdown_of(records: Sequence[Any]) -> str:
    return markdown_text(read(records))


def broken(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**record, "numeric": {**record["numeric"], **changes}}


def test_a_record_that_holds_is_green(bundle: Bundle) -> None:
    (suite,) = checked_suites(junit_of([parity_record(bundle, "int8")]))
    assert suite.attrib["name"] == "workbench-onnxruntime-int8"
    record = parity_record(bundle, "int8")
    assert outcomes(suite) == {
        "parity.verdict": ("passed", ""),
        "parity.accuracy_drop": ("passed", ""),
        "parity.agreement": ("passed", ""),
        "parity.classes": ("passed", ""),
        "parity.golden_outputs": ("passed", ""),
        **{f"{group}.{item['name']}": ("passed", "") for group in ("metamorphic", "checks") for item in record[group]},
    }
    assert {each.attrib["name"]: each.attrib["value"] for each in suite.find("properties") or ()} == {
        "bundle": "bundle",
        "runtime": "onnxruntime",
        "provider": "cpu",
        "precision": "int8",
        "model_sha256": bundle.model_sha256("model.int8"),
        "sample_count": "2000",
        "verdict": "pass",
    }


def test_a_drop_too_large_and_one_that_cannot_be_told_are_failures_of_their_type(bundle: Bundle) -> None:
    failing = parity_record(bundle, "fp32", lost=200, gained=0, verdict="fail")
    open_ = parity_record(bundle, "int8", lost=40, gained=0, verdict="inconclusive")
    first, second = checked_suites(junit_of([failing, open_]))
    assert outcomes(first)["parity.accuracy_drop"] == ("failure", "fail")
    assert outcomes(first)["parity.verdict"] == ("failure", "fail")
    assert outcomes(second)["parity.accuracy_drop"] == ("failure", "inconclusive")
    assert outcomes(second)["parity.verdict"] == ("failure", "inconclusive")
    message = first.findall("testcase")[1][0].attrib["message"]
    assert message.startswith("The drop is 10.00 points, its interval ")


def test_checks_of_any_name_are_cases(bundle: Bundle) -> None:
    record = parity_record(bundle, "int8", verdict="fail", reasons=["Check class_names does not hold."])
    record["metamorphic"][1] = {"name": "batch-size", "passed": False, "detail": "Broken for rows 3."}
    record["checks"] = [{"name": "class_names", "passed": False, "detail": "Other names."}]
    found = outcomes(checked_suites(junit_of([record]))[0])
    assert found["metamorphic.batch-size"] == ("failure", "fail")
    assert found["checks.class_names"] == ("failure", "fail")
    assert found["metamorphic.determinism"] == ("passed", "")
    text = markdown_of([record])
    assert "| 4 of 6 hold |" in text  # three relations of four, no check of one, and the golden outputs
    assert "- ❌ class names: Other names." in text
    assert "- ❌ batch-size: Broken for rows 3." in text


def test_a_class_that_fails_or_cannot_be_told_has_a_case_of_its_own(bundle: Bundle) -> None:
    told = {"fault": "dead", "detail": "The class is dead."}
    findings = [{"name": "7", "verdict": "inconclusive", **told}, {"name": "8", "verdict": "pass", **told}]
    found = outcomes(checked_suites(junit_of([parity_record(bundle, "int8", class_findings=findings)]))[0])
    assert found["parity.classes"] == ("failure", "inconclusive")
    assert (found["classes.7"], found["classes.8"]) == (("failure", "inconclusive"), ("passed", ""))
    findings[0]["verdict"] = "fail"
    record = parity_record(bundle, "int8", class_findings=findings, verdict="fail", reasons=["The class '7' is dead."])
    assert outcomes(checked_suites(junit_of([record]))[0])["classes.7"] == ("failure", "fail")
    text = markdown_of([record])
    assert text.startswith("## ❌")
    assert "- ❌ 7: The class is dead." in text
    assert "| 6 of 6 hold |" in text  # classes are no checks of the file
    skipped = outcomes(checked_suites(junit_of([parity_record(bundle, "int8", class_findings=None)]))[0])
    assert skipped["parity.classes"] == ("skipped", "")


def test_the_least_agreement_is_a_case(bundle: Bundle) -> None:
    limits = parity_record(bundle, "int8")["limits"]
    for least, wanted in ((None, ("passed", "")), (0.9, ("passed", "")), (0.999, ("failure", "fail"))):
        record = parity_record(bundle, "int8", limits={**limits, "min_agreement": least})
        assert outcomes(checked_suites(junit_of([record]))[0])["parity.agreement"] == wanted


def test_golden_outputs_pass_fail_or_are_skipped(bundle: Bundle) -> None:
    record = parity_record(bundle, "fp32")
    for changes, wanted in (
        ({"max_abs_error": 0.2}, ("failure", "fail")),
        ({"max_abs_error": None}, ("failure", "fail")),
        ({"max_abs_error": None, "image_count": 0}, ("skipped", "")),
        ({"tolerance": None}, ("skipped", "")),
    ):
        found = outcomes(checked_suites(junit_of([broken(record, **changes)]))[0])
        assert found["parity.golden_outputs"] == wanted


def test_without_labels_the_drop_is_skipped(bundle: Bundle) -> None:
    record = parity_record(bundle, "fp32")
    nothing = {"labelled_count": 0, "teacher": None, "candidate": None, "drop": None}
    record["accuracy"] = {**record["accuracy"], **nothing, "interval": [-1.0, 1.0]}
    assert outcomes(checked_suites(junit_of([record]))[0])["parity.accuracy_drop"] == ("skipped", "")
    row = markdown_of([record]).splitlines()[4]
    assert row.split(" | ")[2:6] == ["–", "–", "–", "–"]


def test_the_baseline_is_judged_only_when_alone(bundle: Bundle) -> None:
    teacher = parity_record(bundle, "teacher", lost=40, gained=0, verdict="inconclusive")
    together = checked_suites(junit_of([teacher, parity_record(bundle, "fp32")]))
    assert outcomes(together[0])["parity.verdict"] == ("skipped", "")
    assert together[0].attrib["failures"] == "0"
    assert outcomes(checked_suites(junit_of([teacher]))[0])["parity.verdict"] == ("failure", "inconclusive")
    assert "| baseline |" in markdown_of([teacher, parity_record(bundle, "fp32")])
    assert markdown_of([teacher]).startswith("## ⚠️ EdgeDistill: bundle inconclusive")


@pytest.mark.parametrize("damage", [{"accuracy": None}, {"verdict": "maybe"}, {"limits": {}}, {"numeric": 3}])
def test_a_record_that_cannot_be_read_is_an_error(damage: dict[str, Any], bundle: Bundle) -> None:
    record = {**parity_record(bundle, "fp32"), **damage}
    (suite,) = checked_suites(junit_of([record]))
    assert outcomes(suite) == {"parity.record": ("error", "error")}
    text = markdown_of([record, parity_record(bundle, "int8")])
    assert text.startswith("## ❌ EdgeDistill: bundle error")
    assert "- ❌ record: The record cannot be read: " in text


def test_the_verdict_of_a_real_check_is_the_suites_colour(tmp_path: Path) -> None:
    for name, defect, failures in (("sound", "none", 2), ("shifted", "depends_on_position", 0)):
        folder = tmp_path / name
        folder.mkdir()
        made, _ = bundle_of(folder, [0, 1, 2, 0], [0, 1, 2, 0], [0, 1, 2, 0], defect=defect)
        with open_session(made, threads=1) as session:
            record = check_parity(made, session).to_json()
        (suite,) = checked_suites(junit_of([record]))
        assert int(suite.attrib["failures"]) >= max(1, failures)
        assert outcomes(suite)["parity.verdict"] == ("failure", record["verdict"])


def test_times_are_utc_and_files_are_written_whole(bundle: Bundle, tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    path = tmp_path / "out" / "junit.xml"
    write_junit(path, read([parity_record(bundle, "fp32")]), moment)
    text = path.read_text(encoding="utf-8")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>')
    assert checked_suites(text)[0].attrib["timestamp"] == "2026-01-02T01:04:05"
    assert checked_suites(junit_of([])) == []


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80) | st.just(HOSTILE))
def test_no_text_leaves_its_place(bundle: Bundle, text: str) -> None:
    told = dict.fromkeys(("bundle", "device", "runtime", "precision"), text)
    record = parity_record(bundle, "fp32", verdict="fail", reasons=[text], notes=[text]) | told
    record["metamorphic"] = [{"name": text, "passed": False, "detail": text}]
    record["checks"] = []
    record["class_findings"] = [{"name": text, "fault": "dead", "verdict": "fail", "detail": text}]
    record["per_class"] = [{**record["per_class"][0], "name": text, "drop": 0.5}]
    (suite,) = checked_suites(junit_of([record]))
    assert len(suite.findall("testcase")) == 7
    assert markdown_of([record]).encode("utf-8").find(0) == -1
    tables = [line for line in markdown_of([record]).split("\n") if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in tables]
    assert bars == [10, 10, 10, 7, 7, 7]


def test_markdown_is_a_row_a_model_and_the_reasons(bundle: Bundle) -> None:
    records = [parity_record(bundle, name) for name in ("teacher", "fp32", "int8")]
    lines = markdown_of(records).splitlines()
    assert lines[0] == "## ✅ EdgeDistill: bundle pass"
    worst = max(records[2]["per_class"], key=lambda row: row["drop"])
    assert lines[6].startswith("| expert int8, workbench onnxruntime | ✅ pass | 94.9 % | 95.3 % | 0.40 | ")
    assert f"| {worst['name']} ({100 * worst['drop']:.2f}) |" in lines[6]
    count = len(records[2]["metamorphic"]) + len(records[2]["checks"]) + 1
    assert lines[6].endswith(f"| {count} of {count} hold |")
    assert "- ✅ verdict: The accuracy drops by 0.40 %, below the limit of 2.00 %." in lines
    classes = [line for line in lines if line.startswith("| expert int8") and line.count("|") == 7]
    assert 0 < len(classes) <= 5


def test_diagnosis_and_notes_are_told(bundle: Bundle) -> None:
    found = {"name": "bgr", "confidence": "certain", "detail": "Blue and red are exchanged."}
    record = parity_record(bundle, "fp32", diagnosis=[found], notes=["3 images were left out."])
    lines = markdown_of([record]).splitlines()
    assert "- diagnosis bgr: Blue and red are exchanged." in lines
    assert "- 3 images were left out." in lines


def test_a_job_summary_is_continued_and_any_other_file_replaced(bundle: Bundle, tmp_path: Path) -> None:
    path, records = tmp_path / "summary.md", read([parity_record(bundle, "fp32")])
    path.write_text("# Before\n", encoding="utf-8")
    write_markdown(path, records, append=True)
    assert path.read_text(encoding="utf-8") == "# Before\n\n" + markdown_text(records)
    write_markdown(path, records)
    assert path.read_text(encoding="utf-8") == markdown_text(records)
    write_markdown(tmp_path / "new.md", records, append=True)
    assert (tmp_path / "new.md").read_text(encoding="utf-8") == markdown_text(records)
