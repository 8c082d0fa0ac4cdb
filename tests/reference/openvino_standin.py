"""An ONNX Runtime that says it has OpenVINO, and computes what it is asked for there on the processor.

The real OpenVINO comes in a wheel that replaces ONNX Runtime, so it cannot be installed beside the one of the other
tests; `tests/deploy/runtimes/test_real_providers.py` runs it. Two variables of the environment, which processes that
measure inherit, make it misbehave: it refuses files whose names have REFUSED in them, and negates the answers of those
whose names have WRONG.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NATIVE, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"
REFUSED, WRONG = "EDGEDISTILL_OPENVINO_REFUSES", "EDGEDISTILL_OPENVINO_NEGATES"

# Found before the real package by the processes that measure, which look where this process looks.
_MODULE = """
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

places = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent.resolve()]
spec = PathFinder.find_spec("onnxruntime", places)
sys.modules["onnxruntime"] = real = module_from_spec(spec)
spec.loader.exec_module(real)
from reference.openvino_standin import pretend
pretend(real)
"""


class _Part:
    """Nodes that OpenVINO has taken: all of them, as one."""

    ep_name = NATIVE

    def get_nodes(self) -> list[None]:
        return [None]


def pretend(ort: Any, replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Make this ONNX Runtime one with OpenVINO."""
    load = ort.InferenceSession

    def open_session(model: Any, *, providers: Any = None, **options: Any) -> Any:
        if providers is None or all(isinstance(each, str) or each[0] != NATIVE for each in providers):
            return load(model, providers=providers, **options)
        if _is_named(model, REFUSED):
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : OpenVINO has no such operator")
        native = load(model, providers=[CPU], **options)
        native.get_providers = lambda: [NATIVE, CPU]
        native.get_provider_graph_assignment_info = lambda: [_Part()]
        if _is_named(model, WRONG):
            run = native.run
            native.run = lambda *given: [-each if each.dtype.kind == "f" else each for each in run(*given)]
        return native

    replace(ort, "InferenceSession", open_session)
    replace(ort, "get_available_providers", lambda: [NATIVE, CPU])


def stand_in(patched: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this process, and those that it starts, find an ONNX Runtime with OpenVINO; `folder` is empty."""
    import onnxruntime

    pretend(onnxruntime, patched.setattr)
    (folder / "onnxruntime.py").write_text(_MODULE, encoding="utf-8")
    patched.syspath_prepend(folder)


def _is_named(model: Any, variable: str) -> bool:
    part = os.environ.get(variable)
    return bool(part) and isinstance(model, str) and str(part) in Path(model).name
