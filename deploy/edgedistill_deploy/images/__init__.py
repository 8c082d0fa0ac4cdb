"""Labelled images from folders, arrays and well-known data sets, read one at a time."""

from edgedistill_deploy.images.arrays import ArrayImages
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.folder import FolderImages
from edgedistill_deploy.images.sets import ImageSet, ImageSplits, batches, find_class
from edgedistill_deploy.images.sources import absolute_source, open_images

__all__ = [
    "ArrayImages",
    "FolderImages",
    "ImageSet",
    "ImageSplits",
    "absolute_source",
    "batches",
    "find_class",
    "open_images",
    "read_image",
]
