"""The page: whole HTML that asks for nothing, the records' numbers in it, and no text that leaves its place."""

import base64
import builtins
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill_deploy import wording as w
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import MissingDependencyError
from edgedistill_deploy.report import page as report
from edgedistill_deploy.report.charts.svg import can_draw
from edgedistill_deploy.report.page import render_report, write_report
from edgedistill_deploy.report.view import condition_rows, plainly, training_notes
from reference.html_page import Page
from reference.report_bundles import (
    add_record,
    add_training,
    full_bundle,
    latency_record,
    models_only,
    parity_record,
    write_subspaces,
)

HOSTILE = "<script>alert(1)</script><img src=http://evil.example onerror=x>\"'&{{7*7}}"
SECTIONS = (
    "summary", "classes", "parity", "costs", "latency", "training", "subspaces", "precision", "conditions",
    "provenance",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return full_bundle(tmp_path_factory.mktemp("report") / "bundle")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with training curves and one subspace, and no other chart."""
    bundle = add_training(models_only(tmp_path_factory.mktemp("trained") / "bundle"))
    file = bundle.path / "distill" / "subspaces.safetensors"
    write_subspaces(file, {"layer1": (np.linspace(1, 0, 8), 2)})
    return bundle.with_file("subspaces", file)


@pytest.fixture(scope="module")
def page(bundle: Bundle) -> Page:
    return Page(write_report(bundle).read_text(encoding="utf-8"))


def test_the_page_has_every_section_and_only_well_formed_tags(page: Page) -> None:
    assert [name for name in page.sections if name] == list(SECTIONS)
    anchors = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert anchors == {f"#{name}" for name in SECTIONS}


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone(bundle: Bundle, page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "form", "base"}
    assert [attrs for tag, attrs in page.tags if tag in ("script", "style")] == [{}, {}]
    for _, attrs in page.tags:
        assert not set(attrs) & {"style", "src", "srcset", "onload", "onclick", "onerror", "action", "data"}
        assert (attrs.get("href") or "#").startswith("#")
    html = (bundle.path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    policies = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    style, script = (re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL) for tag in ("style", "script"))
    assert style
    assert script
    hashes = [base64.b64encode(hashlib.sha256(each[1].encode()).digest()).decode() for each in (style, script)]
    allowed = f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:"
    assert policies == [f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"]


def test_without_matplotlib_the_tables_stand_and_the_page_says_how_to_get_the_charts(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    can_draw.cache_clear()
    report._environment.cache_clear()
    try:
        page = Page(render_report(bundle))
    finally:
        can_draw.cache_clear()
        report._environment.cache_clear()
    assert not {tag for tag, _ in page.tags} & {"svg", "figure"}
    assert "matplotlib is not installed: pip install 'edgedistill[report]'" in page.text
    assert len(page.rows("latency")) == 4


def test_the_page_repeats_itself(bundle: Bundle) -> None:
    assert render_report(bundle) == render_report(bundle)


def test_the_summary_shows_the_records_numbers(bundle: Bundle, page: Page) -> None:
    parity = parity_record(bundle, "int8", lost=29, gained=14)
    latency = latency_record(bundle, "int8", median_ms=0.094)
    teacher = latency_record(bundle, "teacher", median_ms=1.31)
    header, first, _, int8 = page.rows("summary")
    assert header == [
        "model", "parameters", "multiply-adds", "file", "accuracy", "agreement", "p50", "p99", "verdict",
    ]  # fmt: skip
    assert first[:4] == ["teacher fp32", "1.27 M", "38.4 M", "5.12 MB"]
    assert first[-1] == "baseline"
    accuracy = parity["accuracy"]
    assert int8 == [
        "expert int8",
        "98.4 k 12.9× fewer",
        "4.12 M 9.3× fewer",
        "118 kB 43.4× smaller",
        f"{w.percent(accuracy['candidate'])} {w.percent_interval(tuple(accuracy['candidate_interval']))}",
        w.percent(parity["agreement"]),
        f"{w.milliseconds(latency['p50_ms'])} {teacher['p50_ms'] / latency['p50_ms']:.1f}× faster",
        f"{w.milliseconds(latency['p99_ms'])} {teacher['p99_ms'] / latency['p99_ms']:.1f}× faster",
        "pass",
    ]


def test_the_verdict_stands_on_top(page: Page) -> None:
    top = " ".join(page.sections[""].text.split())
    assert "An expert for digits" in top
    assert "May I ship it? Yes. It is right on 94.5 % of 2,000 test images, and the teacher on 95.3 %." in top
    assert "Which file model.int8.onnx, 118 kB" in top
    assert "Where workbench: model.int8.onnx, half of its answers take at most 94.4 µs for an image" in top
    assert "What is wrong with it nothing was found" in top
    assert "right answers 94.5 % teacher 95.3 %" in top
    summary = " ".join(page.sections["summary"].text.split())
    assert "The int8 expert is good enough: 94.5 % accurate where the teacher is 95.3 %" in summary


def test_classes_show_accuracy_and_change(bundle: Bundle, page: Page) -> None:
    expected = parity_record(bundle, "int8", lost=29, gained=14)["per_class"]
    rows = page.rows("classes")[1:]
    assert [row[0] for row in rows] == list(bundle.class_names)
    for row, record in zip(rows, expected, strict=True):
        assert row[1:3] == ["200", w.percent(record["teacher"])]
        assert row[-1] == w.percent(record["candidate"])
        assert row[-2] == (w.signed_points(-record["drop"]) if record["drop"] else "")


def test_latency_parity_ledger_and_subspaces_show_their_records(bundle: Bundle, page: Page) -> None:
    latency = latency_record(bundle, "fp32", median_ms=0.182)
    fp32 = page.rows("latency")[2]
    p50, p90, p99, mean = (w.milliseconds(latency[f"{name}_ms"]) for name in ("p50", "p90", "p99", "mean"))
    clean = w.milliseconds(latency["clean"]["p99_ms"])
    assert fp32[:5] == ["expert fp32", f"{p50} clean {p50}", p90, f"{p99} clean {clean}", mean]
    assert fp32[-3:] == ["1", "1", "3,000"]
    assert page.rows("parity")[1] == [
        "teacher fp32", "3.2e−06", "0.999998",
        "row-permutation batch-size identical-rows determinism golden images",
    ]  # fmt: skip
    assert page.rows("precision")[1:] == [
        ["fp32", "256", "95.7 %", "100.0 %", "exact", "–"],
        ["int8", "256", "95.3 %", "98.8 %", "31.2 dB", "1"],
    ]
    assert page.rows("subspaces")[1][:4] == ["layer1", "layer1", "32", "8"]


def test_conditions_and_provenance_are_told(bundle: Bundle, page: Page) -> None:
    conditions = " ".join(page.sections["conditions"].text.split())
    assert "CPU Example Processor 9" in conditions
    assert "onnxruntime 1.32.0" in conditions
    assert "This machine does not tell its temperature, power mode and throttling." in conditions
    assert "1min 0.41, 5min 0.38, 15min 0.3 → 1min 1.02, 5min 0.5, 15min 0.3" in conditions
    provenance = " ".join(page.sections["provenance"].text.split())
    assert "edgedistill build --config settings.toml" in provenance
    assert bundle.preprocess.digest in provenance
    assert "ab" * 32 in provenance
    files = {row[0]: row[1:] for row in page.rows("provenance")[1:]}
    assert files["model.int8"] == ["model.int8.onnx", "118 kB", bundle.model_sha256("model.int8")]
    assert set(files) == set(bundle.manifest["files"])


def test_every_missing_record_is_said(tmp_path: Path) -> None:
    page = Page(render_report(models_only(tmp_path / "bundle")))
    for section, told in {
        "parity": "No parity record: run edgedistill validate",
        "classes": "No parity record, so nothing is known by class.",
        "latency": "No latency record: run edgedistill profile",
        "training": "No training record",
        "subspaces": "No subspaces are recorded.",
        "precision": "No ledger: nothing was calibrated to INT8.",
        "conditions": "No latency record, so the state of no device is known.",
    }.items():
        assert told in " ".join(page.sections[section].text.split())
    assert "No expert was compared with the teacher yet" in page.text
    assert [row[0] for row in page.rows("summary")[1:]] == ["teacher fp32", "expert fp32", "expert int8"]
    assert page.rows("summary")[2][4:] == ["–"] * 5


def test_failing_and_undecided_experts_are_shown_with_their_reasons(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    broken = [{"name": "row-permutation", "passed": False, "detail": "Row 3 differs by 4.1."}]
    add_record(
        bundle, parity_record(bundle, "fp32", lost=120, verdict="fail", metamorphic=broken, reasons=["Too much."])
    )
    add_record(
        bundle, parity_record(bundle, "int8", verdict="inconclusive", reasons=["About 4100 images would decide."])
    )
    html = render_report(bundle)
    page = Page(html)
    parity = " ".join(page.sections["parity"].text.split())
    assert "row-permutation: Row 3 differs by 4.1." in parity
    assert "fail expert fp32, 2,000 images. Too much." in parity
    assert "inconclusive expert int8, 2,000 images. About 4100 images would decide." in parity
    assert {row[-1] for row in page.rows("summary")[2:]} == {"fail", "inconclusive"}
    assert 'class="answer verdict fail"' in html


def test_problems_of_records_are_listed(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    (bundle.path / "latency").mkdir()
    (bundle.path / "latency" / "x.json").write_text("[]")
    assert "latency/x.json is left out" in Page(render_report(bundle)).sections["summary"].text


def test_times_that_a_coarse_clock_calls_zero_are_drawn(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    nothing: dict[str, Any] = {"samples_ms": [0.0, 0.0, 1.0], "p50_ms": 0.0, "p90_ms": 0.0, "p99_ms": 0.0}
    add_record(bundle, latency_record(bundle, "fp32", **nothing))
    assert "1 of 3 runs were slower still" in Page(render_report(bundle)).sections["latency"].text


def test_doubtful_times_are_said_beside_the_summary_and_explained_once_a_model(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    add_record(bundle, latency_record(bundle, "fp32", warnings=["It was noisy.", "It drifted."], clean=None))
    page = Page(render_report(bundle))
    assert "Some of the times are doubtful: see Latency." in " ".join(page.sections["summary"].text.split())
    assert "expert fp32: It was noisy. It drifted." in " ".join(page.sections["latency"].text.split())
    assert "clean" not in page.rows("latency")[1][1]


@pytest.mark.parametrize(
    ("name", "classes", "title"),
    [("digits", ("0", "1"), "digits"), ("subtask", ("0", "1"), "2 classes"), ("", ("owl",), "owl")],
)
def test_the_title_names_the_subtask(tmp_path: Path, name: str, classes: tuple[str, ...], title: str) -> None:
    html = render_report(models_only(tmp_path / "bundle", classes, name))
    assert f"<h1>An expert for {title}</h1>" in html


def test_many_classes_fold_behind_the_worst_ten(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(40)]
    bundle = models_only(tmp_path / "bundle", names)
    record = parity_record(bundle, "fp32")
    for number, row in enumerate(record["per_class"]):
        row["drop"] = number / 100
    add_record(bundle, record)
    page = Page(render_report(bundle))
    assert [row[0] for row in page.rows("classes")[1:]] == names[:-11:-1]
    assert [row[0] for row in page.rows("classes", 1)[1:]] == names
    assert "details" in {tag for tag, _ in page.tags}


def test_the_largest_drop_without_any_drop_is_no_trouble(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    record = parity_record(bundle, "fp32")
    for row in record["per_class"]:
        row.update(support=0, teacher=None, candidate=None, drop=None)
    add_record(bundle, {**record, "accuracy": {**record["accuracy"], "drop": None, "interval": [-1.0, 1.0]}})
    assert Page(render_report(bundle)).rows("classes")[1] == ["0", "0", "–", "", "–"]


def _hostile_bundle(folder: Path) -> Bundle:
    names = (HOSTILE, "</table>", "b</style><b>")
    bundle = full_bundle(folder, names, name=HOSTILE)
    bundle = bundle.with_fields(
        teacher={"name": HOSTILE, "parameters": 3, "weights_sha256": HOSTILE},
        student={"name": HOSTILE},
        provenance={HOSTILE: HOSTILE},
        stages={HOSTILE: {"status": HOSTILE, "seconds": 3}},
        distillation={
            "notes": [HOSTILE],
            "pairs": [{"teacher": "layer1", "student": HOSTILE}],
            "images": {HOSTILE: HOSTILE},
        },
    )
    relation = [{"name": HOSTILE, "passed": False, "detail": HOSTILE}]
    words: Mapping[str, Any] = {"device": HOSTILE, "provider": HOSTILE, "runtime": "r"}
    add_record(
        bundle,
        {
            **parity_record(bundle, "fp32"),
            **words,
            "reasons": [HOSTILE],
            "notes": [HOSTILE],
            "metamorphic": relation,
            "diagnosis": [{"name": HOSTILE, "detail": HOSTILE}],
            "class_findings": [{"name": HOSTILE, "fault": "dead", "verdict": "fail", "detail": HOSTILE}],
        },
    ).rename(bundle.path / "parity" / "h.json")
    latency = latency_record(bundle, "fp32")
    device = {**latency["device"], "name": HOSTILE, "cpu": HOSTILE, "libraries": {HOSTILE: HOSTILE}}
    conditions = {"before": {"governor": HOSTILE}, "after": {"clock": {HOSTILE: 1.0}}}
    hostile = {**latency, **words, "device": device, "conditions": conditions, "warnings": [HOSTILE]}
    (bundle.path / "latency" / "h.json").write_text(json.dumps(hostile))
    return bundle


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    bundle = _hostile_bundle(tmp_path / "bundle")
    html = render_report(bundle)
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"img", "b"}
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert all("onerror" not in attrs and "src" not in attrs for _, attrs in page.tags)
    assert HOSTILE in page.text
    assert "{{7*7}}" in html
    assert [name for name in page.sections if name] == list(SECTIONS)


@pytest.mark.parametrize("field", ["distillation", "stages", "provenance", "teacher", "student"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.dictionaries(
        st.sampled_from(
            ["images", "notes", "pairs", "best_epoch", "name", "seconds", "distill", "teacher_validation_accuracy"]
        ),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_any_manifest_is_rendered(trained: Bundle, field: str, value: dict[str, Any]) -> None:
    changed = Bundle(path=trained.path, manifest={**trained.manifest, field: value})
    Page(render_report(changed))


def test_what_training_took_is_told(bundle: Bundle) -> None:
    assert training_notes(bundle.manifest, ()) == ["0 epochs in 0.0 s.", "Images: train 8620, validation 2930."]
    assert "30 epochs in 1 min 12 s." in " ".join(Page(render_report(bundle)).sections["training"].text.split())


def test_values_of_any_kind_are_told_plainly() -> None:
    told = [plainly(value) for value in (None, True, False, [], [1, "a"], 2400.0, 12345.6, float("inf"), 3)]
    assert told == ["–", "yes", "no", "none", "1, a", "2400", "12,346", "inf", "3"]
    assert plainly({f"k_{n}": n for n in range(6)}) == "k 0 0, k 1 1, k 2 2, k 3 3, …"
    assert plainly([[[[1]]]]) == "…"


def test_no_conditions_leave_no_columns() -> None:
    assert condition_rows(()) == (
        (),
        [],
        ("clock", "governor", "temperature", "power_mode", "throttling", "load", "pressure"),
    )


def test_without_jinja2_the_command_that_installs_it_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return import_module(name, *arguments)

    report._environment.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        MissingDependencyError, match=r"Writing a report needs jinja2.*pip install 'edgedistill\[report\]'"
    ):
        write_report(bundle)
