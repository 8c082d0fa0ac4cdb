"""The safetensors file of a teacher's subspaces."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgedistill.subspaces.directions import Subspace
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.files.writing import write_whole

FORMAT = "edgedistill-subspaces-1"
_FIELDS = ("mean", "basis", "eigenvalues", "variance")


def save_subspaces(path: Path, subspaces: Mapping[str, Subspace]) -> None:
    """Write subspaces to a safetensors file, whole or not at all; tensors are named `LAYER/FIELD`."""
    tensors: dict[str, Tensor] = {}
    for name, subspace in subspaces.items():
        tensors |= {f"{name}/{field}": getattr(subspace, field) for field in _FIELDS}
        tensors[f"{name}/sample_count"] = torch.tensor(subspace.sample_count)
    methods = json.dumps({name: subspace.method for name, subspace in subspaces.items()})
    size = sum(tensor.nbytes for tensor in tensors.values())
    with write_whole(path, inside=path.parent, size=size) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT, "methods": methods})


def load_subspaces(path: Path) -> dict[str, Subspace]:
    """Read the file that `save_subspaces` writes.

    Raises:
        BundleError: the file is missing or damaged, or it is another kind of file.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise BundleError(f"{path} does not hold subspaces of the format {FORMAT}; find them again.")
            names = dict.fromkeys(key.rpartition("/")[0] for key in stream.keys())  # noqa: SIM118  # not a mapping
            methods = json.loads(metadata.get("methods", "{}"))
            return {name: _read_subspace(stream.get_tensor, name, methods.get(name, "")) for name in names}
    except (OSError, SafetensorError, ValueError) as error:
        raise BundleError(f"The subspaces in {path} cannot be read ({error}); find them again.") from error


def _read_subspace(read: Callable[[str], Tensor], layer: str, method: str) -> Subspace:
    tensors = {field: read(f"{layer}/{field}") for field in _FIELDS}
    return Subspace(layer=layer, **tensors, sample_count=int(read(f"{layer}/sample_count")), method=method)
