"""Files are sent to a device once, named by their sha256, continued after a broken link, and checked on arrival."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.progress import Progress
from edgedistill_deploy.remote._connection import DeviceError, import_asyncssh
from edgedistill_deploy.remote._link import Link, build_lost_error, full_disk
from edgedistill_deploy.remote.inventory import Device

CHUNK_BYTES = 1 << 17  # each is acknowledged before the next, so a part has no holes
RESERVE_BYTES = 16 << 20  # for the result and the files of the runtime
STALL_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Content to send: a file of this machine, or bytes."""

    sha256: str
    size: int
    source: Path | bytes = field(repr=False)

    @classmethod
    def of(cls, source: Path | bytes) -> "Item":
        """Describe a file or bytes."""
        if isinstance(source, bytes):
            return cls(sha256=hashlib.sha256(source).hexdigest(), size=len(source), source=source)
        return cls(sha256=sha256_of_file(source), size=source.stat().st_size, source=source)

    def chunks(self, start: int) -> Iterator[bytes]:
        """Yield the content from a position."""
        with io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb") as stream:
            stream.seek(start)
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk


@dataclass(slots=True, kw_only=True)
class Pushed:
    """What was sent, in files and bytes."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The folder of a device that holds files named by their sha256, and the connections to it."""

    link: Link
    sftp: Any
    device: Device
    folder: str


async def push(store: Store, items: Iterable[Item], pushed: Pushed, progress: Progress) -> None:
    """Send to the device's store the items that it lacks, and count them in `pushed`.

    Raises DeviceError for a full disk, a stalled link, or damage on the way.
    """
    wanted = {item.sha256: item for item in items}
    found = await store.link.ask("look", patience_s=600, files=list(wanted))
    missing = [item for sha256, item in wanted.items() if sha256 not in found["kept"]]
    starts = {item.sha256: _start(item, found["parts"].get(item.sha256, 0)) for item in missing}
    total = sum(item.size - starts[item.sha256] for item in missing)
    if found["free_bytes"] is not None and total + RESERVE_BYTES > found["free_bytes"]:
        raise DeviceError(full_disk(store.device, found["free_bytes"]))

    def count(sent: int) -> None:
        pushed.bytes += sent
        progress(pushed.bytes, max(total, pushed.bytes), "sending")

    damaged = await _send_all(store, missing, starts, pushed, count)
    # The part from an earlier try was wrong; send once more, from the start.
    if damaged and await _send_all(store, damaged, {}, pushed, count):
        raise DeviceError(f"A file arrived damaged on {store.device.name} twice; its disk or memory is faulty.")


async def _send_all(
    store: Store, items: Sequence[Item], starts: Mapping[str, int], pushed: Pushed, count: Callable[[int], None]
) -> list[Item]:
    """Send the items, each from its start or from 0, and return those that arrived damaged."""
    for item in items:
        await _send(store, item, starts.get(item.sha256, 0), count)
        pushed.files += 1
    settled = await store.link.ask("settle", patience_s=600, files=[item.sha256 for item in items])
    return [item for item in items if item.sha256 in settled["damaged"]]


def _start(item: Item, there: int) -> int:
    """Return where to continue: the last chunk of a part is sent again, since it may have been cut."""
    return max(0, (min(there, item.size) - 1) // CHUNK_BYTES * CHUNK_BYTES)


async def _send(store: Store, item: Item, start: int, count: Callable[[int], None]) -> None:
    """Send an item from a position, and count the bytes of each chunk that arrived."""
    asyncssh, device = import_asyncssh(), store.device
    path, place = f"{store.folder}/{item.sha256}.part", start
    try:
        # No context manager: closing would wait for a dead link.
        stream = await asyncio.wait_for(store.sftp.open(path, "r+b" if start else "wb"), STALL_S)
        for chunk in item.chunks(start):
            await asyncio.wait_for(stream.write(chunk, place), STALL_S)
            place += len(chunk)
            count(len(chunk))
        await asyncio.wait_for(stream.close(), STALL_S)
    except asyncio.TimeoutError as error:
        store.link.is_gone = True
        raise DeviceError(
            f"The link to {device.name} took nothing for {STALL_S:.0f} s; what had arrived stays there and is not sent "
            "again."
        ) from error
    except (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost, OSError) as error:
        raise build_lost_error(device) from error
    except asyncssh.SFTPError as error:
        free = (await store.link.ask("free"))["free_bytes"]
        if free is not None and free < CHUNK_BYTES:
            raise DeviceError(full_disk(device, free)) from error
        raise DeviceError(f"{device.name} refuses to write {path}: {error.reason}.") from error
