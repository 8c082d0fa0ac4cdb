"""Takes the place of the package `tensorrt`: TensorRT's real bindings, over the libraries that stand in for its own.

Copied as `tensorrt/__init__.py` into a folder beside the bindings and the compiled libraries (see `build.py`). The
libraries ask the functions here what an ONNX file holds, what it computes, and what the inspector would say of it.

The environment changes what is imitated: with STANDIN_BUILDS=float every layer is built in fp32, whatever the file
says; with silent the inspector tells no formats; with nothing the build fails. STANDIN_STEP_MS makes each of a build's
steps last.

A run that is timed is refused, so that no time of these libraries ever gets into a record.
"""

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto

_LIBRARIES = Path(__file__).resolve().parent / "libraries"

# ONNX's type: TensorRT's number, numpy's name, and the inspector's word.
_TYPES: dict[int, tuple[int, str, str]] = {
    TensorProto.FLOAT: (0, "float32", "Float"),
    TensorProto.FLOAT16: (1, "float16", "Half"),
    TensorProto.INT8: (2, "int8", "Int8"),
    TensorProto.INT32: (3, "int32", "Int32"),
    TensorProto.BOOL: (4, "bool", "Bool"),
    TensorProto.UINT8: (5, "uint8", "UInt8"),
    TensorProto.INT64: (8, "int64", "Int64"),
}
_UNSEEN = ("QuantizeLinear", "DequantizeLinear", "Constant")  # fused away
_WEIGHTED = {"Conv": "CaskConvolution", "Gemm": "MatrixMultiply", "MatMul": "MatrixMultiply"}


class _Dims(ctypes.Structure):
    _fields_ = (("count", ctypes.c_int32), ("sizes", ctypes.c_int64 * 8))


_DESCRIBE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t)
_RUN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_char_p),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(_Dims),
)
_INSPECT = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
)


class _Hooks(ctypes.Structure):
    _fields_ = (
        ("describe", _DESCRIBE),
        ("run", _RUN),
        ("inspect", _INSPECT),
        ("strongly_typed", ctypes.c_int),
        ("version_compatible", ctypes.c_int),
        ("detailed", ctypes.c_int),
    )


# What an ONNX file holds


