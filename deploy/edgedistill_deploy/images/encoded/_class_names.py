"""Class names out of what sources give as labels: words, or numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.files.text import read_text
from edgedistill_deploy.images.encoded.patterns import IMAGENET


def read_class_names(source: str) -> tuple[str, ...]:
    """Return the names of numbered classes: the labels of ImageNet's teachers, or the lines of a file, the first for 0.

    `source` is `IMAGENET` or the path of a file; "" has no names. Raises UsageError for a file that cannot be used.
    """
    if source in ("", IMAGENET):
        return tuple(labels_of_synsets().values()) if source else ()
    path = Path(source).expanduser()
    names = tuple(compose_name(line.strip()) for line in read_text(path, "class file").splitlines())
    while names and not names[-1]:
        names = names[:-1]
    if not names or not all(names) or len(set(names)) < len(names):
        raise UsageError(f"The class file {path} must name each class once, one a line; it has {len(names)} lines.")
    return names


def label_rows(texts: Sequence[str], names: Sequence[str], source: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes and the labels (N,) as `name_classes` does; the label of a text that is "" is -1.

    Raises DataError as `name_classes`.
    """
    known = np.array([bool(text) for text in texts], dtype=np.bool_)
    labels = np.full(len(texts), -1, dtype=np.int64)
    if not known.any():
        return (), labels
    class_names, labels[known] = name_classes([text for text in texts if text], names, source)
    return class_names, labels


def name_classes(texts: Sequence[str], names: Sequence[str], source: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes and the labels (N,) of texts, each of which is the name or the number of a class.

    Args:
        texts: of each image.
        names: of the numbered classes. Without them, a number is its own name.
        source: for messages.

    Raises:
        DataError: a number has no name, or words stand beside names that are given for numbers.
    """
    different = sorted(set(texts))
    numbers = {text: int(text) for text in different if text.isascii() and text.isdigit() and len(text) < 10}
    numbered = len(numbers) == len(different)
    if names and numbered:
        if wrong := [number for number in numbers.values() if number >= len(names)]:
            raise DataError(
                f"{source} has the label {max(wrong)}, and the class names end at {len(names) - 1}; name the right file"
                " of class names."
            )
        return tuple(names), np.array([numbers[text] for text in texts], dtype=np.int64)
    if names and (unknown := [text for text in different if compose_name(text) not in names]):
        raise DataError(f"{source} has the label {unknown[0]!r}, which the class names lack.")
    if numbered:
        different.sort(key=lambda text: (numbers[text], text))
    composed = {text: compose_name(text) for text in different}
    classes = tuple(names) or tuple(dict.fromkeys(composed.values()))
    place = {name: label for label, name in enumerate(classes)}
    return classes, np.array([place[composed[text]] for text in texts], dtype=np.int64)
