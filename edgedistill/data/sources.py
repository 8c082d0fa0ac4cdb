"""Sources of images, by the name that a user types."""

from importlib import resources
from pathlib import Path

from edgedistill.data.torchvision_sets import SCHEME, absolute_torchvision, check_torchvision, open_torchvision
from edgedistill_deploy.classes.imagenet import is_synset, labels_of_synsets
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSplits
from edgedistill_deploy.images.sources import absolute_source, must_fetch, open_images

EMBEDDED = "embedded:"


def open_source(source: str, *, labels: bool = True) -> ImageSplits:
    """Open `embedded:digits` (ships with EdgeDistill), or any source that `edgedistill_deploy.open_images` opens.

    These are an image folder, `npz:FILE`, `table:FILE`, `parquet:FILE`, `wds:SHARDS`, `hf:OWNER/NAME`, `fashion-mnist`,
    `fashion-mnist:DIR`, `cifar10:DIR` and `cifar100:DIR`. `torchvision:NAME:DIR` is a folder that torchvision filled.
    When all classes are named by ImageNet's synset ids ("n02099601"), they get the labels of ImageNet's teachers.
    Images in no class folder have no label. `labels` is as for `open_images`.

    Raises:
        UsageError: no such source.
        DataError: it holds no usable images.
    """
    if source.startswith(SCHEME):
        return open_torchvision(source)
    if not source.startswith(EMBEDDED):
        return _with_imagenet_labels(open_images(source, labels=labels))
    name = source.removeprefix(EMBEDDED)
    path = Path(str(resources.files("edgedistill").joinpath("embedded", f"{name}.npz")))
    if not path.is_file():
        raise UsageError(f"There is no embedded data set {source!r}; the one that ships is embedded:digits.")
    return open_images(f"npz:{path}")


def why_not_counted(source: str) -> str:
    """Return why a source is not opened before a run, as a sentence; "" where that takes neither torch nor a download.

    Raises the errors of `open_source` that can be told before that.
    """
    if source.startswith(SCHEME):
        check_torchvision(source)
        return f"The images of {source} are counted when the run begins, because torchvision loads torch."
    return must_fetch(source)


def absolute_name(source: str) -> str:
    """Return the name with its path made absolute, so that it means the same from every working directory."""
    return absolute_torchvision(source) if source.startswith(SCHEME) else absolute_source(source)


def _with_imagenet_labels(splits: ImageSplits) -> ImageSplits:
    if not splits.class_names or not all(is_synset(name) for name in splits.class_names):
        return splits
    labels = labels_of_synsets()
    return splits.rename_classes(tuple(labels.get(name, name) for name in splits.class_names))
