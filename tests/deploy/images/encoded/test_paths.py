"""The names of many files take little memory, and every name survives."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.images.encoded.paths import join_texts, pack_files, pack_texts
from edgedistill_deploy.images.encoded.sets import build_encoded_images
from edgedistill_deploy.images.sources import open_images
from reference.image_files import write_folder


@given(parts=st.lists(st.lists(st.binary(max_size=20), max_size=8), max_size=4))
def test_texts_are_what_was_packed(parts: list[list[bytes]]) -> None:
    joined = join_texts([pack_texts(part) for part in parts])
    wanted = [text for part in parts for text in part]
    assert [joined[index] for index in range(len(joined))] == wanted
    again = pickle.loads(pickle.dumps(joined))
    assert [again[index] for index in range(len(again))] == wanted


def test_files_are_what_was_packed() -> None:
    files = [(Path("a/b"), "x.png"), (Path("c"), "y.jpg"), (Path("a/b"), "\udcff\n.png"), (Path(), "z")]
    contents = pack_files(files)
    assert list(contents) == [folder / name for folder, name in files]
    assert contents.folders == (Path("a/b"), Path("c"), Path())
    assert contents.name(2) == r"a/b/\xff\n.png"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not UTF-8")
def test_a_name_that_is_not_utf8_is_opened(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    odd = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "a" / "00.png").rename(tmp_path / "a" / odd)
    train = open_images(tmp_path).train
    assert train.read(0).size == (6, 5)
    assert train.name(0) == f"{tmp_path}/a/caf\\xe9.png"
    assert len(train.digest(0)) == 64


def test_a_million_files_would_take_a_hundred_megabytes() -> None:
    count = 20_000
    names = ((Path("/data/train") / f"n{n % 100:08}", f"n{n % 100:08}_{n}.JPEG") for n in range(count))
    images = build_encoded_images(tuple(f"n{n:08}" for n in range(100)), np.arange(count) % 100, pack_files(names))
    half = images.select(range(0, count, 2))
    assert half.contents is images.contents
    assert half.name(3) == "/data/train/n00000006/n00000006_6.JPEG"
    assert len(pickle.dumps(images)) < 100 * count
