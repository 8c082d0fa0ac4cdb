"""Bundles with any classes, whose model answers to order: the red of an image is the class that the model sees."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.bundle.reference import Reference, write_golden, write_reference
from edgedistill_deploy.evaluation.figures import Answers
from edgedistill_deploy.images.preprocess import Preprocess

ANIMALS = ("antelope", "buffalo", "cheetah", "elephant", "giraffe", "hippo", "lion", "zebra")
LION, ZEBRA = ANIMALS.index("lion"), ANIMALS.index("zebra")
SIZE = 4

Rows = Sequence[tuple[int, int, int]]  # what the model answers, what the teacher answers, the label or -1


def animals(lions: Rows, others: int = 40) -> list[tuple[int, int, int]]:
    """Seven animals that the model always knows and the teacher at 87.5 %, then the lions."""
    rows = [
        (animal, animal if place % 8 else (animal + 1) % 6, animal)
        for animal in range(len(ANIMALS))
        if animal != LION
        for place in range(others)
    ]
    return [*rows, *lions]


def dead_lions(count: int = 40, teacher_right: int = 15) -> list[tuple[int, int, int]]:
    """Lions of which the model takes every one for a zebra, and the teacher some for a cheetah."""
    return [(ZEBRA, LION if place < teacher_right else 2, LION) for place in range(count)]


def answers_of(rows: Rows, count: int) -> Answers:
    """Return the answers of both models to `rows` as logits of `count` classes."""
    predicted, teacher, labels = (np.asarray(column, dtype=np.int64) for column in zip(*rows, strict=True))
    hot = 5 * np.eye(count, dtype=np.float32)
    return Answers(teacher=hot[teacher], candidate=hot[predicted], labels=labels)


def class_bundle(folder: Path, rows: Rows, names: Sequence[str] = ANIMALS) -> Bundle:
    """Make a bundle whose fp32 model and recorded teacher answer as `rows` say."""
    images = _images([row[0] for row in rows])
    asked = answers_of(rows, len(names))
    bundle = create_bundle(
        folder,
        subtask={"name": "animals", "class_names": list(names), "class_indices": list(range(len(names)))},
        preprocess=Preprocess(size=(SIZE, SIZE)),
        teacher={"name": "none", "parameters": 1000},
        student={"name": "none", "parameters": 10},
        provenance={},
    )
    reference = Reference(
        logits=asked.teacher,
        labels=asked.labels,
        digests=np.asarray([f"{index:064x}" for index in range(len(rows))]),
        images=images,
        image_index=np.arange(len(rows)),
    )
    write_reference(folder / "reference.npz", reference)
    write_golden(folder / "golden.npz", images[:4], _logits(images[:4], len(names)))
    _write_model(folder / "model.fp32.onnx", len(names))
    for role, name in (("reference", "reference.npz"), ("golden", "golden.npz"), ("model.fp32", "model.fp32.onnx")):
        bundle = bundle.with_file(role, folder / name)
    return bundle


def _images(classes: Sequence[int]) -> NDArray[np.uint8]:
    images = np.random.default_rng(0).integers(0, 256, (len(classes), SIZE, SIZE, 3)).astype(np.uint8)
    images[..., 0] = np.asarray(classes)[:, None, None]
    return images


def _logits(images: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    seen = images[..., 0].astype(np.float64).mean(axis=(1, 2))[:, None]
    logits: NDArray[np.float32] = (-((seen - np.arange(count)) ** 2)).astype(np.float32)
    return logits


def _write_model(path: Path, count: int) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["channels"], axes=[1, 2], keepdims=0),
        helper.make_node("Gather", ["channels", "red"], ["seen"], axis=1),
        helper.make_node("Sub", ["seen", "classes"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["square"]),
        helper.make_node("Neg", ["square"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "seer",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", count])],
        [
            numpy_helper.from_array(np.array([0]), "red"),
            numpy_helper.from_array(np.arange(count, dtype=np.float32), "classes"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
