"""Parquet files of images, as Hugging Face's library and data tools write them."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.decode import UnusableImageError
from edgedistill_deploy.images.encoded import parquet as parquet_room
from edgedistill_deploy.images.sources import open_images
from reference.image_sources import require_same

arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
parquet: Any = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def files(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.png"))


def write(path: Path, columns: dict[str, list[Any]], rows: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(columns), path, row_group_size=rows)
    return path


def columns_of(files: list[Path]) -> dict[str, list[Any]]:
    return {"image": [each.read_bytes() for each in files], "label": [each.parent.name for each in files]}


def test_a_file_holds_what_the_folder_holds(tmp_path: Path, pictures: Path, files: list[Path]) -> None:
    write(tmp_path / "a.parquet", columns_of(files))
    images = open_images(f"parquet:{tmp_path / 'a.parquet'}")
    require_same(images.train, open_images(pictures).train)
    require_same(pickle.loads(pickle.dumps(images.train)), images.train)
    assert images.train.name(7) == f"{tmp_path / 'a.parquet'} row 7"
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(images.train.digest, range(12))) == [images.train.digest(row) for row in range(12)]


def test_a_data_set_that_hugging_faces_library_wrote(tmp_path: Path, pictures: Path, files: list[Path]) -> None:
    library: Any = pytest.importorskip("datasets", reason="datasets is not installed")
    library.disable_progress_bars()
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=["cat", "dog"])})
    for split, part in (("train", files[::2]), ("test", files[1::2])):
        rows = {
            "image": [{"bytes": each.read_bytes(), "path": each.name} for each in part],
            "label": [["cat", "dog"].index(each.parent.name) for each in part],
        }
        made = library.Dataset.from_dict(rows, features=features)
        made.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    images = open_images(f"parquet:{tmp_path / 'data'}")
    folder = open_images(pictures).train
    assert images.test is not None
    require_same(images.train, folder.select(range(0, 12, 2)))
    require_same(images.test, folder.select(range(1, 12, 2)))


def test_several_files_and_columns_of_other_names(tmp_path: Path, pictures: Path, files: list[Path]) -> None:
    for number in range(2):
        part = files[6 * number : 6 * number + 6]
        write(
            tmp_path / f"x-{number}.parquet",
            {
                "id": list(range(6)),
                "thumb": [b""] * 6,
                "photo": [each.read_bytes() for each in part],
                "animal": [number] * 6,
            },
        )
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    options = f"?image=photo&label=animal&classes={tmp_path / 'names.txt'}"
    images = open_images(f"parquet:{tmp_path}/x-{{0..1}}.parquet{options}").train
    require_same(images, open_images(pictures).train)
    for wrong, message in (
        ("?label=animal", r"has the columns thumb, photo; say which is the image with \?image=COLUMN"),
        ("?image=photo", r"say which is the label with \?label=COLUMN"),
        ("?image=foto&label=animal", r"has no column 'foto' for the image\. Did you mean photo\?"),
        ("?image=photo&label=animl", r"has no column 'animl' for the label\. Did you mean animal\?"),
    ):
        with pytest.raises(UsageError, match=message):
            open_images(f"parquet:{tmp_path}/x-0.parquet{wrong}")


def test_labels_are_read_without_the_images(
    tmp_path: Path, files: list[Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet", columns_of(files))
    images = open_images(f"parquet:{tmp_path / 'a.parquet'}").train
    assert not own_cache.exists()
    images.read(0)
    images.read(4)
    assert [each.name for each in own_cache.rglob("*.images")] == ["0.images"]
    monkeypatch.setattr(parquet_room, "_unpack", lambda *_: pytest.fail("a row group was unpacked again"))
    images.read(1)


def test_rows_without_a_label_or_an_image(tmp_path: Path, files: list[Path]) -> None:
    columns = columns_of(files[:4])
    columns["image"][1] = None
    columns["label"] = [0, 0, -1, None]
    images = open_images(f"parquet:{write(tmp_path / 'a.parquet', columns)}")
    assert images.notes == ("Rows without a label passed over: 2.",)
    assert len(images.train) == 2
    with pytest.raises(UnusableImageError, match=r"a\.parquet row 1 is empty"):
        images.train.read(1)


def test_files_that_cannot_be_used(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    write(tmp_path / "words.parquet", {"a": ["x"], "b": ["y"]})
    write(tmp_path / "bare.parquet", {"image": [files[0].read_bytes()], "label": [None]})
    paths = {"image": [{"bytes": None, "path": str(files[0])}], "label": ["cat"]}
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    table = arrow.table({"image": arrow.array(paths["image"], kind), "label": arrow.array(paths["label"])})
    parquet.write_table(table, tmp_path / "paths.parquet")
    for name, message in (
        ("text.parquet", r"text\.parquet cannot be read as Parquet"),
        ("words.parquet", r"words\.parquet has no column of images, but a, b\."),
        ("bare.parquet", r"holds no row with a label"),
    ):
        with pytest.raises(DataError, match=message):
            open_images(f"parquet:{tmp_path / name}")
    with pytest.raises(DataError, match=r"holds no bytes, but perhaps paths.*table:"):
        open_images(f"parquet:{tmp_path / 'paths.parquet'}").train.read(0)
    with pytest.raises(UsageError, match=r"There is no Parquet file .*nowhere"):
        open_images(f"parquet:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match=r"is a file; name parquet:"):
        open_images(tmp_path / "words.parquet")
