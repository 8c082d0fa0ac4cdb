"""Bundles around the tiny classifiers, with reference answers made to order."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.bundle.reference import Reference, read_reference, write_golden, write_reference
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from reference.measured_models import CLASS_NAMES, SIZE, images_of, logits_of_images, write_model


def image_set(path: Path, images: NDArray[np.uint8], labels: Sequence[int]) -> ImageSet:
    """Save images as an npz file at `path` and open it as the product does."""
    np.savez(path, images=images, labels=np.asarray(labels), class_names=np.asarray(CLASS_NAMES))
    return open_images(f"npz:{path}").train


def one_hot(classes: Sequence[int]) -> NDArray[np.float32]:
    """Logits (n, 3) whose largest entry is the given class."""
    return 5 * np.eye(3, dtype=np.float32)[np.asarray(classes, dtype=np.int64)]


def bundle_of(
    folder: Path,
    predicted: Sequence[int],
    teacher: Sequence[int],
    labels: Sequence[int],
    *,
    defect: str = "none",
    precision: str = "fp32",
    recorded: Sequence[int] | None = None,
) -> tuple[Bundle, ImageSet]:
    """Make a bundle whose model predicts `predicted` where the recorded teacher answers `teacher`.

    `recorded` are the rows whose images the reference keeps (all by default; none when empty). Returns the evaluation
    images too.
    """
    images = images_of(predicted)
    evaluation = image_set(folder / "evaluation.npz", images, [max(0, label) for label in labels])
    rows = np.arange(len(images)) if recorded is None else np.asarray(recorded, dtype=np.int64)
    bundle = create_bundle(
        folder / "bundle",
        subtask={"name": "colours", "class_names": list(CLASS_NAMES), "class_indices": [0, 1, 2]},
        preprocess=Preprocess(size=(SIZE, SIZE)),
        teacher={"name": "none"},
        student={"name": "none"},
        provenance={},
    )
    reference = Reference(
        logits=one_hot(teacher),
        labels=np.asarray(labels, dtype=np.int64),
        digests=np.asarray([evaluation.digest(index) for index in range(len(evaluation))]),
        images=images[rows] if len(rows) else None,
        image_index=rows,
    )
    write_reference(bundle.path / "reference.npz", reference)
    write_golden(bundle.path / "golden.npz", images[:4], logits_of_images(images[:4]))
    role = "teacher.fp32" if precision == "teacher" else f"model.{precision}"
    model = write_model(bundle.path / f"{role}.onnx", defect, computes_in(precision))
    for name, path in {
        "reference": bundle.path / "reference.npz",
        "golden": bundle.path / "golden.npz",
        role: model,
    }.items():
        bundle = bundle.with_file(name, path)
    return bundle, evaluation


def with_reference(bundle: Bundle, **changes: Any) -> Bundle:
    """Change arrays of the bundle's reference and register it again."""
    path = bundle.path / "reference.npz"
    write_reference(path, replace(read_reference(path), **changes))
    return bundle.with_file("reference", path)


def with_teacher(bundle: Bundle, defect: str = "none") -> Bundle:
    """Add a teacher's file, and record the answers of a sound teacher to the recorded images, which must be all."""
    images = read_reference(bundle.path / "reference.npz").images
    assert images is not None
    bundle = bundle.with_file("teacher.fp32", write_model(bundle.path / "teacher.fp32.onnx", defect))
    return with_reference(bundle, logits=logits_of_images(images))
