"""ImageNet's classes: the labels of timm's models, and the synset ids that are the names of its folders."""

import functools
import re
from collections import Counter
from typing import Any

DEFAULT_SUBSET = "imagenet-1k"
_SYNSET = re.compile(r"n\d{8}")  # "n" for noun, and the place in WordNet 3.0's file of nouns


def is_synset(name: str) -> bool:
    """Tell whether a name has the form of a synset id, such as n02099601."""
    return _SYNSET.fullmatch(name) is not None


@functools.cache
def imagenet_labels(subset: str = DEFAULT_SUBSET) -> tuple[str, ...]:
    """Return timm's labels in output order; a label of two classes gets its synset id too ("crane, n02012849")."""
    return tuple(labels_of_synsets(subset).values())


@functools.cache
def labels_of_synsets(subset: str = DEFAULT_SUBSET) -> dict[str, str]:
    """Return each synset id's label, in output order."""
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo(subset)
    described = {synset: str(info.label_name_to_description(synset)) for synset in info.label_names()}
    repeated = {label for label, count in Counter(described.values()).items() if count > 1}
    return {synset: f"{label}, {synset}" if label in repeated else label for synset, label in described.items()}
