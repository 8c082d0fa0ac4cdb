"""Data sets of Hugging Face's hub: from the library's cache, which the library itself fills here, without a network."""

import hashlib
import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.errors import DataError, MissingDependencyError, UsageError
from edgedistill_deploy.images.sets import NO_LABEL
from edgedistill_deploy.images.sources import must_fetch, open_images
from reference.hub_server import serving_hub
from reference.image_sources import require_same, serving

if importlib.util.find_spec("datasets") is None:
    pytest.skip("datasets is not installed", allow_module_level=True)

UNREACHABLE = "http://127.0.0.1:9"


def library() -> Any:
    """Load the library when a test asks for it, not in every process that collects the tests: it takes a second."""
    return importlib.import_module("datasets")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that does not answer."""
    monkeypatch.setattr(library().config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(library().config, "HF_ENDPOINT", UNREACHABLE)
    monkeypatch.setattr(library().config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    library().disable_progress_bars()
    return tmp_path / "datasets"


def fetch(cache: Path, splits: Mapping[str, list[Path]], name: str = "shapes", **more: list[Any]) -> None:
    """Fill the cache as a download of owner/NAME does, with the builder that the library has for Parquet files."""
    features = {"image": library().Image(), "label": library().ClassLabel(names=["cat", "dog"])}
    data = {}
    for split, files in splits.items():
        rows: dict[str, list[Any]] = {
            "image": [{"bytes": each.read_bytes(), "path": None} for each in files],
            "label": [["cat", "dog"].index(each.parent.name) for each in files],
        }
        own = dict(features)
        for column, values in more.items():
            rows[column], own[column] = values * len(files), library().Value("string")
        path = cache.parent / "source" / f"{name}-{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        library().Dataset.from_dict(rows, features=library().Features(own)).to_parquet(path)
        data[split] = [str(path)]
    keep(cache, name, data)


def keep(cache: Path, name: str, data: Mapping[str, list[str]]) -> None:
    """Put Parquet files, by their split, into the cache as the data set owner/NAME."""
    from datasets.packaged_modules.parquet.parquet import Parquet

    Parquet(cache_dir=str(cache), dataset_name=name, hash="a1b2c3", data_files=dict(data)).download_and_prepare()
    # The builder's own folder ends in a hash of the local files; that of a download does not.
    (cache / f"owner___{name}").mkdir()
    next((cache / name).glob("default-*")).rename(cache / f"owner___{name}" / "default")


def test_a_data_set_in_the_cache_needs_no_hub(cache: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    fetch(cache, {"train": files[::2], "validation": files[1::4], "test": files[3::4]})
    assert must_fetch("hf:owner/shapes") == ""
    images = open_images("hf:owner/shapes")
    folder = open_images(pictures).train
    assert images.validation is not None
    assert images.test is not None
    require_same(images.train, folder.select(range(0, 12, 2)))
    require_same(images.validation, folder.select(range(1, 12, 4)))
    require_same(images.test, folder.select(range(3, 12, 4)))
    require_same(pickle.loads(pickle.dumps(images.train)), images.train)
    assert images.train.name(2) == "hf:owner/shapes train row 2"
    assert library().config.HF_HUB_OFFLINE is False


def test_columns_and_splits_of_other_names(cache: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    fetch(cache, {"everything": files}, colour=["red"])
    assert len(open_images("hf:owner/shapes").train) == 12
    assert open_images("hf:owner/shapes?label=colour").train.class_names == ("red",)
    for options, message in (
        ("?label=colr", r"has no column 'colr' for the label\. Did you mean colour\?"),
        ("?image=picture", r"has no column 'picture'"),
        ("?colour=red", r"has the option 'colour', which is none"),
    ):
        with pytest.raises(UsageError, match=message):
            open_images(f"hf:owner/shapes{options}")


def test_without_labels_a_data_set_of_images_alone_is_enough(cache: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    fetch(cache, {"train": files, "test": files[:3]}, colour=["red"], shade=["dark"])
    source = cache.parent / "source" / "bare-train.parquet"
    rows = {"image": [{"bytes": each.read_bytes(), "path": None} for each in files]}
    library().Dataset.from_dict(rows, features=library().Features({"image": library().Image()})).to_parquet(source)
    keep(cache, "bare", {"train": [str(source)]})
    with pytest.raises(UsageError, match=r"name the label with \?label=COLUMN"):
        open_images("hf:owner/bare")
    for name, count in (("bare", 12), ("shapes", 12)):
        images = open_images(f"hf:owner/{name}", labels=False)
        assert len(images.train) == count
        assert set(images.train.labels.tolist()) == {NO_LABEL}
        assert images.train.read(3).tobytes() == open_images(pictures).train.read(3).tobytes()


def test_splits_that_mean_nothing(cache: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    fetch(cache, {"train": files, "extra": files[:2]})
    assert open_images("hf:owner/shapes").notes == ("Splits of hf:owner/shapes passed over: extra.",)
    fetch(cache, {"one": files, "two": files}, name="odd")
    with pytest.raises(DataError, match=r"has the splits one, two; one must be called train, validation or test"):
        open_images("hf:owner/odd")


def test_a_hub_that_cannot_be_reached(cache: Path) -> None:
    for ask in (open_images, must_fetch):
        with pytest.raises(DataError) as refused:
            ask("hf:owner/shapes")
        assert str(refused.value) == (
            "The images of hf:owner/shapes are not on this machine, and 127.0.0.1 could not be reached "
            "(Connection refused); fetch it where there is a network, and copy the cache of the hub here (HF_HOME "
            "names its folder)."
        )


def test_a_hub_that_answers_is_asked_when_the_run_begins(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(cache.parent) as server:
        monkeypatch.setattr(library().config, "HF_ENDPOINT", server.url)
        assert "not on this machine yet; it is fetched when the run begins" in must_fetch("hf:owner/shapes")
        assert server.sent_bytes == 0


def test_the_variables_for_offline_work_are_honoured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library().config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE or HF_DATASETS_OFFLINE forbids to fetch them"):
        open_images("hf:owner/shapes")


LOADED = """
from edgedistill_deploy.images.sets import NO_LABEL
from edgedistill_deploy.images.sources import must_fetch, open_images
print(bool(must_fetch("hf:owner/shapes")))
for _ in range(2):
    images = open_images("hf:owner/shapes")
    print(len(images.train), len(images.test), *images.class_names, images.train.digest(0))
    assert not must_fetch("hf:owner/shapes")
