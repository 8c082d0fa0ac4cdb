"""Write `timm.json`: the names of timm's models, so that a name can be checked without importing timm or torch.

For each architecture it has the number of parameters (with timm's usual outputs), the side of the images in pixels, and
the tags of its pretrained weights with their number of outputs, the default tag first. `renamed` has the present name
of each model that timm knows by an earlier one. `elsewhere` has the repository on the hub of the weights that are not
in timm/NAME.TAG, empty where they are on another server. Nothing is downloaded, and no network is filled with numbers.

    python scripts/make_timm_table.py edgedistill/models/timm.json
"""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

PROCESSES = 2


def describe(name: str) -> dict[str, Any]:
    """Return what the table says of one architecture."""
    import timm
    import torch

    config: Any = timm.get_pretrained_cfg(name)
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "size": max(config.input_size[1:]),
        "tags": {tag: int(find_config(name, tag).num_classes) for tag in list_tags(name, config.tag)},
    }


def list_tags(name: str, default: str) -> list[str]:
    """Return the tags of the pretrained weights, the default first."""
    import timm

    models = [each.partition(".") for each in timm.list_models(f"{name}.*", pretrained=True)]
    return sorted((tag for stem, _, tag in models if stem == name and tag), key=lambda tag: (tag != default, tag))


def find_config(name: str, tag: str) -> Any:
    """Return timm's settings of one set of weights."""
    import timm

    return timm.get_pretrained_cfg(f"{name}.{tag}")


def list_elsewhere() -> dict[str, str]:
    """Return {NAME.TAG: repository} of the weights that are not in timm/NAME.TAG of the hub."""
    import timm

    names = timm.list_models("*.*", pretrained=True)
    places = {name: str(timm.get_pretrained_cfg(name).hf_hub_id or "").partition("@")[0] for name in names}  # type: ignore[union-attr]
    return {name: place for name, place in sorted(places.items()) if place not in ("timm/", f"timm/{name}")}


def list_names() -> list[str]:
    """Return the names of all architectures, those of EdgeDistill included."""
    import timm

    from edgedistill.models import small_images  # noqa: F401  # enters its model into timm's registry

    return sorted(timm.list_models())


def make_table() -> dict[str, Any]:
    """Return the whole table."""
    import timm
    from timm.models import _registry

    names = list_names()
    with multiprocessing.Pool(PROCESSES, initializer=list_names) as pool:
        models = dict(zip(names, pool.map(describe, names, 8), strict=True))
    renamed = dict(sorted(_registry._deprecated_models.items()))
    return {"timm": timm.__version__, "renamed": renamed, "elsewhere": list_elsewhere(), "models": models}


def to_text(table: dict[str, Any]) -> str:
    """Write JSON with one model on a line, so that a change can be read."""
    parts = [f'  "timm": {json.dumps(table["timm"])}']
    for key in ("renamed", "elsewhere", "models"):
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(each)}" for name, each in table[key].items())
        parts.append(f'  "{key}": {{\n{lines}\n  }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(to_text(make_table()), encoding="utf-8")
