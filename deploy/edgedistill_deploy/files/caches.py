"""Where this user keeps what can be made again."""

import os
from pathlib import Path

VARIABLE = "EDGEDISTILL_CACHE"


def cache_folder(kind: str) -> Path:
    """Return the folder for one kind of cached files, which may not exist yet.

    It is below `EDGEDISTILL_CACHE`, or below `edgedistill` in `XDG_CACHE_HOME` or in ~/.cache.
    """
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edgedistill" / kind
