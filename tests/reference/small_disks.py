"""Places where nothing, or only little, can be written: a limit on the size of files, and a read-only mount."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import resource

_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse every file above `size` bytes, as a quota or a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def read_only(folder: Path) -> list[str] | None:
    """Return the beginning of a command line that sees `folder` mounted read-only; None where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    prefix = [unshare, "--mount", *own, "sh", "-c", _READ_ONLY, str(folder)]
    allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return prefix if allowed else None
