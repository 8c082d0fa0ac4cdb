"""A file is written whole inside its folder, or not at all, and the sentence says why."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill_deploy.errors import BundleError, NotWrittenError
from edgedistill_deploy.files.writing import refuse_links_out, write_bytes, write_json, write_text, write_whole
from reference.small_disks import largest_file

LIMIT = 200_000
NOISE = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)


def write_picture(path: Path) -> None:
    with write_whole(path) as temporary:
        Image.fromarray(NOISE).save(temporary, format="PNG")


def write_arrays(path: Path) -> None:
    with write_whole(path) as temporary:
        np.savez_compressed(temporary, noise=NOISE)


def write_copy(path: Path) -> None:
    source = path.with_name("source")
    source.write_bytes(NOISE.tobytes())
    with largest_file(LIMIT), write_whole(path) as temporary:
        shutil.copyfile(source, temporary)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize(
    ("name", "write", "needed"),
    [
        ("a.bin", lambda path: write_bytes(path, NOISE.tobytes()), "It needs 750 kB."),
        ("a.html", lambda path: write_text(path, "x" * 300_001), "It needs 301 kB."),
        ("a.json", lambda path: write_json(path, ["x" * 300_000]), "It needs 301 kB."),
        ("a.png", write_picture, "It needs at least 200 kB."),
        ("a.npz", write_arrays, "It needs at least 200 kB."),
    ],
)
def test_a_full_disk_is_named_by_every_writer(
    tmp_path: Path, name: str, write: Callable[[Path], None], needed: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    with largest_file(LIMIT), pytest.raises(NotWrittenError) as caught:
        write(path)
    assert str(caught.value) == (
        f"{path} cannot be written: File too large. {needed} Make room in {tmp_path}, or choose a folder on another "
        "disk; then run the same command again. What was finished is kept."
    )
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_named_where_files_are_copied(tmp_path: Path) -> None:
    with pytest.raises(NotWrittenError, match="copy cannot be written: File too large"):
        write_copy(tmp_path / "copy")


def test_an_error_that_is_not_about_room_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", float("nan"))
    with pytest.raises(ZeroDivisionError), write_whole(tmp_path / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "parity" / "a.json", 1, inside=run)
    run.rename(tmp_path / "elsewhere")
    with pytest.raises(NotWrittenError, match=r"The folder .*run is gone: it was deleted, renamed or unmounted"):
        write_json(run / "parity" / "a.json", 2, inside=run)
    assert not run.exists()


def test_a_folder_that_goes_while_a_file_is_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()

    def write(fails: bool) -> None:
        with write_whole(tmp_path / "run" / "a") as temporary:
            temporary.write_bytes(b"half")
            shutil.rmtree(tmp_path / "run")
            if fails:
                raise RuntimeError("Parent directory does not exist.")  # as torch says it

    for fails in (False, True):
        (tmp_path / "run").mkdir(exist_ok=True)
        with pytest.raises(NotWrittenError, match=r"The folder .*run is gone"):
            write(fails)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("parity", "../outside"),
        ("parity/deep", "../../outside"),
        ("parity/deep/a.json", "../../../outside/a.json"),
        ("parity", "../outside/absent"),
        ("parity", ".."),
        ("parity", "parity"),
    ],
)
def test_no_link_leads_the_writing_out(tmp_path: Path, link: str, target: str) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "a.json").write_text("theirs", encoding="utf-8")
    (run / link).parent.mkdir(parents=True)
    (run / link).symlink_to(target)
    with pytest.raises(BundleError, match="leads out of the bundle; it is refused"):
        write_json(run / "parity" / "deep" / "a.json", 1, inside=run)
    with pytest.raises(BundleError, match="leads out of the bundle; it is refused"):
        refuse_links_out(run, ("absent", "parity"))
    assert [each.name for each in outside.iterdir()] == ["a.json"]
    assert (outside / "a.json").read_text(encoding="utf-8") == "theirs"


def test_links_within_the_folder_are_followed_and_a_linked_folder_is_one_itself(tmp_path: Path) -> None:
    (tmp_path / "disk" / "records").mkdir(parents=True)
    (tmp_path / "disk" / "parity").symlink_to("records")
    (tmp_path / "run").symlink_to("disk")
    write_json(tmp_path / "run" / "parity" / "a.json", 1, inside=tmp_path / "run")
    refuse_links_out(tmp_path / "run", ("parity",))
    assert json.loads((tmp_path / "disk" / "records" / "a.json").read_text(encoding="utf-8")) == 1


def test_a_link_of_the_same_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs", encoding="utf-8")
    (tmp_path / "mine").symlink_to("theirs")
    write_text(tmp_path / "mine", "mine")
    assert (tmp_path / "theirs").read_text(encoding="utf-8") == "theirs"
    assert not (tmp_path / "mine").is_symlink()
