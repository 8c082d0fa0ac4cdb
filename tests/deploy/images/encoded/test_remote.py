"""Shards and Parquet files on servers: read by parts, and told in one sentence where they cannot be."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill_deploy.errors import DataError, MissingDependencyError, UsageError
from edgedistill_deploy.files import places, reaching
from edgedistill_deploy.images.encoded import _shard_index
from edgedistill_deploy.images.sources import must_fetch, open_images
from reference.image_sources import require_same, samples_of, serving, write_shard

pytest.importorskip("aiohttp", reason="aiohttp is not installed")
fsspec: Any = pytest.importorskip("fsspec", reason="fsspec is not installed")


@pytest.fixture
def shard(tmp_path: Path, pictures: Path) -> Path:
    return write_shard(tmp_path / "served" / "train-000.tar", samples_of(sorted(pictures.rglob("*.png"))))


def test_a_shard_is_read_in_parts_over_http(shard: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shard_index, "_BLOCK", 8192)
    with serving(shard.parent) as server:
        pattern = f"wds:{server.url}/train-{{000..000}}.tar"
        assert must_fetch(pattern).startswith("1 shards of wds:http")
        assert server.sent_bytes == 0
        images = open_images(pattern).train
        assert must_fetch(pattern) == ""
        before = len(server.asked)
        require_same(images, open_images(pictures).train)
        # One request an image: its digest comes from the bytes that were decoded.
        parts = [part for method, _, part in server.asked[before:] if method == "GET"]
        assert len(parts) == 12
        assert all(parts)
        assert images.name(0) == f"{server.url}/train-000.tar/000000.png"


def test_a_connection_that_breaks_is_opened_again(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_PAUSE_S", 0.0)
    with serving(shard.parent) as server:
        images = open_images(f"wds:{server.url}/train-000.tar").train
        server.failures = 2
        assert images.read(0).size == (40, 36)
        server.failures = 9
        with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/train-000\.tar cannot be read: .+\."):
            images.read(0)


def test_a_server_that_sends_whole_files_only_is_told_as_such(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shard_index, "_BLOCK", 8192)
    with (
        serving(shard.parent, ranges=False) as server,
        pytest.raises(DataError, match=r"sends whole files only, and no parts; copy the file to this machine"),
    ):
        open_images(f"wds:{server.url}/train-000.tar?token=a")


def test_a_shard_that_is_not_there(shard: Path) -> None:
    with serving(shard.parent) as server:
        with pytest.raises(DataError, match=r"train-001\.tar does not exist"):
            open_images(f"wds:{server.url}/train-{{000..001}}.tar")
        with pytest.raises(UsageError, match=r"A web server does not list its files; write .* with braces"):
            open_images(f"wds:{server.url}/*.tar")
        address = server.url
    with pytest.raises(DataError, match=r"The images are not on this machine, and 127\.0\.0\.1 could not be reached"):
        open_images(f"wds:{address}/train-000.tar")


def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reaching.REACH_S <= 5
    monkeypatch.setattr(reaching, "REACH_S", 0.0)
    with pytest.raises(DataError, match=r"nowhere\.invalid could not be reached"):
        open_images("wds:https://nowhere.invalid/train-000.tar")


def test_any_file_system_of_fsspec_serves(shard: Path, pictures: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/train-000.tar", shard.read_bytes())
    try:
        images = open_images("wds:memory://bucket/train-{000..000}.tar").train
        require_same(images, open_images(pictures).train)
        assert len(open_images("wds:memory://bucket/*.tar").train) == 12
        with pytest.raises(DataError, match=r"memory://bucket/no\.tar does not exist"):
            open_images("wds:memory://bucket/no.tar")
    finally:
        store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("hidden", "place", "sentence"),
    [
        (
            "fsspec",
            "s3://bucket/a.tar",
            "Reading s3:// needs fsspec, which is not installed: pip install 'edgedistill[s3]'.",
        ),
        (
            "s3fs",
            "s3://bucket/a.tar",
            "Reading s3:// needs s3fs, which is not installed: pip install 'edgedistill[s3]'.",
        ),
    ],
)
def test_a_library_that_is_not_installed(
    hidden: str, place: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, hidden, None)
    with pytest.raises(MissingDependencyError) as refused:
        open_images(f"wds:{place}")
    assert str(refused.value) == sentence


def test_a_web_server_without_its_library(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with (
        serving(shard.parent) as server,
        pytest.raises(MissingDependencyError, match=r"Reading http:// needs aiohttp, .* 'edgedistill\[http\]'"),
    ):
        open_images(f"wds:{server.url}/train-000.tar")


def test_places_that_are_none() -> None:
    with pytest.raises(UsageError, match=r"begins with nosuch://, which fsspec does not know"):
        open_images("wds:nosuch://bucket/a.tar")
    with pytest.raises(UsageError, match=r"chains file systems with '::'"):
        open_images("wds:zip://a.tar::file:///tmp/b.zip")


def test_a_parquet_file_is_read_by_the_row_groups_that_are_needed(tmp_path: Path, pictures: Path) -> None:
    arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    files = sorted(pictures.rglob("*.png"))
    noise = np.random.default_rng(0)  # a column that nobody asks for
    table = arrow.table(
        {
            "image": [each.read_bytes() for each in files],
            "label": [each.parent.name for each in files],
            "sound": [noise.bytes(100_000) for _ in files],
        }
    )
    (tmp_path / "served").mkdir()
    path = tmp_path / "served" / "train.parquet"
    parquet.write_table(table, path, row_group_size=2)
    with serving(tmp_path / "served") as server:
        images = open_images(f"parquet:{server.url}/train.parquet?image=image").train
        labels_only = server.sent_bytes
        assert images.read(11).size == (40, 36)
        one_group = server.sent_bytes
        assert labels_only < path.stat().st_size / 4
        assert one_group - labels_only < path.stat().st_size / 4
        require_same(images, open_images(pictures).train)
        whole = server.sent_bytes
        images.read(3)
        assert server.sent_bytes == whole
