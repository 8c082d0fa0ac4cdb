"""Whether files of another server are at hand: what is on this machine comes first. No torch is needed to ask."""

import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

from edgedistill_deploy.errors import DataError

# The hub's client tries for a minute before it gives up, and a name server that is not there is asked for long.
REACH_S = 5.0
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


def require_reachable(url: str, what: str, otherwise: str) -> None:
    """Raise DataError if no server answers at the URL within `REACH_S` seconds; any answer will do."""
    if why := why_unreachable(url):
        raise not_at_hand(what, why, otherwise)


def not_at_hand(what: str, why: str, otherwise: str) -> DataError:
    """Return the error for files that are not here and cannot be fetched."""
    return DataError(f"{what} are not on this machine, and {why}; {otherwise}.")


def why_hub_is_shut() -> str:
    """Say why nothing can be fetched from the hub; empty where it can."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to fetch them"
    return why_unreachable(str(constants.ENDPOINT))


def why_unreachable(url: str) -> str:
    """Say why no server answers at the URL within `REACH_S` seconds; empty where one does, with whatever answer."""
    reasons: list[str] = ["no answer"]
    asked = threading.Thread(target=_ask, args=(url, reasons), daemon=True)  # looking a name up knows no time limit
    asked.start()
    asked.join(REACH_S)
    return f"{urlparse(url).hostname} could not be reached ({reasons[-1]})" if reasons else ""


def torch_cache() -> Path:
    """Return the folder where torch keeps the files that it fetched, without importing torch."""
    at_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or str(Path(at_home) / "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def _ask(url: str, reasons: list[str]) -> None:
    """Empty the list if a server answers, else append the reason."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_S):
            reasons.clear()
    except urllib.error.HTTPError as answer:
        answer.close()
        reasons.clear()
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        reasons.append(str(getattr(cause, "strerror", None) or cause))
