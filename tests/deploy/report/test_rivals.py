"""The report's table of rivals: the record's numbers, and nothing of a record that does not hold them."""

import copy
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.report.page import render_report
from edgedistill_deploy.report.rivals import rival_table
from reference.report_bundles import models_only

RECORD: dict[str, Any] = {
    "expert": {"accuracy": 0.91, "interval": [0.85, 0.95]},
    "rows": [
        {
            "name": "labels",
            "learns_from": "labels <alone>",
            "accuracy": 0.8,
            "interval": [0.7, 0.9],
            "difference": {"mean": 0.11, "interval": [0.025, 0.2], "verdict": "ahead"},
        }
    ],
    "sentence": "SubDistill was worth it.",
    "covers": "Other images.",
}


def test_the_page_shows_the_expert_first_and_escapes_what_a_record_says(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    assert "worth it" not in render_report(bundle)
    page = render_report(bundle.with_fields(rivals=RECORD))
    assert page.index("91.0 %") < page.index("80.0 %")
    for text in (
        "SubDistill was worth it.",
        "labels &lt;alone&gt;",
        "+11.0",
        "+2.5 to +20.0",
        "ahead",
        "Other images.",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), None),
        ((), "text"),
        (("expert",), []),
        (("rows",), 3),
        (("rows", 0, "accuracy"), "much"),
        (("rows", 0, "interval"), [0.1]),
        (("rows", 0, "difference", "mean"), float("nan")),
        (("rows", 0, "difference", "interval"), [0.0, 7.0]),
    ],
)
def test_a_damaged_record_gives_no_table(place: tuple[str | int, ...], value: object) -> None:
    manifest: dict[str, Any] = {"rivals": copy.deepcopy(RECORD)}
    inner: Any = manifest
    *path, last = ("rivals", *place)
    for step in path:
        inner = inner[step]
    inner[last] = value
    assert rival_table(manifest) is None
