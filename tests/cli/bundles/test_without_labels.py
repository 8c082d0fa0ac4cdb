"""A bundle without any label: tables, summary and report tell agreement with the teacher, class by class."""

import json
import re
from pathlib import Path

import pytest

from command import run_command
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.recommendation.choice import choose
from edgedistill_deploy.recommendation.summary import conclude, summarise_records
from edgedistill_deploy.records.reading import read_records
from reference.class_bundles import class_bundle

NAMES = ("cat", "dog", "fox")
# (the model's answer, the teacher's, no label): of 200 dogs and 200 cats the model takes two dogs and no cat for a fox.
ROWS = [(0, 0, -1)] * 200 + [(1, 1, -1)] * 198 + [(2, 1, -1)] * 2 + [(2, 2, -1)] * 50


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = class_bundle(tmp_path_factory.mktemp("bare") / "bundle", ROWS, NAMES)
    assert run_command("validate", made.path).code == 0
    return open_bundle(made.path)


def test_the_verdict_is_that_of_the_agreement(bundle: Bundle) -> None:
    record = json.loads(run_command("validate", bundle.path, "--precision", "fp32", "--json").stdout)
    assert record["verdict"] == "pass"
    assert (record["accuracy"]["candidate"], record["agreement"]) == (None, 448 / 450)
    stricter = run_command("validate", bundle.path, "--precision", "fp32", "--min-agreement", "0.999")
    assert stricter.code == 3


def test_figures_that_need_labels_are_dashes(bundle: Bundle) -> None:
    shown = run_command("validate", bundle.path, "--precision", "fp32").stdout
    for name in ("teacher", "accuracy", "interval", "drop, points", "p, McNemar"):
        assert re.search(rf"│ +{name} +│ +– +│", shown), name


def test_the_conclusion_tells_the_agreement(bundle: Bundle) -> None:
    records = read_records(bundle)
    rows = summarise_records(bundle, records)
    assert [row.accuracy_interval for row in rows if not row.is_teacher] == [(None, None)]
    sentence = conclude(rows, choose(records)).sentence
    assert "it agrees with the teacher on 99.6 % of the images, none of which has a label" in sentence


def test_the_report_tells_each_class_by_the_teachers_answers(bundle: Bundle, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert run_command("report", bundle.path, "--out", page).code == 0
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "its images are those that the teacher answers with it" in text
    classes = text[text.index('<section id="classes"') :].partition("</section>")[0]
    [dogs] = re.findall(r'<tr><th scope="row" class="wrap">dog</th>.*?</tr>', classes)
    assert "<td>200</td>" in dogs
    assert "−1.0" in dogs, "two of two hundred"
    summary = tmp_path / "summary.md"
    run_command("validate", bundle.path, "--precision", "fp32", "--markdown", summary)
    assert "| dog | 200 | – | 99.0 % | 1.00 |" in summary.read_text(encoding="utf-8")
