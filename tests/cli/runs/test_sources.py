"""Runs on shards, Parquet files and tables are the runs on the folder of the same images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import Outcome, run_command, write_quick_settings
from edgedistill.data.splits import images_key, split_for_subtask
from edgedistill_deploy.images.sources import open_images
from reference.image_sources import samples_of, serving, write_csv, write_shard
from sharing import made_once

CLASSES = ("0", "1", "2", "3")


@pytest.fixture(scope="module")
def digits(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny digits as image files in train/, val/ and test/, as shards, as a table and as Parquet."""

    def write(root: Path) -> None:
        with np.load(tiny_digits) as held:
            arrays = dict(held)
        for row, pixels in enumerate(arrays["images"]):
            split = ("train", "val", "test")[arrays["split"][row]]
            path = root / "folder" / split / str(arrays["class_names"][arrays["labels"][row]]) / f"{row:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        for split in ("train", "val", "test"):
            files = sorted((root / "folder" / split).rglob("*.png"))
            half = len(files) // 2
            for number, part in enumerate((files[:half], files[half:])):
                write_shard(root / "shards" / f"digits-{split}-{number:03}.tar", samples_of(part))
        files = sorted((root / "folder").rglob("*.png"))
        rows = [[each.relative_to(root), each.parent.name, each.parent.parent.name] for each in files]
        write_csv(root / "digits.csv", ("path", "label", "split"), rows)

    return made_once(tmp_path_factory, "digits", write)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))


def parquet_of(root: Path, folder: Path) -> str:
    arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    for split in ("train", "val", "test"):
        files = sorted((root / "folder" / split).rglob("*.png"))
        columns = {"image": [each.read_bytes() for each in files], "label": [int(each.parent.name) for each in files]}
        folder.mkdir(exist_ok=True)
        parquet.write_table(arrow.table(columns), folder / f"{split}-0.parquet", row_group_size=20)
    return f"parquet:{folder}"


def run(command: str, root: Path, source: str, out: Path, *more: str) -> Outcome:
    settings = write_quick_settings(out.with_suffix(".toml"), root / "unused.npz", student="plain:8-8", epochs=1)
    return run_command(command, "--config", settings, "--data", source, "--out", out, "--keep-going", "--json", *more)


def build(root: Path, source: str, out: Path, *more: str) -> Outcome:
    return run("build", root, source, out, *more)


def test_every_source_gives_the_same_splits(digits: Path, tmp_path: Path) -> None:
    def keys(source: str) -> list[str]:
        parts = split_for_subtask(open_images(source), CLASSES)
        assert parts.test is not None
        assert (len(parts.train), len(parts.validation), len(parts.test)) == (160, 60, 80)
        return [images_key(each) for each in (parts.train, parts.validation, parts.test)]

    wanted = keys(str(digits / "folder"))
    assert keys(f"wds:{digits}/shards/digits-{{train,val,test}}-{{000..001}}.tar") == wanted
    assert keys(parquet_of(digits, tmp_path / "parquet")) == wanted
    assert sorted(keys(str(digits / "digits.csv"))) == sorted(wanted)


def test_training_on_shards_with_workers_is_training_on_the_folder(digits: Path, tmp_path: Path) -> None:
    """Two processes read the shards; not a bit of the student's weights differs."""
    weights = {}
    for name, source, more in (
        ("folder", str(digits / "folder"), ()),
        ("shards", f"wds:{digits}/shards", ("--workers", "2")),
        ("parquet", parquet_of(digits, tmp_path / "data"), ()),
    ):
        outcome = run("distill", digits, source, tmp_path / name, *more)
        assert outcome.code in (0, 3), outcome.stderr
        weights[name] = next((tmp_path / name).rglob("student.safetensors")).read_bytes()
    assert weights["folder"] == weights["shards"] == weights["parquet"]
    assert f'source = "wds:{digits}/shards"' in (tmp_path / "shards" / "settings.toml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wds", "parquet"])
def test_a_whole_build(digits: Path, tmp_path: Path, kind: str) -> None:
    source = f"wds:{digits}/shards" if kind == "wds" else parquet_of(digits, tmp_path / "data")
    outcome = build(digits, source, tmp_path / "run")
    assert outcome.code in (0, 3, 4), outcome.stderr
    outcome = run_command("validate", tmp_path / "run", "--data", source, "--precision", "fp32", "--json")
    assert json.loads(outcome.stdout)


def test_the_check_before_a_run_counts_what_is_here(digits: Path, tmp_path: Path) -> None:
    sources = [f"wds:{digits}/shards", str(digits / "digits.csv"), parquet_of(digits, tmp_path / "parquet")]
    for source in sources:
        record = json.loads(build(digits, source, tmp_path / "run", "--dry-run").stdout)
        assert record["problems"] == []
        assert {split: sum(each.values()) for split, each in record["images"].items()} == {
            "training": 160,
            "validation": 60,
            "test": 80,
        }
    assert not list((tmp_path / "cache").rglob("*.images"))


def test_the_check_before_a_run_fetches_nothing_from_a_server(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    with serving(digits / "shards") as server:
        source = f"wds:{server.url}/digits-{{train,val,test}}-{{000..001}}.tar"
        outcome = build(digits, source, tmp_path / "run", "--dry-run")
        assert json.loads(outcome.stdout)["images"] == {}
        assert "6 shards of wds:http" in outcome.stderr
        assert server.sent_bytes == 0
        problems = json.loads(build(digits, f"{source}x", tmp_path / "run", "--dry-run").stdout)["problems"]
        assert len(problems) == 1
        assert "does not exist" in problems[0]


def test_a_source_that_cannot_be_opened_is_one_of_the_problems(digits: Path, tmp_path: Path) -> None:
    for source, message in (
        ("wds:nowhere-{0..3}.tar", "There is no shard"),
        ("table:nowhere.csv", "does not exist"),
        ("torchvision:MNITS:.", "There is no source torchvision:MNITS."),
    ):
        outcome = build(digits, source, tmp_path / "run", "--dry-run")
        assert outcome.code == 2
        assert any(message in each for each in json.loads(outcome.stdout)["problems"])
