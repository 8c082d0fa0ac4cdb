"""The full state of a training run after an epoch, so that a killed run can continue."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_whole


def write_checkpoint(path: Path, state: dict[str, Any], inside: Path) -> None:
    """Write tensors and plain values whole or not at all, and remove what a killed process left.

    `inside` is the run's folder; it is not made anew where it is gone.

    Only one process writes a run's checkpoint.
    """
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)
    with write_whole(path, inside=inside) as temporary:
        torch.save(state, temporary)


def read_best_weights(path: Path) -> Mapping[str, Tensor] | None:
    """Read the weights of the best epoch from a checkpoint, whatever run it is of; None where there are none."""
    if not path.is_file():
        return None
    try:
        weights: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["best_weights"]
    except Exception as error:  # truncated zip, foreign pickle, something else than a checkpoint
        raise EdgeDistillError(f"The checkpoint {path} cannot be read; delete it to train from the start.") from error
    return weights


def read_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read a checkpoint without running code from it; None where there is none.

    Raises:
        EdgeDistillError: the file is unreadable, or is of a run with other settings or images.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated zip, foreign pickle: torch raises many kinds
        raise EdgeDistillError(f"The checkpoint {path} cannot be read; delete it to train from the start.") from error
    if state.get("fingerprint") != fingerprint:
        raise EdgeDistillError(
            f"The checkpoint {path} belongs to a run with other settings or images; choose another folder, or delete "
            "it to train from the start."
        )
    return state
