"""Tables of paths and labels: CSV as spreadsheets and scripts write it, and Parquet."""

import sys
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.errors import DataError, MissingDependencyError, UsageError
from edgedistill_deploy.images.sources import absolute_source, open_images
from reference.image_sources import require_same, write_csv, write_pictures


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "images")


def rows_of(files: list[Path], root: Path) -> list[list[str]]:
    return [[str(each.relative_to(root)), each.parent.name] for each in files]


@pytest.mark.parametrize(
    ("header", "options"),
    [
        (("path", "label"), {}),
        (("File_Name", "Class"), {"delimiter": ";"}),
        (("filename", "target"), {"delimiter": "\t"}),
        (("image", "category"), {"lineterminator": "\r\n"}),
    ],
)
def test_columns_are_found_by_their_names(
    tmp_path: Path, files: list[Path], header: tuple[str, str], options: dict[str, Any]
) -> None:
    table = write_csv(tmp_path / "t.csv", header, rows_of(files, tmp_path), **options)
    for source in (str(table), f"table:{table}"):
        images = open_images(source)
        require_same(images.train, open_images(tmp_path / "images").train)
        assert (images.validation, images.test, images.skipped, images.notes) == (None, None, (), ())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_other_systems_and_backslashes(tmp_path: Path, files: list[Path], encoding: str) -> None:
    rows = [f"images\\{each.parent.name}\\{each.name},Höhle {each.parent.name}" for each in files]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]), encoding=encoding)
    train = open_images(tmp_path / "t.csv").train
    assert train.class_names == ("Höhle cat", "Höhle dog")
    assert train.read(3) == open_images(tmp_path / "images").train.read(3)


def test_named_columns_splits_absolute_paths_and_class_names(tmp_path: Path, files: list[Path]) -> None:
    rows = [
        ["1", each, int(each.parent.name == "dog"), ("train", "VAL", "test")[n % 3]] for n, each in enumerate(files)
    ]
    table = write_csv(tmp_path / "t.csv", ("path", "where", "number", "part"), rows)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    images = open_images(f"table:{table}?path=where&label=number&split=part&classes={tmp_path / 'names.txt'}")
    assert images.class_names == ("cat", "dog")
    assert images.validation is not None
    assert images.test is not None
    assert [len(each) for each in (images.train, images.validation, images.test)] == [4, 4, 4]
    assert images.validation.name(0) == str(files[1])


def test_missing_files_are_skipped_and_incomplete_rows_counted(tmp_path: Path, files: list[Path]) -> None:
    rows = [*rows_of(files, tmp_path), ["images/cat/77.png", "cat"], ["", "dog"], ["images/cat/00.png", ""], []]
    images = open_images(write_csv(tmp_path / "t.csv", ("path", "label"), rows))
    assert len(images.train) == 12
    assert [(each.path, each.class_name, each.lost) for each in images.skipped] == [
        (str(tmp_path / "images/cat/77.png"), "cat", True)
    ]
    assert images.notes == ("Rows of t.csv without a path or a label passed over: 2.",)


def test_a_table_of_parquet(tmp_path: Path, files: list[Path]) -> None:
    arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    columns = {"file": [str(each) for each in files], "label": [each.parent.name for each in files]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    require_same(open_images(f"table:{tmp_path / 't.parquet'}").train, open_images(tmp_path / "images").train)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("images/cat/00.png,cat\n", UsageError, r"names no column of paths \(path, file_path, .*\?path=COLUMN"),
        ("path,colour\nx,cat\n", UsageError, r"names no column of labels .* but 'path', 'colour'"),
        ("path,label\n", DataError, r"has 0 rows, and none has both a path and a label"),
        ("path,label\nx.png\n", DataError, r"line 2, has 1 columns of the 2 in line 1"),
        ("path,label\nx.png,cat\n", DataError, r"None of the 1 files that .*t\.csv lists is there, such as .*x\.png"),
        ("path,label\nhttps://x/a.png,cat\n", DataError, r"lists web addresses such as https://x/a\.png"),
        ("path,label,split\nimages/cat/00.png,cat,7\n", DataError, r"has the split '7'; a split is train, val or test"),
        ("", UsageError, r"names no column of paths .* but nothing"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, files: list[Path], text: str, kind: type[Exception], message: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(kind, match=message):
        open_images(tmp_path / "t.csv")


def test_what_is_no_table_and_columns_that_are_not_there(tmp_path: Path, files: list[Path]) -> None:
    table = write_csv(tmp_path / "t.csv", ("path", "label"), rows_of(files, tmp_path))
    for source, message in (
        (f"table:{tmp_path / 'no.csv'}", r"The table .*no\.csv does not exist; name a CSV"),
        (f"table:{tmp_path}", r"The table .* is a folder"),
        (f"table:{table}?path=pth", r"has no column 'pth'\. Did you mean path\?"),
        (f"table:{table}?lable=x", r"has the option 'lable', which is none\. Did you mean label\?"),
    ):
        with pytest.raises(UsageError, match=message):
            open_images(source)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet: "):
        open_images(f"table:{tmp_path / 't.parquet'}")


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for source in (f"table:{tmp_path / 't.parquet'}", f"parquet:{tmp_path / 't.parquet'}"):
        with pytest.raises(MissingDependencyError, match=r"needs pyarrow, .* pip install 'edgedistill\[parquet\]'"):
            open_images(source)


def test_sources_mean_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    for given, wanted in (
        ("t.csv", f"table:{here}/t.csv"),
        ("table:a/t.parquet?path=x", f"table:{here}/a/t.parquet?path=x"),
        ("wds:a-{0..3}.tar?classes=n.txt", f"wds:{here}/a-{{0..3}}.tar?classes={here}/n.txt"),
        ("wds:s3://bucket/a.tar", "wds:s3://bucket/a.tar"),
        ("parquet:p?label=l&classes=n.txt", f"parquet:{here}/p?label=l&classes={here}/n.txt"),
        ("hf:owner/name?config=c", "hf:owner/name?config=c"),
        ("cifar10:c", f"cifar10:{here}/c"),
    ):
        assert absolute_source(given) == wanted
