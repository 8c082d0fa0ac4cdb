"""Fashion-MNIST, 70,000 grey images of ten kinds of clothing, from its four IDX files."""

from pathlib import Path

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.arrays import ArrayImages, build_array_images
from edgedistill_deploy.images.idx import read_idx
from edgedistill_deploy.images.sets import ImageSplits

INSTALLED = Path("/usr/share/datasets/fashion-mnist")  # where Debian and Ubuntu put it
# In label order, as the authors name them (Xiao, Rasul and Vollgraf 2017, table 2; "Ankle boot" has a space).
CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_HOW_TO_GET_IT = (
    "Install the Debian package with `apt install dataset-fashion-mnist`, or name a folder with its four IDX files"
    " (train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k, each plain or .gz) as fashion-mnist:DIR."
)


def open_fashion_mnist(folder: Path) -> ImageSplits:
    """Read the 28x28 grey images of both splits, `train` (60,000) and `test` (10,000; files named t10k).

    Raises UsageError when there is no such folder, DataError when a file is missing, damaged or does not fit.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder} with Fashion-MNIST. {_HOW_TO_GET_IT}")
    return ImageSplits(class_names=CLASS_NAMES, train=_read_split(folder, "train"), test=_read_split(folder, "t10k"))


def _read_split(folder: Path, prefix: str) -> ArrayImages:
    images_path = _find_file(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = _find_file(folder, f"{prefix}-labels-idx1-ubyte")
    images, labels = read_idx(images_path, axes=3), read_idx(labels_path, axes=1)
    if images.size == 0:
        raise DataError(f"{images_path} holds no images (its shape is {images.shape}).")
    if len(labels) != len(images):
        raise DataError(
            f"{labels_path} holds {len(labels)} labels for the {len(images)} images of {images_path.name}; take both "
            "files from one set."
        )
    if labels.max() >= len(CLASS_NAMES):
        raise DataError(
            f"{labels_path} holds the label {labels.max()}; Fashion-MNIST's run from 0 to {len(CLASS_NAMES) - 1}."
        )
    return build_array_images(CLASS_NAMES, labels, images, f"fashion-mnist {prefix}")


def _find_file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(f"{folder} lacks {name}, plain or .gz. {_HOW_TO_GET_IT}")
