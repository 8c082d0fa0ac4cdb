"""Damage done to files as a seeded Random decides: to bytes, and to JSON, arrays, ONNX and text by their structure."""

import io
import json
import struct
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

# What replaces a value of a JSON file: of every wrong kind, and of the right kind at its limits.
HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    -(2**63),
    10**30,
    1e308,
    5e-324,
    "",
    "\0",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows",
    "\ud800",
    "\u202e<script>",
    "x" * 5000,
    [],
    {},
    [[]],
    [None] * 50,
    {"": {"": []}},
    {"path": "model.fp32.onnx"},
)
_BYTES = (0, 1, 0x7F, 0x80, 0xFF)
_NUMBERS = (0, 1, -1, 2, 7, 127, 255, 2**31 - 1, 2**31, 2**62, -(2**31), -(2**62))
_FLOATS = (0.0, -0.0, 1.0, -1e30, 1e30, 3.4e38, 1e-40, float("nan"), float("inf"), float("-inf"))
_OPERATORS = ("Identity", "Relu", "Softmax", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Loop", "If", "Einsum", "")
# Lines that TOML and label files do not expect, in text that the writer can still encode.
_STRANGE_TEXT = (
    "\0",
    "\ufeff",
    "\x1b[2J",
    "\u202e",
    "\r",
    "\u2028",
    "=" * 9,
    "[[",
    "'''",
    "x" * 20_000,
    "\U0001f600",
    "",
)
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037")


def changed_bytes(content: bytes, random: Random) -> bytes:
    """Return the bytes cut short, with some overwritten, or with a piece of them repeated."""
    place = random.randint(0, max(0, len(content) - 1))
    kind = random.choice(("cut", "overwrite", "repeat"))
    if kind == "cut":
        return content[:place]
    if kind == "repeat":
        size, times = random.randint(1, 64), random.randint(2, 4)
        return content[:place] + content[place : place + size] * times + content[place:]
    changed = bytearray(content)
    for _ in range(random.randint(1, 8) if content else 0):
        changed[random.randint(0, len(content) - 1)] = random.choice((*_BYTES, random.randint(0, 255)))
    return bytes(changed)


def changed_json(record: Any, random: Random) -> Any:
    """Return the JSON value with one value in it replaced or left out."""
    place = random.choice(list(_places(record)))
    if not place:
        return random.choice(HOSTILE_VALUES)
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    if random.randint(0, 4) == 0:
        del inner[place[-1]]
    else:
        inner[place[-1]] = random.choice(HOSTILE_VALUES)
    return record


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*before, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:3]):
            yield from _places(inner, (*before, index))


