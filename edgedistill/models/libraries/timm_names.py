"""What timm knows of a model without building it: its name, its settings, its labels. torch comes with timm."""

from collections.abc import Mapping
from typing import Any

from edgedistill.models.libraries.forms import HUB, check_hub_form
from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill_deploy.classes.imagenet import is_synset, labels_of_synsets
from edgedistill_deploy.errors import UsageError, nearest_names


def check_timm_name(name: str) -> None:
    """Refuse a name that timm does not know; the message lists the nearest. Names of the hub are not asked for."""
    import timm

    from edgedistill.models import small_images  # noqa: F401  # enters its model into timm's registry

    if name.startswith(HUB):
        check_hub_form(name)
    elif not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}.{nearest_names(name, timm.list_models())}")


def timm_config(name: str) -> dict[str, Any]:
    """Return timm's settings of one of its own models."""
    import timm

    config: Any = timm.get_pretrained_cfg(name)
    return dict(config.to_dict())


def has_trained_weights(name: str) -> bool:
    """Tell whether timm knows trained weights of a model; a model of the hub has them."""
    import timm

    config: Any = None if name.startswith(HUB) else timm.get_pretrained_cfg(name)
    return config is None or bool(config.has_weights)


def find_timm_labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the labels that timm's record of a model carries, or ImageNet's where their number fits; else None.

    Labels that are synset ids become the words of their classes.
    """
    given = config.get("label_names")
    if isinstance(given, dict):  # timm allows {position: name}
        given = [given[position] for position in sorted(given, key=int)]
    if given:
        labels = tuple(str(each) for each in given)
        known = labels_of_synsets()
        return tuple(known.get(each, each) for each in labels) if all(map(is_synset, labels)) else labels
    labels = _imagenet_labels_for(config["num_classes"])
    return labels if labels and len(labels) == config["num_classes"] else None


def _imagenet_labels_for(outputs: int) -> tuple[str, ...]:
    if outputs == len(imagenet_labels()):
        return imagenet_labels()
    from timm.data.imagenet_info import infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": outputs})
    return imagenet_labels(subset) if subset is not None else ()
