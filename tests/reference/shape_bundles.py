"""Bundles around the fitted network, with training images of the shapes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from reference.fitted_networks import CLASS_NAMES, SIZE, write_network


def labelled(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> ImageSet:
    """Save images as an npz file at `path` and open it as the product does."""
    np.savez(path, images=images, labels=labels, class_names=np.array(CLASS_NAMES))
    return open_images(f"npz:{path}").train


def empty_bundle(folder: Path) -> Bundle:
    """Make a bundle of the shapes that has no files yet."""
    return create_bundle(
        folder,
        subtask={"name": "shapes", "class_names": list(CLASS_NAMES), "class_indices": [0, 1, 2, 3]},
        preprocess=Preprocess(size=(SIZE, SIZE)),
        teacher={"name": "none"},
        student={"name": "none"},
        provenance={},
    )


def float_bundle(folder: Path, *, activation: str = "Relu") -> Bundle:
    """Make a bundle with the fitted network as its `model.fp32`."""
    bundle = empty_bundle(folder)
    return bundle.with_file("model.fp32", write_network(folder / "model.fp32.onnx", activation=activation))