def describe(onnx_bytes: bytes) -> Iterator[str]:
    """Yield the lines on inputs, outputs and layers, or on what TensorRT would refuse."""
    try:
        model = onnx.load_from_string(onnx_bytes)
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001  # whatever onnx has against the file is what is told
        yield f"E - - Failed to parse the ONNX model: {' '.join(str(error).split())[:200]}"
        return
    yield from _refusals(model)
    for mark, values in (("I", model.graph.input), ("O", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            sizes = (size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim)
            yield " ".join(map(str, (mark, value.name, _TYPES[tensor.elem_type][0], *sizes)))
    for name in _layer_names(model):
        yield f"L {name}"


def _refusals(model: onnx.ModelProto) -> Iterator[str]:
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"E {node.name} {node.op_type} No importer registered for op: {node.op_type}"
    pixels = [value.name for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8]
    for node in model.graph.node:
        if node.op_type != "Cast" and set(pixels) & set(node.input):
            yield f"E {node.name} {node.op_type} A tensor of type UINT8 can only be cast to FLOAT or HALF"


# What it computes

_sessions: dict[bytes, onnxruntime.InferenceSession] = {}


def run(onnx_bytes: bytes, places: dict[str, tuple[int, tuple[int, ...]]]) -> None:
    """Read inputs from their addresses, compute, and write outputs to theirs; `places` has (address, shape) by name."""
    if onnx_bytes not in _sessions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # The graph as it is written: a GPU's INT8 does not saturate, as some processors' kernels do.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        _sessions[onnx_bytes] = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    session = _sessions[onnx_bytes]
    names = {"tensor(float)": "float32", "tensor(float16)": "float16"}
    feeds = {}
    for each in session.get_inputs():
        address, shape = places[each.name]
        dtype = np.dtype(names.get(each.type, each.type[len("tensor(") : -1]))
        data = ctypes.string_at(address, int(np.prod(shape)) * dtype.itemsize)
        feeds[each.name] = np.frombuffer(data, dtype).reshape(shape)
    for each, value in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        written = np.ascontiguousarray(value)
        if written.shape != places[each.name][1]:
            raise ValueError(f"{each.name} is {written.shape}, and the engine was told {places[each.name][1]}")
        ctypes.memmove(places[each.name][0], written.ctypes.data, written.nbytes)


# What the inspector says


def inspect(onnx_bytes: bytes, detailed: bool, with_shapes: bool) -> str:
    """Return the inspector's JSON: names alone unless detailed, and no formats before the shapes of a context are
    set."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(onnx_bytes))
    bindings = [value.name for value in (*model.graph.input, *model.graph.output)]
    if not detailed:
        return json.dumps({"Layers": list(_layer_names(model)), "Bindings": bindings})
    told = with_shapes and os.environ.get("STANDIN_BUILDS") != "silent"
    return json.dumps({"Layers": list(_layers(model, told)), "Bindings": bindings})


def _layer_names(model: onnx.ModelProto) -> Iterator[str]:
    for nodes in _fused(model):
        yield " + ".join(node.name or node.op_type for node in nodes)


def _fused(model: onnx.ModelProto) -> Iterator[list[NodeProto]]:
    """Yield the nodes of each layer: a convolution takes the ReLU that alone reads it with it."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _UNSEEN or node.output[0] in taken:
            continue
        after = readers.get(node.output[0], [])
        if node.op_type == "Conv" and len(after) == 1 and after[0].op_type == "Relu":
            taken.add(after[0].output[0])
            yield [node, after[0]]
        else:
            yield [node]


def _layers(model: onnx.ModelProto, told: bool) -> Iterator[dict[str, Any]]:
    makers = {name: node for node in model.graph.node for name in node.output}
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    types.update({value.name: value.type.tensor_type.elem_type for value in model.graph.input})
    types.update({tensor.name: tensor.data_type for tensor in model.graph.initializer})
    constants = {tensor.name for tensor in model.graph.initializer}
    for nodes in _fused(model):
        first = nodes[0]
        quantised = [name for name in first.input if name in makers and makers[name].op_type == "DequantizeLinear"]
        read = [name for name in first.input if name not in constants and _is_activation(name, makers, constants)]
        formats = ["Int8" if name in quantised else _word(types.get(name)) for name in read]
        layer: dict[str, Any] = {
            "Name": " + ".join(node.name for node in nodes),
            "LayerType": _WEIGHTED.get(first.op_type, "PointWise"),
            "Inputs": [
                {"Name": name, "Format/Datatype": _built(word) if told else "N/A due to dynamic shapes"}
                for name, word in zip(read, formats, strict=True)
            ],
            "Outputs": [{"Name": nodes[-1].output[0]}],
            "Metadata": "\x1e".join(f"[ONNX Layer: {node.name}]" for node in nodes),
        }
        if told and first.op_type in _WEIGHTED:
            kind = "Int8" if len(quantised) >= 2 else _word(types.get(first.input[1]))
            layer["Weights"] = {"Type": _built(kind), "Count": 1}
        yield layer


def _is_activation(name: str, makers: dict[str, NodeProto], constants: set[str]) -> bool:
    maker = makers.get(name)
    return maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] not in constants


def _word(kind: int | None) -> str:
    return _TYPES[kind][2] if kind in _TYPES else "Float"


def _built(word: str) -> str:
    floats = word in ("Int8", "Half") and os.environ.get("STANDIN_BUILDS") == "float"
    return "Float" if floats else word


# The calls from the libraries


def _fill(text: str, address: int, capacity: int) -> None:
    encoded = text.encode() + b"\0"
    if len(encoded) > capacity:
        raise ValueError("the text is longer than its place")
    ctypes.memmove(address, encoded, len(encoded))


def _describe(data: int, size: int, text: int, capacity: int) -> int:
    _fill("\n".join(describe(ctypes.string_at(data, size))) + "\n", text, capacity)
    return 1


def _is_timed() -> bool:
    """Say whether one of the callers holds the product's clock: how long a run takes here is no time of TensorRT's."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and "MACHINE_CLOCK" not in frame.f_globals:
        frame = frame.f_back
    return frame is not None


def _run(data: int, size: int, count: int, names: Any, addresses: Any, shapes: Any) -> int:
    if _is_timed():
        return -1
    places = {
        names[each].decode(): (addresses[each], tuple(shapes[each].sizes[: shapes[each].count]))
        for each in range(count)
    }
    try:
        run(ctypes.string_at(data, size), places)
    except Exception as error:  # noqa: BLE001  # must not cross the library's frames
        print("stand-in:", error, file=sys.stderr)
        return 0
    return 1


def _inspect(data: int, size: int, detailed: int, with_shapes: int, text: int, capacity: int) -> int:
    _fill(inspect(ctypes.string_at(data, size), bool(detailed), bool(with_shapes)), text, capacity)
    return 1


def _install() -> None:
    """Load the libraries where the bindings will find them, and tell them of the functions here."""
    loaded = [ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in sorted(_LIBRARIES.glob("*.so.*"))]
    sys.modules["cuda"] = None  # type: ignore[assignment] # a real CUDA runtime must not meet the stand-in's addresses
    import tensorrt_bindings as trt

    hooks = _Hooks(
        _DESCRIBE(_describe),
        _RUN(_run),
        _INSPECT(_inspect),
        int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
        int(trt.BuilderFlag.VERSION_COMPATIBLE),
        int(trt.ProfilingVerbosity.DETAILED),
    )
    nvinfer = next(library for library in loaded if "libnvinfer.so" in str(library._name))
    nvinfer.standin_set_hooks(ctypes.byref(hooks))
    trt.standin_keeps = (hooks, loaded)  # as long as the bindings live
    sys.modules[__name__] = trt


if __name__ == "tensorrt":
    _install()
