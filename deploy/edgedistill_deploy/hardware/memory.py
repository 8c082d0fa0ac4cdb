"""How much memory is free for this process, and how much it held at most since a moment."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edgedistill_deploy.hardware.device import ROOT, read_peak_memory_bytes, read_text

__all__ = ["begin_memory_peak", "read_free_memory_bytes", "read_peak_memory_bytes"]

_GROUPS = Path("sys/fs/cgroup")
_RESET_PEAK = "5"  # Linux's name for it, see proc(5), clear_refs


def read_free_memory_bytes(root: Path = ROOT) -> int | None:
    """Return how much more memory this process may take: what the machine and every limit of a container leave.

    None where the system is not Linux.
    """
    free = _entry(root / "proc/meminfo", "MemAvailable:", 1024)
    left = [each for each in (free, *(_left_in(group) for group in _groups(root))) if each is not None]
    return max(0, min(left)) if left else None


def begin_memory_peak(root: Path = ROOT) -> bool:
    """Let `read_peak_memory_bytes` count from now; return whether the system lets it, else it counts from the start."""
    with contextlib.suppress(OSError):
        (root / "proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
        return True
    return False


def _groups(root: Path) -> Iterator[Path]:
    """Yield the control groups that may limit this process, of both versions, from its own up to the outermost."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        if number == "0" or "memory" in kinds.split(","):
            top = root / _GROUPS / ("" if number == "0" else "memory")
            yield from (top.joinpath(*parts[:count]) for count in range(len(parts), -1, -1))


def _left_in(group: Path) -> int | None:
    """Return what a control group's limit leaves; files that it read and that Linux may forget count as free."""
    for limit, used, forgettable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = (read_text(group / name) or "" for name in (limit, used))
        if most.isdigit() and now.isdigit():
            return int(most) - int(now) + (_entry(group / "memory.stat", forgettable, 1) or 0)
    return None


def _entry(path: Path, name: str, unit: int) -> int | None:
    """Return the number behind a name at the beginning of a line, in units of so many bytes."""
    for line in (read_text(path) or "").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1]) * unit
    return None
