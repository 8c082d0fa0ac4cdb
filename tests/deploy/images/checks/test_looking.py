"""Images that cannot be used are left out, and too many of them are refused."""

from pathlib import Path

import pytest
from PIL import Image

from edgedistill_deploy.images.checks.limits import UnusableImagesError
from edgedistill_deploy.images.checks.looking import leave_out_unusable, look_in_threads
from edgedistill_deploy.images.skipped import SkippedFile
from edgedistill_deploy.images.sources import open_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten images, of which one is empty and one is a dot."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "3.png").write_bytes(b"")
    Image.new("RGB", (3, 9)).save(tmp_path / "dog" / "4.png")
    return tmp_path


def test_what_is_left_can_be_read_and_the_notes_count_the_rest(folder: Path) -> None:
    counted: list[tuple[int, int]] = []
    heic = SkippedFile(path="dog/a.heic", reason="HEIC", class_name="dog")
    usable, notes = leave_out_unusable(
        open_images(folder).train,
        [heic],
        max_bad=0.2,
        progress=lambda done, total, note="": counted.append((done, total)),
    )
    assert [usable.read(row).size for row in range(len(usable))] == [(8, 8)] * 18
    assert counted == [(20, 20)]
    reasons = "1 HEIC: a.heic; 1 empty (0 bytes): 3.png; 1 smaller than 4 pixels: 4.png"
    assert notes == [
        f"3 files of the folders are not used: {reasons}.",
        "Pictures that cannot be used, by class: dog 2 of 11, cat 1 of 10.",
    ]


def test_a_set_without_faults_is_returned_as_it_is(folder: Path) -> None:
    images = open_images(folder).train.select([0, 1, 2])
    assert leave_out_unusable(images) == (images, [])


def test_more_than_the_limit_is_refused_with_the_list(folder: Path) -> None:
    with pytest.raises(
        UnusableImagesError, match=r"2 of 20 pictures cannot be used, a share of 0\.100, .* 0\.05"
    ) as no:
        leave_out_unusable(open_images(folder).train, max_bad=0.05)
    assert [Path(each.path).name for each in no.value.skipped] == ["3.png", "4.png"]


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 1000])
def test_threads_keep_the_order(count: int) -> None:
    assert list(look_in_threads(count, lambda row: row * row)) == [row * row for row in range(count)]
