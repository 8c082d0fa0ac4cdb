"""As much of Hugging Face's hub as its library asks for one small data set, on this machine."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "a" * 40
MADE = "2024-01-01T00:00:00.000Z"


@dataclass
class Hub:
    """The address, and the paths whose content was fetched."""

    url: str
    fetched: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving_hub(root: Path, name: str) -> Iterator[Hub]:
    """Serve a folder as the data set OWNER/NAME."""
    hub = Hub(url="")
    api, files = f"/api/datasets/{name}", f"/datasets/{name}/resolve/"

    def entry(path: Path) -> dict[str, Any]:
        own = path.relative_to(root).as_posix()
        if path.is_dir():
            return {"type": "directory", "oid": COMMIT, "size": 0, "path": own}
        content = path.read_bytes()
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": own}

    def describe() -> dict[str, Any]:
        siblings = [{"rfilename": each.relative_to(root).as_posix()} for each in root.rglob("*") if each.is_file()]
        flags = dict.fromkeys(("private", "gated", "disabled"), False)
        counts = {"downloads": 0, "likes": 0, "tags": [], "lastModified": MADE, "createdAt": MADE}
        return {"_id": "1", "id": name, "sha": COMMIT, "siblings": siblings, **flags, **counts}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:  # the name that the base class calls
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            if path.startswith(f"{api}/tree/"):
                folder = root / path.removeprefix(f"{api}/tree/").partition("/")[2]
                every = folder.rglob("*") if "recursive=true" in self.path.lower() else folder.iterdir()
                self._answer(json.dumps([entry(each) for each in sorted(every)]).encode())
            elif path == api or path.startswith(f"{api}/revision/"):
                self._answer(json.dumps(describe()).encode())
            elif path.startswith(files) and (file := root / path.removeprefix(files).partition("/")[2]).is_file():
                if self.command == "GET":
                    hub.fetched.append(path)
                self._answer(file.read_bytes())
            else:
                self._answer(b'{"error": "Entry not found"}', 404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
            self._answer(json.dumps([entry(root / each) for each in paths if (root / each).exists()]).encode())

        def _answer(self, content: bytes, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if code != 200:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
