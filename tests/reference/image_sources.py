"""The same pictures as a folder, shards, tables and Parquet files, written by other libraries, and a small server."""

import contextlib
import csv
import io
import re
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.images.sets import ImageSet
from reference.photographs import photograph, save

Sample = Mapping[str, bytes]  # of a shard: {suffix: content}


def write_pictures(root: Path, count: int = 6, names: tuple[str, ...] = ("cat", "dog")) -> list[Path]:
    """Write `count` pictures of each class below a folder of its name, and return their files in order."""
    return [
        save(photograph(1000 * place + number, (40, 36)), root / name / f"{number:02}.png")
        for place, name in enumerate(names)
        for number in range(count)
    ]


def write_shard(path: Path, samples: Iterable[tuple[str, Sample]], **options: Any) -> Path:
    """Write a shard with Python's own tarfile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for key, parts in samples:
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def samples_of(files: Iterable[Path]) -> list[tuple[str, Sample]]:
    """Return a sample for each file: its bytes, and the name of its folder as the label."""
    return [
        (f"{number:06}", {"png": file.read_bytes(), "cls": file.parent.name.encode()})
        for number, file in enumerate(files)
    ]


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]], **options: Any) -> Path:
    """Write a table with Python's own csv."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, **options)
        table.writerow(header)
        table.writerows(rows)
    return path


def require_same(one: ImageSet, other: ImageSet) -> None:
    """Assert that two sets hold the same pixels, labels, classes and digests in the same order."""
    assert one.class_names == other.class_names
    assert one.labels.tolist() == other.labels.tolist()
    for row in range(len(one)):
        np.testing.assert_array_equal(np.asarray(one.read(row)), np.asarray(other.read(row)))
        assert one.digest(row) == other.digest(row)


@dataclass
class Served:
    """A server's address, and what it was asked for: {path: ranges}; a range is "" where all was asked for."""

    url: str
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    sent_bytes: int = 0
    failures: int = 0  # answers still to be broken off


@contextlib.contextmanager
def serving(root: Path, *, ranges: bool = True) -> Iterator[Served]:
    """Serve the files of a folder by HTTP, parts of them too where `ranges` is true."""
    served = Served(url="")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:  # the name that the base class calls
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            asked = self.headers.get("Range", "")
            served.asked.append((self.command, self.path, asked))
            file = root / self.path.partition("?")[0].lstrip("/")
            if body and served.failures:
                served.failures -= 1
                self.close_connection = True
                self.connection.close()
                return
            content = file.read_bytes() if file.is_file() else b""
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", asked) if ranges else None
            if not file.is_file():
                self.send_response(404)
            elif part:
                start, end = int(part[1]), min(int(part[2]), len(content) - 1)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
                content = content[start : end + 1]
            else:
                self.send_response(200)
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", '"one"')
            self.end_headers()
            if body:
                served.sent_bytes += len(content)
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
