"""Parquet files, here and on servers, read a column and a row group at a time."""

import importlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import DataError, EdgeDistillError, MissingDependencyError
from edgedistill_deploy.files.places import describe_place, is_url, read_range


@contextmanager
def open_parquet(place: str) -> Iterator[Any]:
    """Yield pyarrow's ParquetFile. Raises DataError for what is none, MissingDependencyError without pyarrow."""
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependencyError("pyarrow", "parquet", f"Reading {place}") from error
    try:
        source = arrow.PythonFile(_RangeFile(place), mode="r") if is_url(place) else place
        with parquet.ParquetFile(source) as opened:
            yield opened
    except EdgeDistillError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{place} cannot be read as Parquet: {' '.join(str(error).split())[:200]}.") from error


def read_columns(path: Path, choose: Callable[[Sequence[str]], list[str]]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the names that `choose` takes of a file's columns, and their values."""
    with open_parquet(str(path)) as opened:
        names = choose(opened.schema_arrow.names)
        return names, {name: opened.read(columns=[name]).column(name).to_pylist() for name in names}


def class_names_of(schema: Any, column: str) -> tuple[str, ...]:
    """Return the names of numbered classes that Hugging Face's library wrote into a schema, () for none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(each, str) for each in names) else ()


class _RangeFile(io.RawIOBase):
    """A file on a server that pyarrow reads the parts of that it needs."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self._size = describe_place(place)[0]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        content = read_range(self._place, self._at, wanted) if wanted else b""
        self._at += len(content)
        return content
