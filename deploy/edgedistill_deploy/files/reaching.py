"""Whether a server can be reached, found out in seconds."""

import threading
import urllib.error
import urllib.request
from urllib.parse import urlparse

from edgedistill_deploy.errors import DataError

# The clients of hubs try for a minute before they give up, and a name server that is not there is asked for long.
REACH_S = 5.0


def require_reachable(url: str, what: str, otherwise: str) -> None:
    """Raise DataError if no server answers at the URL within `REACH_S` seconds; any answer will do.

    Args:
        url: where to ask.
        what: the subject of the error message, in the plural.
        otherwise: what the user can do, as the end of a sentence.
    """
    if why := why_unreachable(url):
        raise not_at_hand(what, why, otherwise)


def not_at_hand(what: str, why: str, otherwise: str) -> DataError:
    """Return the error for files that are not here and cannot be fetched."""
    return DataError(f"{what} are not on this machine, and {why}; {otherwise}.")


def why_unreachable(url: str) -> str:
    """Say why no server answers at the URL within `REACH_S` seconds; empty where one does, with whatever answer."""
    reasons: list[str] = ["no answer"]
    asked = threading.Thread(target=_ask, args=(url, reasons), daemon=True)  # looking a name up knows no time limit
    asked.start()
    asked.join(REACH_S)
    return f"{urlparse(url).hostname} could not be reached ({reasons[-1]})" if reasons else ""


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
