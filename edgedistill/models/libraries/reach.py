"""Whether files of another server are at hand: what is on this machine comes first. No torch is needed to ask."""

import os
from pathlib import Path

from edgedistill_deploy.files.reaching import not_at_hand, why_unreachable

TORCHVISION_URL = "https://download.pytorch.org/models/"


def is_cached(repository: str) -> bool:
    """Tell whether the hub's cache has a folder of OWNER/NAME; it may lack files still."""
    from huggingface_hub import constants

    return (Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}").is_dir()


def require_hub(what: str, otherwise: str) -> None:
    """Raise DataError if the hub must not be asked for files that are not here, or cannot be reached.

    `what` is the subject of the message, in the plural; `otherwise` is what the user can do, as the end of a sentence.
    """
    if why := why_hub_is_shut():
        raise not_at_hand(what, why, otherwise)


def why_hub_is_shut() -> str:
    """Say why nothing can be fetched from the hub; empty where it can."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to fetch them"
    return why_unreachable(str(constants.ENDPOINT))


def torch_cache() -> Path:
    """Return the folder where torch keeps the files that it fetched, without importing torch."""
    at_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or str(Path(at_home) / "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"
