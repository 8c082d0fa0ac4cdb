"""What one image costs a model: multiply-adds and the largest value, read from the file without running it."""

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edgedistill_deploy.onnx_files._shapes import (
    Ints,
    Shape,
    Step,
    count_multiply_adds,
    find_numbers,
    find_shapes,
    is_sound,
)
from edgedistill_deploy.onnx_files.wire import MOST_AXES, Message, open_message

_MOST_NUMBERS = 64  # in a row that describes a shape
_INT64 = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The multiply-adds of convolutions and products for one image, and how many numbers the largest value holds.

    Both count only what the shapes in the file tell: they are no less than 0 and no more than the truth.
    """

    multiply_adds: int
    largest_value: int


def read_cost(path: Path) -> Cost:
    """Read the cost of a model for one image. Raises EdgeDistillError when the file is no ONNX model.

    Loops and branches are not looked into; neither is what follows from a size that the file leaves free, save that of
    a batch.
    """
    multiply_adds, largest = 0, 0
    with open_message(path) as model:
        graph = [message for place, message in model.walk() if len(place) == 2 and place[0] == "graph"]
        known = _Known()
        for message in graph:
            known.enter(message)
        for message in graph:
            if message.kind != "NodeProto":
                continue
            step, outputs = known.step_of(message)
            shapes = known.learn(step, outputs)
            multiply_adds += count_multiply_adds(step, shapes[0] if shapes else None)
            largest = max([largest, *(math.prod(shape) for shape in shapes if shape is not None)])
    return Cost(multiply_adds=multiply_adds, largest_value=largest)


class _Known:
    """What is known of the graph's values so far, by name."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape | None] = {}
        self._numbers: dict[str, Ints | None] = {}

    def enter(self, message: Message) -> None:
        """Take the shape of an input or a weight."""
        name = "".join([*message.texts("name")][-1:]) if message.kind != "NodeProto" else ""
        if message.kind == "ValueInfoProto":
            self._shapes.setdefault(name, _shape_of_input(message))
        elif message.kind == "TensorProto":
            self._shapes[name] = _shape_of(message)
            self._numbers[name] = _whole_numbers(message)

    def step_of(self, node: Message) -> tuple[Step, tuple[str, ...]]:
        """Return a node with what is known of it, and the names of its outputs."""
        inputs, outputs = tuple(node.texts("input")), tuple(node.texts("output"))
        attributes: dict[str, Ints] = {}
        texts: dict[str, str] = {}
        for place, message in node.walk():
            if place == ("attribute",):
                name = "".join([*message.texts("name")][-1:])
                if numbers := tuple(
                    map(_signed, islice((*message.numbers("i"), *message.numbers("ints")), _MOST_NUMBERS))
                ):
                    attributes[name] = numbers
                texts[name] = b"".join([*message.contents("s")][-1:]).decode(errors="replace")
            elif place == ("attribute", "t") and outputs:
                self._shapes[outputs[0]] = _shape_of(message)
                self._numbers[outputs[0]] = _whole_numbers(message)
        step = Step(
            operator="".join(node.texts("op_type")),
            attributes=attributes,
            texts=texts,
            shapes=tuple(self._shapes.get(name) for name in inputs),
            numbers=tuple(self._numbers.get(name) for name in inputs),
            given=tuple(map(bool, inputs)),
            output_count=len(outputs),
        )
        return step, outputs

    def learn(self, step: Step, outputs: tuple[str, ...]) -> tuple[Shape | None, ...]:
        """Note the shapes of a node's outputs, and the numbers of its first, and return the shapes."""
        if step.operator == "Constant" and outputs:
            for name, shape in (("value_int", ()), ("value_ints", (len(step.attributes.get("value_ints", ())),))):
                if name in step.attributes:
                    self._shapes[outputs[0]], self._numbers[outputs[0]] = shape, step.attributes[name]
            return (self._shapes.get(outputs[0]),)
        shapes = find_shapes(step)
        self._shapes.update(zip(outputs, shapes, strict=False))
        if outputs:
            numbers = find_numbers(step)
            self._numbers[outputs[0]] = numbers if numbers is not None and len(numbers) <= _MOST_NUMBERS else None
        return shapes


def _shape_of(tensor: Message) -> Shape | None:
    dims = tuple(islice(tensor.numbers("dims"), MOST_AXES + 1))
    return dims if is_sound(dims) else None


def _shape_of_input(value: Message) -> Shape | None:
    """Return the shape of an input for one image: a free first size counts as 1; other free sizes are not known."""
    sizes = [
        [*message.numbers("dim_value")][-1:]
        for place, message in value.walk()
        if place == ("type", "tensor_type", "shape", "dim")
    ]
    if not sizes or any(not size for size in sizes[1:]):
        return None
    shape = (sizes[0][0] if sizes[0] else 1, *(size[0] for size in sizes[1:]))
    return shape if is_sound(shape) else None


def _whole_numbers(tensor: Message) -> Ints | None:
    """Return the values of a short tensor of int64; None for others."""
    dims = tuple(islice(tensor.numbers("dims"), MOST_AXES))
    if [*tensor.numbers("data_type")][-1:] != [_INT64] or not 0 < math.prod(dims) <= _MOST_NUMBERS:
        return None
    raw = [*tensor.contents("raw_data")][-1:]
    if raw:
        return tuple(np.frombuffer(raw[0][: len(raw[0]) // 8 * 8], "<i8").tolist())
    return tuple(map(_signed, islice(tensor.numbers("int64_data"), _MOST_NUMBERS)))


def _signed(value: int) -> int:
    """Return the number that is stored as its complement to 2^64."""
    return value - (1 << 64) if value >= 1 << 63 else value
