"""The record of an explanation is read from any source: what does not fit is left out with a sentence."""

import copy
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.records.explanation import MOST_PICTURES, ExplanationReport
from edgedistill_deploy.records.reading import read_records
from reference.report_bundles import models_only
from reference.study_records import add_explanation, explanation_record


def test_a_record_is_read_as_it_was_written() -> None:
    found = ExplanationReport.from_json(explanation_record())
    assert (found.method, found.images, found.same_reasons) == ("integrated-gradients", 64, "yes")
    assert found.agreement.cosine.mean == 0.7
    assert found.agreement.cosine.interval == pytest.approx((0.6, 0.8))
    assert set(found.floors) == {"other_class", "random_student", "labels"}
    assert found.per_class["1"].images == 9
    assert found.flipping.curves["student_model"].random_order[-1] == 0
    assert [each.class_name for each in found.pictures] == ["0", "1"]


def test_what_a_record_may_lack_is_empty() -> None:
    record = explanation_record()
    for name in ("pictures", "left_out", "sentences", "same_reasons", "settings", "checks"):
        del record[name]
    del record["flipping"]["teacher_model"], record["flipping"]["curves"]["teacher_model"]
    found = ExplanationReport.from_json(record)
    assert (found.pictures, found.same_reasons, found.flipping.teacher_model) == ((), None, None)


def test_rounding_beyond_one_is_cut_and_long_lists_too() -> None:
    record = explanation_record(pictures=40)
    record["agreement"]["cosine"] = {"mean": 1 + 1e-12, "interval": [0.9, 1 + 1e-12]}
    record["sentences"] = ["long " * 1000] * 1000
    found = ExplanationReport.from_json(record)
    assert found.agreement.cosine.interval == (0.9, 1.0)
    assert len(found.pictures) == MOST_PICTURES
    assert sum(map(len, found.sentences)) <= 20 * 500


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("images",), -1),
        (("agreement",), []),
        (("agreement", "cosine", "mean"), 1.5),
        (("agreement", "cosine", "mean"), "0.7"),
        (("agreement", "cosine", "interval"), [0.1]),
        (("agreement", "cosine", "interval"), [0.5, 0.1]),
        (("floors", "labels", "spearman"), None),
        (("per_class", "0", "images"), 1.5),
        (("flipping", "shares"), [0.0]),
        (("flipping", "shares"), [0.0] * 10_000),
        (("flipping", "curves", "teacher_model", "random_order"), [0.0, 1.0]),
        (("pictures", 0, "file"), "explain/../../etc/passwd.png"),
        (("pictures", 0, "file"), "/etc/passwd"),
        (("pictures", 0, "file"), "explain/ig/a/b.png"),
        (("pictures", 0, "file"), "golden-images.npz"),
        (("pictures", 0, "file"), "explain/ig/image-00.png\n"),
        (("pictures", 0, "cosine"), 7),
        (("same_reasons",), "certainly"),
    ],
)
def test_a_damaged_record_is_left_out_and_named(place: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    record = copy.deepcopy(explanation_record())
    inner: Any = record
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(DataError):
        ExplanationReport.from_json(record)
    bundle = models_only(tmp_path / "bundle")
    write_json(bundle.path / "explain" / "bad.json", record)
    add_explanation(bundle.path, explanation_record("lrp"))
    found = read_records(bundle)
    assert [each.method for each in found.explanations] == ["lrp"]
    assert [each for each in found.problems if each.startswith("explain/bad.json is left out: ")]
