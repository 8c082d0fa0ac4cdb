"""The dynamo exporter's table of translations is read once in a process, and changes no file."""

import contextlib
import importlib
from pathlib import Path
from typing import Any

import pytest

from edgedistill.export import _onnx_exporters
from edgedistill.export.deployed import Deployed
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise
from edgedistill.models.plain import PlainNet

REGISTRATION = "torch.onnx._internal.exporter._registration"


def written(path: Path) -> bytes:
    model = Deployed(PlainNet((4, 8), 3), Normalise((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))).eval()
    for number, weight in enumerate(model.parameters()):
        weight.data.fill_(0.1 * (number + 1))
    assert write_onnx(model, (8, 8), path, opset=20, metadata={}).fell_back_because is None
    return path.read_bytes()


def test_the_table_is_read_once_and_the_files_are_those_of_a_torch_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registration: Any = importlib.import_module(REGISTRATION)
    read = registration.ONNXRegistry.__dict__["from_torchlib"]
    calls: list[object] = []

    def counted(cls: Any, *given: Any, **named: Any) -> Any:
        calls.append(given)
        return read.__get__(None, cls)(*given, **named)

    monkeypatch.setattr(_onnx_exporters, "_TRANSLATIONS", {})
    monkeypatch.setattr(registration.ONNXRegistry, "from_torchlib", classmethod(counted))
    files = [written(tmp_path / f"{name}.onnx") for name in ("first", "second")]
    assert len(calls) == 1
    # What was replaced for the export is back.
    assert registration.ONNXRegistry.__dict__["from_torchlib"].__func__ is counted
    monkeypatch.setattr(_onnx_exporters, "_translations_read_once", contextlib.nullcontext)
    files.append(written(tmp_path / "third.onnx"))
    assert len(calls) == 2
    assert files[0] == files[1] == files[2]
