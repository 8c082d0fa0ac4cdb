"""Every model that ships with the onnx package's tests, with the inputs that come along, and a way to run them."""

import copy
import functools
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
_LIGHT_CHANNELS_AND_SIDE = (1, 3, 224, 224)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and inputs for it, by name."""

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Any]


def file_cases() -> Iterator[Case]:
    """Yield the models that lie in the package as files."""
    for path in sorted(_DATA.glob("*/*/model.onnx")):
        model = onnx.load(path)
        wanted = _wanted_inputs(model)
        parts = [
            _read_value(path.parent / "test_data_set_0" / f"input_{place}.pb", each)
            for place, each in enumerate(wanted)
        ]
        feeds = {each.name: part for each, part in zip(wanted, parts, strict=True)}
        yield Case(name=f"{path.parents[1].name}/{path.parent.name}", model=model, feeds=feeds)
    for path in sorted((_DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        (image,) = _wanted_inputs(model)
        value = np.random.default_rng(0).normal(size=_LIGHT_CHANNELS_AND_SIDE).astype(np.float32)
        yield Case(name=f"light/{path.stem}", model=model, feeds={image.name: value})


@functools.cache
def node_cases() -> tuple[Case, ...]:
    """Return the models of single operators, which the package makes when asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    return tuple(
        Case(
            name=f"node/{each.name}",
            model=each.model,
            feeds={
                value.name: _as_array(given)
                for value, given in zip(_wanted_inputs(each.model), each.data_sets[0][0], strict=False)
            },
        )
        for each in cases
        if each.model is not None and each.data_sets
    )


def sample(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Return that many of the cases, the same for the same seed."""
    return random.Random(seed).sample(list(cases), count)


def run_case(model: onnx.ModelProto, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
    """Return values of the main graph by name, its inputs among them, or all outputs; computed by ONNX Runtime."""
    names = [each.name for each in model.graph.output] if names is None else names
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    present = {each.name for each in model.graph.output} | set(feeds)
    known = {each.name: each for each in model.graph.value_info}
    opened.graph.output.extend(known[name] for name in names if name not in present)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # BatchNormalization in training mode writes its statistics into what it is given.
    computed = [name for name in names if name not in feeds]
    values = dict(zip(computed, session.run(computed, copy.deepcopy(dict(feeds))) if computed else [], strict=True))
    return [feeds[name] if name in feeds else values[name] for name in names]


def _wanted_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    given = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in given]


def _as_array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _read_value(path: Path, value: onnx.ValueInfoProto) -> Any:
    kind = value.type.WhichOneof("value")
    message: Any = {
        "tensor_type": onnx.TensorProto,
        "sequence_type": onnx.SequenceProto,
        "optional_type": onnx.OptionalProto,
    }[str(kind)]()
    message.ParseFromString(path.read_bytes())
    if kind == "tensor_type":
        array: NDArray[Any] = numpy_helper.to_array(message)
        return array
    return numpy_helper.to_list(message) if kind == "sequence_type" else numpy_helper.to_optional(message)
