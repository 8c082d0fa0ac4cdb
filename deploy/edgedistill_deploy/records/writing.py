"""Common to all measured records: plain JSON values, and the path of a record in the bundle."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
FLAT = {"flat": True}  # metadata of a field whose own fields are placed beside its neighbours in JSON
HIDDEN = {"hidden": True}  # metadata of a field that JSON leaves out


def plain(value: Any) -> Any:
    """Turn dataclasses, tuples, numpy values and paths into JSON values; a number that is not finite becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _plain_fields(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in fields(value):
        if each.metadata != HIDDEN:
            item = plain(getattr(value, each.name))
            found.update(item if each.metadata == FLAT else {each.name: item})
    return found


class PlainRecord:
    """Base of a dataclass that is a record: its fields are the JSON document."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return dict(plain(self))


def record_path(bundle_path: Path, record: Mapping[str, Any]) -> Path:
    """Return BUNDLE/KIND/DEVICE-RUNTIME-PRECISION.json for the record of one model, by its own JSON values.

    An unusual provider follows the runtime's name, and -bN at the end means a batch of N images. So measurements on
    several providers and batch sizes have different paths. `file_part` reduces each part.
    """
    device, runtime, provider = record["device"], record["runtime"], record["provider"]
    name = device["name"] if isinstance(device, Mapping) else device
    place = runtime if provider in ("cpu", runtime) else f"{runtime}_{provider}"
    batch = "" if record.get("batch_size", 1) == 1 else f"-b{record['batch_size']}"
    stem = "-".join(map(file_part, (name, place, f"{record['precision']}{batch}")))
    return bundle_path / str(record["kind"]) / f"{stem}.json"


def file_part(text: str) -> str:
    """Reduce a name to letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)
