"""Processes that decode images read shards on a server each for itself, also after this process has read some."""

from pathlib import Path

import pytest
import torch

from edgedistill.data.loader import open_loader
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sources import open_images
from reference.image_sources import samples_of, serving, write_pictures, write_shard

pytest.importorskip("aiohttp", reason="aiohttp is not installed")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.timeout(120)  # what fsspec does after a fork could wait for ever
def test_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
