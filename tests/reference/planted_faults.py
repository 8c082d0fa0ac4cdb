"""Faults planted into the models of a real bundle, each of a kind that has been shipped somewhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import model_role

Plant = Callable[[onnx.ModelProto], None]


def planted(bundle: Bundle, plant: Plant, precision: str = "fp32") -> Bundle:
    """Change the model of a precision and register it again, as if it had been exported like that."""
    role = model_role(precision)
    path = bundle.file(role)
    model = onnx.load(path)
    plant(model)
    # A new name: whoever looks at the old file still finds the old one.
    changed = path.with_name(f"changed-{path.name}")
    onnx.save(model, changed)
    return bundle.with_file(role, changed)


def constant(model: onnx.ModelProto, name: str, value: NDArray[np.generic]) -> str:
    """Add an initializer and return its name."""
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """Return the weight of this name, or what an INT8 file has of it, repeated for a row of pixels."""
    found: onnx.TensorProto = next(each for each in model.graph.initializer if each.name in {name, f"{name}_row"})
    return found


def replace_weight(model: onnx.ModelProto, name: str, change: Callable[[NDArray[np.float32]], object]) -> None:
    """Change a copy of a weight in place and put it back."""
    tensor = initializer(model, name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def insert_after(model: onnx.ModelProto, value: str, nodes: list[onnx.NodeProto]) -> None:
    """Let nodes that read VALUE_before and end in VALUE stand behind whatever makes a value."""
    place, maker = next((i, node) for i, node in enumerate(model.graph.node) if value in node.output)
    maker.output[:] = [f"{value}_before" if name == value else name for name in maker.output]
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + 1 + offset, node)


def normalised_value(model: onnx.ModelProto) -> str:
    """Return the value that normalisation ends in."""
    shift = initializer(model, "normalise.norm_shift").name
    adding = next(node for node in model.graph.node if shift in node.input)
    return str(adding.output[0])


def normalise_twice(model: onnx.ModelProto) -> None:
    scale, shift = (numpy_helper.to_array(initializer(model, f"normalise.norm_{each}")) for each in ("scale", "shift"))
    value = normalised_value(model)
    factor, added = constant(model, "again", scale * np.float32(255)), constant(model, "again_shift", shift)
    insert_after(
        model,
        value,
        [
            helper.make_node("Mul", [f"{value}_before", factor], ["twice"]),
            helper.make_node("Add", ["twice", added], [value]),
        ],
    )


def forget_normalisation(model: onnx.ModelProto) -> None:
    replace_weight(model, "normalise.norm_scale", lambda values: values.fill(1 / 255))
    replace_weight(model, "normalise.norm_shift", lambda values: values.fill(0))


def forget_to_scale(model: onnx.ModelProto) -> None:
    replace_weight(model, "normalise.norm_scale", lambda values: np.multiply(values, 255, out=values))


def scale_twice(model: onnx.ModelProto) -> None:
    replace_weight(model, "normalise.norm_scale", lambda values: np.divide(values, 255, out=values))


def normalise_otherwise(model: onnx.ModelProto) -> None:
    replace_weight(model, "normalise.norm_shift", lambda values: np.add(values, 1.5, out=values))


def invert(model: onnx.ModelProto) -> None:
    scale, shift = "normalise.norm_scale", "normalise.norm_shift"
    factor = numpy_helper.to_array(initializer(model, scale))
    replace_weight(model, shift, lambda values: np.add(values, 255 * factor, out=values))
    replace_weight(model, scale, lambda values: np.negative(values, out=values))


def pixels_value(model: onnx.ModelProto) -> str:
    """Return the value in which the pixels are numbers of 0 to 255."""
    return str(next(node for node in model.graph.node if node.op_type == "Cast").output[0])


def bend(gamma: float) -> Plant:
    """Apply a gamma to the pixels."""

    def plant(model: onnx.ModelProto) -> None:
        value = pixels_value(model)
        most, power = (constant(model, f"bend_{each}", np.array(each, np.float32)) for each in (255, gamma))
        nodes = [
            helper.make_node("Div", [f"{value}_before", most], ["bend_share"]),
            helper.make_node("Pow", ["bend_share", power], ["bend_power"]),
            helper.make_node("Mul", ["bend_power", most], [value]),
        ]
        insert_after(model, value, nodes)

    return plant


def roll(steps: int, side: int) -> Plant:
    """Shift the image around its edge along its third axis."""

    def plant(model: onnx.ModelProto) -> None:
        value, name = pixels_value(model), constant(model, "rolled", np.roll(np.arange(side), steps))
        insert_after(model, value, [helper.make_node("Gather", [f"{value}_before", name], [value], axis=2)])

    return plant


def raise_class(index: int, amount: float, class_count: int) -> Plant:
    """Add to the logit of one class."""

    def plant(model: onnx.ModelProto) -> None:
        added = constant(model, "raised", np.eye(class_count, dtype=np.float32)[index] * np.float32(amount))
        insert_after(model, "logits", [helper.make_node("Add", ["logits_before", added], ["logits"])])

    return plant


def take_softmax(model: onnx.ModelProto) -> None:
    insert_after(model, "logits", [helper.make_node("Softmax", ["logits_before"], ["logits"], axis=1)])


def change_tensors(ending: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Plant:
    """Change every initializer whose name ends so."""

    def plant(model: onnx.ModelProto) -> None:
        for each in model.graph.initializer:
            if each.name.endswith(ending):
                values = numpy_helper.to_array(each)
                changed = np.ascontiguousarray(change(values)).astype(values.dtype)
                each.CopyFrom(numpy_helper.from_array(changed, each.name))

    return plant


def swap_channels(model: onnx.ModelProto) -> None:
    order = constant(model, "bgr", np.array([2, 1, 0]))
    for node in model.graph.node:
        node.input[:] = ["image_bgr" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Gather", ["image", order], ["image_bgr"], axis=3))


def permute_classes(order: list[int]) -> Plant:
    """Make logit i that of class order[i]."""

    def plant(model: onnx.ModelProto) -> None:
        name = constant(model, "class_order", np.array(order))
        insert_after(model, "logits", [helper.make_node("Gather", ["logits_before", name], ["logits"], axis=1)])

    return plant


def confuse_equal_rows(model: onnx.ModelProto) -> None:
    """Lower the logits of every row that equals the one before it."""
    names = {"all_but_last": (np.array([0]), np.array([-1])), "all_but_first": (np.array([1]), np.array([2**31]))}
    axis, nodes = constant(model, "rows_axis", np.array([0])), []
    for name, (start, end) in names.items():
        ends = [constant(model, f"{name}_{which}", place) for which, place in (("start", start), ("end", end))]
        nodes.append(helper.make_node("Slice", ["logits_before", *ends, axis], [name]))
    wide = constant(model, "one_row_more", np.array([1, 0, 0, 0]))
    zero, large = (constant(model, "nil", np.array(0, np.float32)), constant(model, "large", np.array(1e3, np.float32)))
    classes = constant(model, "classes_axis", np.array([1]))
    nodes += [
        helper.make_node("Sub", ["all_but_first", "all_but_last"], ["change"]),
        helper.make_node("Abs", ["change"], ["change_size"]),
        helper.make_node("ReduceMax", ["change_size", classes], ["largest_change"], keepdims=1),
        helper.make_node("Equal", ["largest_change", zero], ["is_equal"]),
        helper.make_node("Cast", ["is_equal"], ["equal_rows"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Pad", ["equal_rows", wide, zero], ["equal_to_previous"]),
        helper.make_node("Mul", ["equal_to_previous", large], ["penalty"]),
        helper.make_node("Sub", ["logits_before", "penalty"], ["logits"]),
    ]
    insert_after(model, "logits", nodes)


def use_unknown_operator(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Rectify"


def claim_future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def write_noise(path: Path, class_names: tuple[str, ...], count: int, size: int, seed: int = 0) -> Path:
    """Write images of noise as a sensor gives it in the dark, `count` for each class."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(class_names)), count)
    images = random.integers(0, 16, (len(labels), size, size, 3), dtype=np.uint8)
    np.savez_compressed(path, images=images, labels=labels, class_names=np.array(class_names))
    return path
