"""The metadata and weights of an ONNX file, read without the onnx library."""

import math
from collections.abc import Iterator
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


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file. Raises EdgeDistillError when it is no ONNX model."""
    with open_message(path) as model:
        return dict(model.entries("metadata_props"))


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
