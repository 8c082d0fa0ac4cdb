"""The bundle: a folder with everything a device needs, described and secured by its manifest.json.

Nothing in a bundle is code or pickle. Every file is registered under a role with its sha256. A file that no longer
matches is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgedistill_deploy.bundle.manifest import MANIFEST, SCHEMA, read_manifest, sole_writer, write_manifest
from edgedistill_deploy.bundle.precisions import (
    DEVICE_RUNTIME,
    PRECISIONS,
    device_precisions,
    find_role,
    model_role,
    offered_precisions,
    suits,
)
from edgedistill_deploy.classes.groups import ClassGroup, WantedClass
from edgedistill_deploy.errors import BundleError, UsageError, nearest_names, reading
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import require_inside, sha256_of_file
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.images.preprocess import Preprocess

GOLDEN_IMAGES = "golden-images"  # the role of the file in a bundle

_KEPT_BY_THE_BUNDLE = ("schema", "kind", "files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle as it was read: its folder, and the manifest as read-only JSON values."""

    path: Path
    manifest: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "manifest", MappingProxyType(dict(self.manifest)))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Bundle, path=self.path, manifest=dict(self.manifest)), ()

    @property
    def name(self) -> str:
        """The name of the folder, as `printable` text."""
        return printable(self.path.resolve().name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The subtask's classes, in the order of the logits."""
        return tuple(self.manifest["subtask"]["class_names"])

    @property
    def classes(self) -> tuple[WantedClass, ...]:
        """The subtask's classes, with the names of the members of those that are made of several of the teacher's."""
        subtask = self.manifest["subtask"]
        members = subtask.get("member_names") or [[name] for name in self.class_names]
        return tuple(
            name if list(each) == [name] else ClassGroup(name=name, members=tuple(each))
            for name, each in zip(self.class_names, members, strict=True)
        )

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the models' input."""
        return Preprocess.from_json(self.manifest["preprocess"])

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions this bundle has a model of, "teacher" among them."""
        usual = (precision for precision in PRECISIONS if self.has(model_role(precision)))
        return (*usual, *device_precisions(self.manifest["files"]))

    def precisions_for(self, runtime: str, device: str | None = None) -> tuple[str, ...]:
        """Return the usual precisions that a runtime finds a model for, in order, and that made for the device.

        Raises BundleError for none.
        """
        found = offered_precisions(self.manifest["files"], runtime)
        if found and device is not None and runtime == DEVICE_RUNTIME:
            found += tuple(each for each in device_precisions(self.manifest["files"]) if suits(each, device))
        if not found:
            raise BundleError(
                f"The bundle {self.path} holds no model for {runtime} yet; run `edgedistill export {self.path}` first."
            )
        return found

    def precisions_here(self, runtime: str) -> tuple[str, ...]:
        """Return `precisions_for` this machine."""
        has_own = bool(device_precisions(self.manifest["files"]))
        return self.precisions_for(runtime, read_device().name if has_own else None)

    def role_for(self, precision: str, runtime: str = "onnxruntime") -> str:
        """Return the role of the model that a runtime takes for a precision. Raises BundleError where there is none."""
        role = find_role(self.manifest["files"], precision, runtime)
        if role is None:
            raise BundleError(
                f"The bundle {self.path} has no model of precision {precision}; it has "
                f"{', '.join(self.precisions) or 'none'}."
            )
        return role

    def has(self, role: str) -> bool:
        """Return whether a file is registered under the role."""
        return role in self.manifest["files"]

    def file(self, role: str) -> Path:
        """Return the path of a role's file after checking its content.

        A file is hashed again only when its size, inode or times of change differ from before. Raises BundleError
        naming the file when it is missing, leads out of the folder, or is not the registered one.
        """
        entry = self._entry(role)
        path = self.path / str(entry["path"])
        with reading(path, BundleError):
            self._check(role, path, entry)
        return path

    def _check(self, role: str, path: Path, entry: Mapping[str, Any]) -> None:
        if not path.is_file():
            raise BundleError(f"{path}, the file for {role}, is missing from the bundle.")
        require_inside(path, self.path)
        if path.stat().st_size != entry["bytes"]:
            raise BundleError(
                f"{path} has {path.stat().st_size} bytes, but {entry['bytes']} were registered for {role}; restore or "
                "rebuild it."
            )
        if _sha256(path) != entry["sha256"]:
            raise BundleError(
                f"{path} was changed after it was registered for {role}: its sha256 differs; restore or rebuild it."
            )

    def model_sha256(self, role: str) -> str:
        """Return the registered sha256 of a role's file."""
        return str(self._entry(role)["sha256"])

    def with_file(self, role: str, path: Path) -> "Bundle":
        """Register a finished file inside the folder, in place of the role's old one, and rewrite the manifest."""
        require_inside(path, self.path)
        with reading(path, BundleError):
            entry = self._describe_file(role, path)
        with sole_writer(self.path):
            record = read_manifest(self.path)
            return self._rewritten({**record, "files": {**record["files"], role: entry}})

    def without_file(self, role: str) -> "Bundle":
        """Remove a role from the manifest, if it is there. The file stays on disk."""
        with sole_writer(self.path):
            record = read_manifest(self.path)
            record["files"].pop(role, None)
            return self._rewritten(record)

    def _describe_file(self, role: str, path: Path) -> dict[str, Any]:
        if not path.is_file() or path.name == MANIFEST:
            raise BundleError(f"{path} cannot be registered for {role}: it is not a file of the bundle.")
        return {
            "path": path.resolve().relative_to(self.path.resolve()).as_posix(),
            "sha256": _sha256(path),
            "bytes": path.stat().st_size,
        }

    def with_fields(self, **fields: Any) -> "Bundle":
        """Replace top-level fields of the manifest by JSON values. Raises UsageError for `_KEPT_BY_THE_BUNDLE`."""
        for name in _KEPT_BY_THE_BUNDLE:
            if name in fields:
                raise UsageError(f"The manifest's {name} cannot be set; with_file registers files.")
        values = _json_values(fields)
        with sole_writer(self.path):
            return self._rewritten({**read_manifest(self.path), **values})

    def _entry(self, role: str) -> Mapping[str, Any]:
        files: Mapping[str, Mapping[str, Any]] = self.manifest["files"]
        if role not in files:
            raise BundleError(f"The bundle {self.path} has no {role}; it has {', '.join(sorted(files)) or 'no files'}.")
        return files[role]

    def _rewritten(self, record: Mapping[str, Any]) -> "Bundle":
        write_manifest(self.path, record)
        return Bundle(path=self.path, manifest=record)


def create_bundle(
    path: Path,
    *,
    subtask: Mapping[str, Any],
    preprocess: Preprocess,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Bundle:
    """Make the folder a bundle without files. Other files in the folder stay.

    `subtask` has name, class_names, and class_indices, or class_members with member_names. Raises BundleError when the
    folder is a bundle already.
    """
    given = {"subtask": subtask, "teacher": teacher, "student": student, "provenance": provenance}
    record = {
        "schema": SCHEMA,
        "kind": "bundle",
        **_json_values(given),
        "preprocess": {**preprocess.to_json(), "digest": preprocess.digest},
        "files": {},
        "stages": {},
    }
    _make_folder(path)
    with sole_writer(path):
        if (path / MANIFEST).exists():
            raise BundleError(f"{path} is a bundle already; open it, or choose another folder.")
        write_manifest(path, record)
    return Bundle(path=path, manifest=record)


def open_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Open a bundle from any source.

    Paths that lead out of the folder are refused, and nothing is read before its size is known. With `verify` every
    registered file is hashed now, else at its first use. Raises BundleError naming what is wrong.
    """
    path = Path(path)
    with reading(path, BundleError):
        _require_folder(path)
        bundle = Bundle(path=path, manifest=read_manifest(path))
    if verify:
        for role in bundle.manifest["files"]:
            bundle.file(role)
    return bundle


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        problem = "is a file, not the folder of a bundle" if path.exists() else "does not exist"
        advice = _siblings(path) or " Name the folder of a run, or one that `edgedistill export` wrote."
        raise BundleError(f"The bundle {path} {problem}.{advice}")


def _json_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deep copy of plain JSON values."""
    try:
        return dict(json.loads(json.dumps(fields, allow_nan=False, default=_plain_mapping)))
    except (TypeError, ValueError) as error:
        raise UsageError(f"The manifest takes JSON values only: {error}.") from error


def _plain_mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(f"The folder {path} cannot be made: {error.strerror or error}.") from error


def _siblings(path: Path) -> str:
    parent = path.parent
    if path.exists() or not parent.is_dir():
        return ""
    return nearest_names(path.name, sorted(each.parent.name for each in parent.glob(f"*/{MANIFEST}")))


def _sha256(path: Path) -> str:
    state = path.stat()
    return _sha256_at(path.resolve(), state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _sha256_at(path: Path, inode: int, mtime_ns: int, ctime_ns: int, size: int) -> str:
    return sha256_of_file(path)
