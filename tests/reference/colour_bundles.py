"""A colour task whose classes a swap of red and blue ruins without permuting them, and a network that solves it by
construction.

The classes are red, green and yellow: seen as blue, red is none of them. The network normalises, convolves (1 x 1, the
identity), averages, and finds the nearest of the three colours.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.bundle.reference import Reference, write_golden, write_reference
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model

CLASS_NAMES = ("red", "green", "yellow")
SIZE = 8
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_COLOURS = np.array([[0.85, 0.15, 0.2], [0.2, 0.8, 0.15], [0.8, 0.85, 0.1]])


def colour_images(labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.uint8]:
    """Return noisy uint8 images (n, 8, 8, 3) of the classes' colours, each of its own brightness."""
    random = np.random.default_rng(seed)
    brightness = random.uniform(0.6, 1.0, (len(labels), 1, 1, 1))
    noise = random.normal(0, 0.12, (len(labels), SIZE, SIZE, 3))
    tint = random.normal(0, 0.1, (len(labels), 1, 1, 3))
    pixels = brightness * _COLOURS[labels][:, None, None] + noise + tint
    images: NDArray[np.uint8] = np.clip(255 * pixels, 0, 255).astype(np.uint8)
    return images


def colour_model(path: Path, metadata: dict[str, str]) -> Path:
    """Write the network with input `image` uint8 (N, 8, 8, 3) and output `logits` float32 (N, 3)."""
    wanted = (0.8 * _COLOURS - MEAN) / STD
    weights = {
        "normalise.norm_scale": (1 / (255 * STD)).reshape(1, 3, 1, 1),
        "normalise.norm_shift": (-MEAN / STD).reshape(1, 3, 1, 1),
        "kernel": np.eye(3).reshape(3, 3, 1, 1),
        "towards": 2 * wanted.T,
        "offset": -np.sum(wanted**2, axis=1),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "normalise.norm_scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "normalise.norm_shift"], ["normalised"]),
        helper.make_node("Conv", ["normalised", "kernel"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["averages"]),
        helper.make_node("Flatten", ["averages"], ["means"]),
        helper.make_node("Gemm", ["means", "towards", "offset"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def colour_bundle(folder: Path, count: int = 240, *, says_range: bool = True) -> Bundle:
    """Make a bundle of the network, judged on its own answers; with `says_range` its metadata tell what the first layer
    reads."""
    labels = np.arange(count) % len(CLASS_NAMES)
    images = colour_images(labels)
    bundle = create_bundle(
        folder,
        subtask={"name": "colours", "class_names": list(CLASS_NAMES), "class_indices": [0, 1, 2]},
        preprocess=Preprocess(size=(SIZE, SIZE)),
        teacher={"name": "none"},
        student={"name": "none"},
        provenance={},
    )
    pixel_range = {"black": (-MEAN / STD).tolist(), "white": ((1 - MEAN) / STD).tolist()}
    metadata = {"edgedistill.pixel_range": json.dumps(pixel_range)} if says_range else {}
    bundle = bundle.with_file("model.fp32", colour_model(folder / "model.fp32.onnx", metadata))
    with open_model(folder / "model.fp32.onnx", precision="fp32", threads=1) as session:
        logits = logits_of(session, images)
    reference = Reference(
        logits=logits,
        labels=labels,
        digests=np.array([f"{row:064x}" for row in range(count)]),
        images=images,
        image_index=np.arange(count),
    )
    write_reference(folder / "reference.npz", reference)
    write_golden(folder / "golden.npz", images[:8], logits[:8])
    bundle = bundle.with_file("reference", folder / "reference.npz")
    return bundle.with_file("golden", folder / "golden.npz")
