"""The labels of the larger ImageNets; those of the thousand classes are `edgedistill_deploy.classes.imagenet`'s."""

import functools
from typing import Any

from edgedistill_deploy.classes.imagenet import labels_of_synsets, tell_apart

DEFAULT_SUBSET = "imagenet-1k"


@functools.cache
def imagenet_labels(subset: str = DEFAULT_SUBSET) -> tuple[str, ...]:
    """Return timm's labels in output order; a label of two classes gets its synset id too ("crane, n02012849")."""
    if subset == DEFAULT_SUBSET:
        return tuple(labels_of_synsets().values())
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo(subset)
    described = {synset: str(info.label_name_to_description(synset)) for synset in info.label_names()}
    return tuple(tell_apart(described).values())
