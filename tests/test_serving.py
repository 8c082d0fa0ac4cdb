"""The web service of `examples/serve.py` runs, and `docs/serving.md` names what an exported file has."""

import json
import os
import re
import runpy
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgedistill.export.any_size import write_any_size
from edgedistill_deploy.bundle.folder import Bundle
from reference.colour_bundles import SIZE, colour_bundle
from reference.colour_pictures import add_decision, changed, picture

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
TYPES = {"TYPE_UINT8": "tensor(uint8)", "TYPE_FP32": "tensor(float)", "TYPE_BOOL": "tensor(bool)"}
# Serves on a free port, and says which.
SERVE = """
import socket, sys, uvicorn
sys.path.insert(0, sys.argv[1])
listening = socket.create_server(("127.0.0.1", 0))  # requests wait in it until the service takes them
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config("serve:app", log_level="warning")).run(sockets=[listening])
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return changed(colour_bundle(tmp_path_factory.mktemp("serving") / "colours", 12), add_decision)


@pytest.fixture(scope="module")
def address(bundle: Bundle) -> Iterator[str]:
    environment = {**os.environ, "EXPERT": str(bundle.path)}
    command = [sys.executable, "-c", SERVE, str(ROOT / "examples")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        assert port.isdecimal(), "the service ended before it began"
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def ask(address: str, content: bytes | None = None) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(address, content, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_service_answers_pictures_and_says_what_is_wrong_with_others(address: str, tmp_path: Path) -> None:
    picture("green", (61, 40)).save(tmp_path / "photo.jpg")
    status, answer = ask(f"{address}/predict", (tmp_path / "photo.jpg").read_bytes())
    assert (status, answer["class"], answer["in_domain"]) == (200, "green", True)
    assert isinstance(answer["probability"], float)
    assert 0.5 < answer["probability"] <= 1
    status, told = ask(f"{address}/predict", b"<html>")
    assert status == 422
    assert "cannot be read as an image" in str(told["detail"])
    assert ask(f"{address}/predict", bytes(20_000_001))[0] == 413
    assert ask(f"{address}/health") == (200, {"precision": "fp32", "classes": ["red", "green", "yellow"]})


def described(text: str) -> dict[str, tuple[str, list[int]]]:
    """Return the type and the axes of each input and output in a configuration."""
    pattern = r'name: "(\w+)" data_type: (\w+) dims: \[ ([-\d, ]+) \]'
    return {
        name: (TYPES[kind], [int(each) for each in dims.split(",")]) for name, kind, dims in re.findall(pattern, text)
    }


def test_tritons_configuration_names_what_a_file_has(bundle: Bundle) -> None:
    batched, decision, single = (described(block) for block in PAGE.split("```")[1::2] if "data_type" in block)
    written = write_any_size(bundle, [picture("red", (20, 30))])
    for role, configured in (("model.fp32", batched | decision), ("model.fp32-any-size", single | decision)):
        session = onnxruntime.InferenceSession(written.file(role), providers=["CPUExecutionProvider"])
        found = {each.name: each for each in (*session.get_inputs(), *session.get_outputs())}
        assert set(configured) == set(found)
        for name, (kind, axes) in configured.items():
            # 224 pixels and 10 classes are the page's; free sizes are -1 there and names in a file.
            ours = [{224: SIZE, 10: 3, -1: None}.get(axis, axis) for axis in axes]
            shape = [size if isinstance(size, int) else None for size in found[name].shape]
            wanted = ours if role.endswith("any-size") else [None, *ours]
            assert found[name].type == kind
            assert shape == ([wanted[0]] if name == "in_domain" and len(shape) == 1 else wanted)


def test_the_client_of_the_page_prepares_what_the_model_takes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "my-expert").symlink_to(bundle.path)
    picture("green", (61, 40)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "client.py").write_text(code, encoding="utf-8")
    pixels = runpy.run_path("client.py")["pixels"]
    assert isinstance(pixels, np.ndarray)
    assert (pixels.shape, pixels.dtype) == ((SIZE, SIZE, 3), np.uint8)
