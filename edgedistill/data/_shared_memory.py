"""Shared memory, through which the processes that decode images hand over their batches."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgedistill_deploy.errors import EdgeDistillError

PLACE = Path("/dev/shm")  # where Linux keeps shared memory; other systems have no such folder
_PREFETCHED = 2  # batches that each process prepares ahead, as torch's loader does
_SIGNS = ("shared memory", "(shm)", "Bus error", "No space left on device")  # in torch's messages


def require_shared_memory(workers: int, batch_bytes: int, batch_count: int) -> None:
    """Raise EdgeDistillError where the batches that are prepared at the same time do not fit into shared memory."""
    needed = min(workers * _PREFETCHED, batch_count) * batch_bytes
    if workers and PLACE.is_dir() and (free := shutil.disk_usage(PLACE).free) < needed:
        raise EdgeDistillError(
            f"Shared memory is too small: {workers} processes that decode images need {needed / 1e6:.1f} MB of it, and "
            f"{PLACE} has {free / 1e6:.1f} MB free. {_advice(needed)}"
        )


def workers_that_fit(batch_bytes: int) -> int | None:
    """Return how many processes leave half of the free shared memory to others; None where that is no limit."""
    return shutil.disk_usage(PLACE).free // (2 * _PREFETCHED * max(1, batch_bytes)) if PLACE.is_dir() else None


@contextlib.contextmanager
def naming_shared_memory(workers: int, batch_bytes: int) -> Iterator[None]:
    """Turn torch's errors about shared memory into one sentence, without the traceback of the process that failed."""
    try:
        yield
    except RuntimeError as error:
        if not workers or not any(sign in str(error) for sign in _SIGNS):
            raise
        raise EdgeDistillError(
            f"A process that decodes images found no room in shared memory ({PLACE}). "
            f"{_advice(workers * _PREFETCHED * batch_bytes)}"
        ) from None


def _advice(needed: int) -> str:
    size = max(1, -(-2 * needed >> 30))
    return (
        f"Decode in this process with --workers 0, or give a container more: docker run --shm-size={size}g, and "
        "run the same command again."
    )