"""


@pytest.mark.slow  # needs the hub's interface as it was when this was written
def test_a_data_set_is_fetched_from_a_hub_once(tmp_path: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    (tmp_path / "repository" / "data").mkdir(parents=True)
    for split, part in (("train", files[::2]), ("test", files[1::2])):
        features = library().Features({"image": library().Image(), "label": library().Value("string")})
        rows = {
            "image": [{"bytes": each.read_bytes(), "path": None} for each in part],
            "label": [each.parent.name for each in part],
        }
        path = tmp_path / "repository" / "data" / f"{split}-00000-of-00001.parquet"
        library().Dataset.from_dict(rows, features=features).to_parquet(path)
    with serving_hub(tmp_path / "repository", "owner/shapes") as hub:
        done = subprocess.run(
            [sys.executable, "-c", LOADED],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=True,
        )
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert done.stdout.splitlines() == ["True", f"6 6 cat dog {digest}", f"6 6 cat dog {digest}"]
    assert sum(path.endswith("train-00000-of-00001.parquet") for path in hub.fetched) == 1


def test_names_that_are_none(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("owner/here").mkdir(parents=True)
    for name, message in (
        ("hf:a/b/c", r"hf:a/b/c is no data set of the hub; name OWNER/NAME"),
        ("hf:", r"is no data set of the hub"),
        ("hf:owner/here", r"owner/here is on this machine; name it without hf:, or its files with parquet:owner/here"),
    ):
        with pytest.raises(UsageError, match=message):
            open_images(name)


def test_the_library_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"needs datasets, .* pip install 'edgedistill\[hf\]'"):
        open_images("hf:owner/shapes")
