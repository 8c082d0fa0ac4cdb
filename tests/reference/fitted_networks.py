"""A small residual network that really classifies, trained here in seconds and written as ONNX node by node.

The task is made here too: filled shapes of four kinds, drawn with Pillow at random places, sizes and colours.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

SIZE = 24
CLASS_NAMES = ("disc", "square", "triangle", "cross")
METADATA = {"edgedistill.class_names": '["disc", "square", "triangle", "cross"]', "edgedistill.version": "0.0.1"}
# name: (output channels, input channels, kernel side, stride)
_CONVS = {
    "stem": (12, 3, 3, 1),
    "inner_1": (12, 12, 3, 1),
    "inner_2": (12, 12, 3, 1),
    "longer_1": (24, 12, 3, 2),
    "longer_2": (24, 24, 3, 1),
    "shortcut": (24, 12, 1, 2),
    "last": (32, 24, 3, 2),
}
_PIXEL_SCALE, _PIXEL_SHIFT = 1 / (255 * 0.3), -1.2

Weights = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def shape_images(per_class: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images uint8 (4 * per_class, 24, 24, 3) and labels, classes in turn; another seed gives other images."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(CLASS_NAMES)), per_class)
    return np.stack([_shape(CLASS_NAMES[label], random) for label in labels]), labels


def _shape(kind: str, random: np.random.Generator) -> NDArray[np.uint8]:
    paper, ink = (tuple(int(value) for value in random.integers(*span, 3)) for span in ((0, 90), (140, 256)))
    image = Image.new("RGB", (SIZE, SIZE), paper)
    draw = ImageDraw.Draw(image)
    half = int(random.integers(4, 9))
    x, y = (int(value) for value in random.integers(half + 1, SIZE - half - 1, 2))
    box = (x - half, y - half, x + half, y + half)
    if kind == "disc":
        draw.ellipse(box, fill=ink)
    elif kind == "square":
        draw.rectangle(box, fill=ink)
    elif kind == "triangle":
        draw.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=ink)
    else:
        draw.rectangle((x - 2, box[1], x + 2, box[3]), fill=ink)
        draw.rectangle((box[0], y - 2, box[2], y + 2), fill=ink)
    noise = random.normal(0, 40, (SIZE, SIZE, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


@functools.cache
def fitted_weights(steps: int = 100) -> Weights:
    """Return {layer: (weight, bias)} of a network trained on 1200 images, the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    parameters = {name: _fresh(shape[:3], generator) for name, shape in _CONVS.items()}
    parameters["head"] = _fresh((len(CLASS_NAMES), _CONVS["last"][0], 1), generator)
    pixels, targets = (torch.from_numpy(array) for array in shape_images(300, seed=12345))
    images = pixels.permute(0, 3, 1, 2).float() * _PIXEL_SCALE + _PIXEL_SHIFT
    optimiser = torch.optim.Adam([tensor for pair in parameters.values() for tensor in pair], lr=4e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,), generator=generator)
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(_forward(images[rows], parameters), targets[rows]))
        optimiser.step()
    return {name: (weight.detach().numpy(), bias.detach().numpy()) for name, (weight, bias) in parameters.items()}


def _fresh(shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    made, given, side = shape
    weight = torch.randn(made, given, side, side, generator=generator) * (2 / (given * side * side)) ** 0.5
    return weight.requires_grad_(), torch.zeros(made).requires_grad_()


def _forward(images: Tensor, parameters: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    def conv(name: str, value: Tensor) -> Tensor:
        side, stride = _CONVS[name][2:]
        return F.conv2d(value, *parameters[name], stride=stride, padding=side // 2)

    stem = F.relu(conv("stem", images))
    block = F.relu(conv("inner_2", F.relu(conv("inner_1", stem))) + stem)
    block = F.relu(conv("longer_2", F.relu(conv("longer_1", block))) + conv("shortcut", block))
    pooled = F.relu(conv("last", block)).mean(dim=(2, 3), keepdim=True)
    return F.conv2d(pooled, *parameters["head"]).flatten(1)


def write_network(path: Path, *, activation: str = "Relu", weights: Weights | None = None) -> Path:
    """Write a classifier of the shapes: `image` uint8 (N, 24, 24, 3) to `logits` float32 (N, 4).

    The normalisation is that of an exported student. One residual block keeps its width and the other changes it, so
    one shortcut is the identity and one a convolution.
    """
    graph = _Graph(weights or fitted_weights(), activation)
    pixels = graph.add("Cast", graph.add("Transpose", "image", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    scaled = graph.add("Mul", pixels, graph.constant(np.full((1, 3, 1, 1), _PIXEL_SCALE, np.float32)))
    images = graph.add("Add", scaled, graph.constant(np.full((1, 3, 1, 1), _PIXEL_SHIFT, np.float32)))
    stem = graph.rectify(graph.conv("stem", images))
    block = graph.add("Add", graph.conv("inner_2", graph.rectify(graph.conv("inner_1", stem))), stem)
    block = graph.rectify(block)
    longer = graph.conv("longer_2", graph.rectify(graph.conv("longer_1", block)))
    block = graph.rectify(graph.add("Add", longer, graph.conv("shortcut", block)))
    pooled = graph.add("GlobalAveragePool", graph.rectify(graph.conv("last", block)))
    weight, bias = graph.fitted["head"]
    names = [graph.constant(array) for array in (weight[:, :, 0, 0], bias)]
    flat = graph.add("Flatten", pooled)
    graph.nodes.append(helper.make_node("Gemm", [flat, *names], ["logits"], name="head", transB=1))
    onnx.save(graph.model(), path)
    return path


@dataclass
class _Graph:
    """Nodes and constants under construction; every method returns the name of what it gives."""

    fitted: Weights
    activation: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        value = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [value], name=value, **attributes))
        return value

    def constant(self, array: NDArray[np.float32]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def conv(self, name: str, value: str) -> str:
        side, stride = _CONVS[name][2:]
        weights = [self.constant(array) for array in self.fitted[name]]
        window = {"kernel_shape": [side] * 2, "strides": [stride] * 2, "pads": [side // 2] * 4}
        return self.add("Conv", value, *weights, name=name, **window)

    def rectify(self, value: str) -> str:
        if self.activation == "Relu":
            return self.add("Relu", value)
        return self.add("Clip", value, *[self.constant(np.array(bound, np.float32)) for bound in (0, 6)])

    def model(self) -> onnx.ModelProto:
        given = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
        made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASS_NAMES)])
        whole = helper.make_graph(self.nodes, "fitted", [given], [made], self.constants)
        model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        helper.set_model_props(model, METADATA)
        onnx.checker.check_model(model, full_check=True)
        return model
