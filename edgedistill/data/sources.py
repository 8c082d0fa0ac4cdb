"""Sources of images, by the name that a user types."""

from importlib import resources
from pathlib import Path

from edgedistill_deploy.classes.imagenet import is_synset, labels_of_synsets
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSplits
from edgedistill_deploy.images.sources import open_images

EMBEDDED = "embedded:"


def open_source(source: str) -> ImageSplits:
    """Open `embedded:digits` (ships with EdgeDistill), or any source that `edgedistill_deploy.open_images` opens.

    These are an image folder, `npz:FILE`, `fashion-mnist`, `fashion-mnist:DIR` and `cifar100:DIR`. When all class
    folders are named by ImageNet's synset ids ("n02099601"), they get the labels of ImageNet's teachers. Images in no
    class folder have no label.

    Raises:
        UsageError: no such source.
        DataError: it holds no usable images.
    """
    if not source.startswith(EMBEDDED):
        return _with_imagenet_labels(open_images(source))
    name = source.removeprefix(EMBEDDED)
    path = Path(str(resources.files("edgedistill").joinpath("embedded", f"{name}.npz")))
    if not path.is_file():
        raise UsageError(f"There is no embedded data set {source!r}; the one that ships is embedded:digits.")
    return open_images(f"npz:{path}")


def _with_imagenet_labels(splits: ImageSplits) -> ImageSplits:
    if not splits.class_names or not all(is_synset(name) for name in splits.class_names):
        return splits
    labels = labels_of_synsets()
    return splits.rename_classes(tuple(labels.get(name, name) for name in splits.class_names))
