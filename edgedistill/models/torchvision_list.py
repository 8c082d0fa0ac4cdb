"""The list of torchvision's classifiers that ships in `torchvision.json`: it tells names without torchvision itself."""

import functools
import importlib.metadata
import json
from importlib import resources
from typing import Any

from edgedistill_deploy.errors import UsageError, nearest_names


def describes_installed_torchvision() -> bool:
    """Tell whether the list was made from the torchvision of this machine; another one may know other names."""
    try:
        installed = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return False
    return installed.partition("+")[0] == str(_read_list()["torchvision"])


def weights_file(name: str) -> str:
    """Return the name of the file that NAME or NAME:WEIGHTS is fetched as.

    Raises:
        UsageError: torchvision has no such classifier, or no such weights of it; the message lists the nearest.
    """
    architecture, _, wanted = name.partition(":")
    models = _read_list()["models"]
    refuse_unknown(architecture, models, wanted, models.get(architecture, ()))
    files: dict[str, str] = models[architecture]
    return files[wanted] if wanted in files else next(iter(files.values()))


def knows(name: str) -> bool:
    """Tell whether the list has NAME or NAME:WEIGHTS."""
    try:
        weights_file(name)
    except UsageError:
        return False
    return True


def refuse_unknown(architecture: str, known: Any, wanted: str, weights: Any) -> None:
    """Raise UsageError for a classifier that is not known, or weights that are none of its own; "" and DEFAULT are."""
    if architecture not in known:
        raise UsageError(f"torchvision has no classifier {architecture!r}.{nearest_names(architecture, known)}")
    if wanted and wanted not in (*weights, "DEFAULT"):
        raise UsageError(
            f"torchvision has no weights {wanted!r} of {architecture}.{nearest_names(wanted, [*weights, 'DEFAULT'])}"
        )


@functools.cache
def _read_list() -> dict[str, Any]:
    file = resources.files("edgedistill.models").joinpath("torchvision.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))
