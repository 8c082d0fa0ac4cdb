"""The device part as a wheel, made from the package that is installed here, from a wheel or a checkout.

A wheel is a zip, so Python imports from it on PYTHONPATH without installation.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from edgedistill_deploy.version import __version__

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGE = "edgedistill_deploy"

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that equal files give equal wheels
_READABLE = 0o644 << 16
_METADATA = (
    f"Metadata-Version: 2.1\nName: {PACKAGE.replace('_', '-')}\nVersion: {__version__}\nRequires-Python: >=3.10\n"
)
_WHEEL = "Wheel-Version: 1.0\nGenerator: edgedistill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel() -> bytes:
    """Return the wheel of `edgedistill_deploy` alone. The same package always gives the same bytes."""
    information = f"{PACKAGE}-{__version__}.dist-info"
    entries = dict(sorted(_sources(files(PACKAGE), PACKAGE)))
    entries[f"{information}/METADATA"] = _METADATA.encode()
    entries[f"{information}/WHEEL"] = _WHEEL.encode()
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in entries.items()]
    entries[f"{information}/RECORD"] = "\n".join([*record, f"{information}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            member = zipfile.ZipInfo(name, _EPOCH)
            member.external_attr, member.compress_type = _READABLE, zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return buffer.getvalue()


def _sources(folder: "Traversable", path: str) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        name = f"{path}/{item.name}"
        if item.is_dir() and item.name != "__pycache__":
            yield from _sources(item, name)
        elif item.is_file() and not item.name.endswith(".pyc"):
            yield name, item.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
