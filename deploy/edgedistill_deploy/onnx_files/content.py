"""The metadata and weights of an ONNX file, and what it computes in, read without the onnx library."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.onnx_files.wire import MOST_AXES, Message, open_message

# TensorProto.DataType to numpy's name, and the field of the values where they are not raw.
_SPELT_OUT = "int32_data"  # one field for each number, a negative one as its complement to 2^64
_DTYPES: dict[int, tuple[str, str | None]] = {
    1: ("<f4", "float_data"),
    2: ("u1", _SPELT_OUT),
    3: ("i1", _SPELT_OUT),
    6: ("<i4", _SPELT_OUT),
    7: ("<i8", None),
    10: ("<f2", None),
    11: ("<f8", "double_data"),
}


_FLOAT16 = 10
_OWN = ("", "ai.onnx")  # the domain of ONNX's own operators
_QUANTISED = re.compile(r"QuantizeLinear|DequantizeLinear|DynamicQuantizeLinear|QLinear\w+|QGemm|\w+Integer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What a file computes in, by its own nodes: how many are quantised, and how many tensors and casts are float16."""

    quantised_count: int
    float16_count: int

    @property
    def mixes_half(self) -> bool:
        """Whether the file holds both quantised nodes and float16."""
        return self.quantised_count > 0 and self.float16_count > 0


def read_arithmetic(path: Path) -> Arithmetic:
    """Count what tells a precision, in inner graphs too. Raises EdgeDistillError when the file is no ONNX model."""
    quantised = halves = 0
    with open_message(path) as model:
        for _, message in model.walk():
            quantised += message.kind == "NodeProto" and _is_quantised(message)
            halves += message.kind == "TensorProto" and _FLOAT16 in message.numbers("data_type")
            halves += message.kind == "AttributeProto" and _casts_to_half(message)
    return Arithmetic(quantised_count=quantised, float16_count=halves)


def _is_quantised(node: Message) -> bool:
    return _QUANTISED.fullmatch("".join(node.texts("op_type"))) is not None


def _casts_to_half(attribute: Message) -> bool:
    return [*attribute.texts("name")] == ["to"] and _FLOAT16 in attribute.numbers("i")


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file. Raises EdgeDistillError when it is no ONNX model."""
    with open_message(path) as model:
        return dict(model.entries("metadata_props"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The version of ONNX's own operator set, and that of the file format."""

    opset: int
    ir_version: int


def read_versions(path: Path) -> Versions:
    """Return what a reader of an ONNX file must know; 0 where it does not say.

    Raises EdgeDistillError when it is no ONNX model.
    """
    with open_message(path) as model:
        sets = [each for place, each in model.walk() if place == ("opset_import",)]
        own = [[*each.numbers("version")][-1:] for each in sets if "".join([*each.texts("domain")][-1:]) in _OWN]
        ir_version = [*model.numbers("ir_version")][-1:]
    return Versions(opset=max((each[0] for each in own if each), default=0), ir_version=sum(ir_version))


def read_weights(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name and values of each initializer whose numbers numpy knows, in the order of the file.

    Raises EdgeDistillError when the file is no ONNX model or a tensor holds less than its shape says.
    """
    with open_message(path) as model:
        for place, message in model.walk():
            if place == ("graph", "initializer"):
                name, flat = "".join([*message.texts("name")][-1:]), _read_values(message)
                shape = _read_shape(message, name)
                if flat is None:
                    continue
                if math.prod(shape) != flat.size:
                    raise EdgeDistillError(
                        f"{path} is damaged: the weight {name} holds {flat.size} numbers, but its shape {shape} needs"
                        f" {math.prod(shape)}."
                    )
                yield name, flat.reshape(shape)


def _read_shape(tensor: Message, name: str) -> tuple[int, ...]:
    shape = tuple(islice(tensor.numbers("dims"), MOST_AXES + 1))
    if len(shape) > MOST_AXES:
        raise ValueError(f"the weight {name[:60]!r} has {len(shape)} axes")
    return shape


def _read_values(tensor: Message) -> NDArray[Any] | None:
    """Return a tensor's values in one row; None for kinds outside `_DTYPES` and for values in another file."""
    kind = ([0, *tensor.numbers("data_type")])[-1]
    if kind not in _DTYPES:
        return None
    name, field = _DTYPES[kind]
    dtype = np.dtype(name)
    raw = [*tensor.contents("raw_data")][-1:]
    if field == _SPELT_OUT and not raw:
        spelt = np.array([*tensor.numbers(field)], dtype=np.uint64)
        return spelt.astype(dtype) if spelt.size else None
    packed = raw or ([*tensor.contents(field)][-1:] if field else [])
    return np.frombuffer(packed[0][: len(packed[0]) // dtype.itemsize * dtype.itemsize], dtype) if packed else None
