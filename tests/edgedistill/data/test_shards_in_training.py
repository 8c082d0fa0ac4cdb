"""Shards as WebDataset's own library writes them, and processes that read them from a server each for itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edgedistill.data.loader import open_loader
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sources import open_images
from reference.image_sources import require_same, samples_of, serving, write_pictures, write_shard


def test_shards_that_webdataset_itself_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("webdataset", reason="webdataset is not installed")  # which loads torch
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    files = write_pictures(tmp_path / "pictures")
    with library.ShardWriter(str(tmp_path / "b-%03d.tar"), maxcount=5, verbose=0) as writer:
        for number, file in enumerate(files):
            label = int(file.parent.name == "dog")
            writer.write({"__key__": f"n/{number:04}", "png": file.read_bytes(), "cls": label, "json": {"x": 1}})
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    images = open_images(f"wds:{tmp_path}/b-{{000..002}}.tar?classes={tmp_path}/names.txt").train
    require_same(images, open_images(tmp_path / "pictures").train)
    assert open_images(f"wds:{tmp_path}").train.class_names == ("0", "1")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.timeout(120)  # what fsspec does after a fork could wait for ever
def test_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    files = write_pictures(tmp_path / "pictures")
    for number in range(2):
        write_shard(tmp_path / "served" / f"{number}.tar", samples_of(files[6 * number : 6 * number + 6]))
    with serving(tmp_path / "served") as server:
        images = open_images(f"wds:{server.url}/{{0..1}}.tar").train
        images.read(0)
        alone, helped = (
            [
                torch.cat(each)
                for each in zip(*open_loader(images, Preprocess(size=(16, 16)), 5, workers=n), strict=True)
            ]
            for n in (0, 2)
        )
        assert all(torch.equal(one, other) for one, other in zip(alone, helped, strict=True))
        # 1 + 12 + 12 images, each asked for by its own range.
        assert sum(method == "GET" and part != "" for method, _, part in server.asked) >= 25
