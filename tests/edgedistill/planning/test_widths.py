"""Where suggested widths are from: a record, an inspection that is cheap, or nowhere."""

from pathlib import Path

import pytest

from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.models.teacher import load_teacher
from edgedistill.planning import widths
from edgedistill.planning.widths import find_suggested_widths, read_suggested_widths
from edgedistill_deploy.errors import DataError


def test_a_teacher_that_is_dear_to_inspect_is_not(tiny_digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load_teacher("embedded:glyphs100")
    subtask = teacher.subtask(["0", "1", "2", "3"], name="digits")
    images = split_for_subtask(open_source(f"npz:{tiny_digits}"), subtask.class_names)
    monkeypatch.setattr(widths, "_CHEAP", 1e6)
    found, why = find_suggested_widths(teacher, subtask, images)
    assert found is None
    assert "inspecting this teacher takes longer than the plan" in why


def test_a_file_that_is_no_json_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "inspection.json"
    file.write_text("no json", encoding="utf-8")
    with pytest.raises(DataError, match=r"inspection\.json is no JSON; give the inspection\.json"):
        read_suggested_widths(file)