def changed_npz(content: bytes, random: Random) -> bytes:
    """Return an .npz archive with one array missing, reshaped, of another type, or with other values."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = random.choice(sorted(arrays))
    if random.randint(0, 6) == 0:
        del arrays[name]
    else:
        arrays[name] = _changed_array(arrays[name], random)
    stream = io.BytesIO()
    random.choice((np.savez, np.savez_compressed))(stream, **arrays)
    return stream.getvalue()


def _changed_array(array: NDArray[Any], random: Random) -> NDArray[Any]:
    kind = random.choice(("values", "dtype", "shape", "length"))
    if kind == "dtype":
        types = ("u1", "i1", "<i8", "<u8", "<f2", "<f4", "<f8", "?", "<c8", "<M8[s]", "S4", "<U4")
        return (
            np.resize(array, array.shape).astype("U") if random.random() < 0.1 else _cast(array, random.choice(types))
        )
    if kind == "shape":
        return random.choice((array[None], array[..., None], array.ravel(), array.T))
    if kind == "length":
        return np.resize(array, (random.choice((0, 1, len(array) + 1 if array.ndim else 1)), *array.shape[1:]))
    changed = array.copy()
    for _ in range(random.randint(1, 8) if array.size and array.dtype.kind in "iufb" else 0):
        with np.errstate(all="ignore"):
            value = np.array(random.choice(_FLOATS if array.dtype.kind == "f" else (0, 1)), dtype=array.dtype)
        if array.dtype.kind in "iu":
            limits = np.iinfo(array.dtype)
            value = np.array(random.choice((limits.min, limits.max, 0)), dtype=array.dtype)
        changed.reshape(-1)[random.randrange(changed.size)] = value
    return changed


def _cast(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(all="ignore"):
        try:
            return array.astype(dtype)
        except (ValueError, TypeError):
            return np.zeros(array.shape, dtype)


def changed_onnx(content: bytes, random: Random) -> bytes:
    """Return an ONNX model with its metadata, shapes, operators, edges, attributes or weights changed; it may be no
    sound model any more."""
    model = onnx.load_from_string(content)
    for _ in range(random.randint(1, 3)):
        random.choice((_change_node, _change_attribute, _change_weight, _change_interface, _change_rest))(model, random)
    written: bytes = model.SerializeToString()
    return written


def _change_node(model: onnx.ModelProto, random: Random) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    node, values = random.choice(nodes), [name for each in nodes for name in (*each.input, *each.output)] or [""]
    kind = random.choice(("operator", "input", "output", "delete", "repeat", "name"))
    if kind == "operator":
        node.op_type = random.choice((*_OPERATORS, random.choice(nodes).op_type))
    elif kind == "input" and node.input:
        node.input[random.randrange(len(node.input))] = random.choice((*values, "", "nowhere"))
    elif kind == "output" and node.output:
        node.output[random.randrange(len(node.output))] = random.choice((*values, "", "elsewhere"))
    elif kind == "delete":
        nodes.remove(node)
    elif kind == "repeat":
        nodes.append(node)
    else:
        node.name = random.choice(("", "x" * 5000, "\u202e", random.choice(nodes).name))


def _change_attribute(model: onnx.ModelProto, random: Random) -> None:
    attributes = [each for node in model.graph.node for each in node.attribute]
    if not attributes:
        return
    attribute = random.choice(attributes)
    attribute.i, attribute.f = random.choice(_NUMBERS), random.choice(_FLOATS)
    for place in range(len(attribute.ints)):
        attribute.ints[place] = random.choice((attribute.ints[place], random.choice(_NUMBERS)))
    if random.randint(0, 4) == 0:
        attribute.type = random.choice(list(onnx.AttributeProto.AttributeType.values()))


def _change_weight(model: onnx.ModelProto, random: Random) -> None:
    if not model.graph.initializer:
        return
    weight = random.choice(model.graph.initializer)
    kind = random.choice(("dims", "type", "raw", "axis", "elsewhere"))
    if kind == "dims" and weight.dims:
        weight.dims[random.randrange(len(weight.dims))] = random.choice(_NUMBERS)
    elif kind == "type":
        weight.data_type = random.randint(0, 25)
    elif kind == "raw":
        weight.raw_data = changed_bytes(weight.raw_data, random)
    elif kind == "axis":
        weight.dims.append(random.choice(_NUMBERS))
    elif kind == "elsewhere":
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=random.choice(("../secret", "golden.npz", "/etc/passwd", "")))


def _change_interface(model: onnx.ModelProto, random: Random) -> None:
    values = [*model.graph.input, *model.graph.output]
    if not values:
        return
    value, dims = random.choice(values), random.choice(values).type.tensor_type.shape.dim
    kind = random.choice(("name", "type", "dim", "axis"))
    if kind == "name":
        value.name = random.choice(("image", "logits", "", "other", value.name))
    elif kind == "type":
        value.type.tensor_type.elem_type = random.randint(0, 20)
    elif kind == "dim" and dims:
        random.choice(dims).dim_value = random.choice(_NUMBERS)
    elif dims:
        dims.add().dim_value = 1


def _change_rest(model: onnx.ModelProto, random: Random) -> None:
    kind = random.choice(("opset", "ir", "metadata", "quoted"))
    if kind == "opset" and model.opset_import:
        model.opset_import[0].version = random.choice(_NUMBERS)
    elif kind == "ir":
        model.ir_version = random.choice(_NUMBERS)
    elif kind == "metadata" and model.metadata_props:
        random.choice(model.metadata_props).value = random.choice(("", "[]", "[null]", "{", "x" * 9999, "\u202e"))
    elif model.metadata_props:
        entry = random.choice(model.metadata_props)
        try:
            entry.value = json.dumps(changed_json(json.loads(entry.value), random))
        except ValueError:
            entry.value = entry.value[1:]


def changed_safetensors(content: bytes, random: Random) -> bytes:
    """Return a safetensors file whose header or its length is changed."""
    size = struct.unpack_from("<Q", content)[0]
    header, rest = json.loads(content[8 : 8 + size]), content[8 + size :]
    text = json.dumps(changed_json(header, random)).encode()
    length = random.choice((len(text),) * 4 + (0, len(text) + 1, 2**40, 2**64 - 1))
    return struct.pack("<Q", length) + text + rest


def changed_text(text: str, random: Random) -> bytes:
    """Return the bytes of a text with lines lost, repeated, joined or strange, in a random encoding."""
    lines = text.splitlines()
    for _ in range(random.randint(1, 4)):
        place = random.randint(0, len(lines))
        kind = random.choice(("lost", "repeated", "strange", "inside", "long", "blank"))
        if kind == "lost":
            del lines[place : place + random.randint(1, 3)]
        elif kind == "repeated":
            lines[place:place] = lines[place : place + 2] * random.randint(1, 3)
        elif kind == "strange":
            lines.insert(place, random.choice(_STRANGE_TEXT))
        elif kind == "inside" and place < len(lines):
            cut = random.randint(0, len(lines[place]))
            lines[place] = lines[place][:cut] + random.choice(_STRANGE_TEXT) + lines[place][cut:]
        elif kind == "long":
            lines.insert(place, "y" * random.choice((300, 70_000, 2_000_000)))
        else:
            lines[place:place] = ["", "   "]
    joined = random.choice(("\n", "\n", "\r\n", "\r")).join(lines)
    encoding = random.choice(("utf-8",) * 6 + _ENCODINGS)
    content = joined.encode(encoding, "replace")
    return changed_bytes(content, random) if random.randint(0, 4) == 0 else content
