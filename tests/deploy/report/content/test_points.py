"""The plane of accuracy against cost, and the sentence on the data."""

from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.recommendation.summary import summarise_records
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.report.content.data import describe_data
from edgedistill_deploy.report.content.points import Plane, plane_of
from edgedistill_deploy.report.page import render_report
from edgedistill_deploy.report.rivals import rival_table
from reference.html_page import Page
from reference.report_bundles import add_record, full_bundle, models_only, parity_record

RIVALS = {
    "expert": {"accuracy": 0.9, "interval": [0.8, 0.95]},
    "rows": [
        {
            "name": "labels",
            "learns_from": "labels",
            "accuracy": 0.85,
            "interval": [0.7, 0.9],
            "difference": {"mean": 0.05, "interval": [0.01, 0.1], "verdict": "better"},
        }
    ],
    "sentence": "It was worth it.",
    "covers": "One seed.",
}


def plane_for(bundle: Bundle) -> Plane | None:
    rows = summarise_records(bundle, read_records(bundle))
    return plane_of(rows, None, rival_table(bundle.manifest))


def test_every_model_is_a_point_and_a_rival_costs_what_the_student_costs(tmp_path: Path) -> None:
    bundle = full_bundle(tmp_path / "bundle").with_fields(rivals=RIVALS)
    plane = plane_for(bundle)
    assert plane is not None
    assert [(each.name, each.kind) for each in plane.points] == [
        ("teacher fp32", "teacher"), ("expert fp32", "expert"), ("expert int8", "expert"), ("labels", "rival"),
    ]  # fmt: skip
    expert, rival = plane.points[1], plane.points[3]
    assert (rival.p50_ms, rival.file_bytes, rival.share) == (expert.p50_ms, expert.file_bytes, 0.85)
    assert plane.by_latency[3] == (expert.p50_ms, 0.85)
    sizes = [bundle.manifest["files"][role]["bytes"] for role in ("teacher.fp32", "model.fp32", "model.int8")]
    assert [size for size, _ in plane.by_size] == [*sizes, sizes[1]]
    rows = Page(render_report(bundle)).rows("costs")
    assert rows[4] == ["labels, a rival", "workbench", "85.0 %", rows[2][3], "412 kB"]


def test_without_labels_the_plane_is_of_agreement(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle").with_fields(rivals=RIVALS)
    assert plane_for(bundle) is None
    record = parity_record(bundle, "fp32")
    unknown = {"labelled_count": 0, "teacher": None, "candidate": None, "drop": None}
    add_record(bundle, {**record, "accuracy": {**record["accuracy"], **unknown}})
    plane = plane_for(bundle)
    assert plane is not None
    assert (plane.measure, [each.share for each in plane.points]) == (
        "agreement with the teacher", [1.0, record["agreement"]],
    )  # fmt: skip


PHOTOS = (
    "The images come from photos: 8,620 images for training, 2,930 images for choosing the best epoch and 2,000 "
    "images to judge it, all with a label; the folder of an image is its label."
)
HUB = (
    "The images come from hf:owner/animals: 90 images for training (40 of them without a label) and 2,000 images "
    "to judge it, all with a label; the labels are those of the source."
)
ALONE = "There are 2,000 images to judge it, all with a label."


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"data": {"source": "photos"}, "distillation": {"images": {"train": 8620, "validation": 2930}}}, PHOTOS),
        ({"data": {"source": "hf:owner/animals"}, "distillation": {"images": {"train": 90}, "unlabelled": 40}}, HUB),
        ({}, ALONE),
        ({"data": [], "distillation": {"images": {"train": -3}}}, ALONE),
    ],
)
def test_the_data_are_told_in_a_sentence(tmp_path: Path, manifest: dict[str, Any], told: str) -> None:
    bundle = models_only(tmp_path / "bundle")
    assert describe_data({}, read_records(bundle)) == ""
    add_record(bundle, parity_record(bundle, "fp32"))
    assert describe_data(manifest, read_records(bundle)) == told
