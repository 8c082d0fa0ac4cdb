"""The smallest bundle that a device needs: one model and what tells whether it still computes the same."""

import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.expectation import expectation_role
from edgedistill_deploy.bundle.folder import GOLDEN_IMAGES, Bundle, create_bundle
from edgedistill_deploy.bundle.precisions import computes_in, device_precisions, judged_precisions
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.writing import beside, make_folder, write_text, write_whole
from edgedistill_deploy.integration.snippet import PROGRAM_RUNTIME, Language, write_program
from edgedistill_deploy.onnx_files.content import Versions, read_versions
from edgedistill_deploy.prediction.expert import Expert

LABELS = "labels"  # the role of labels.txt
_KEPT_FIELDS = ("export", "reject")  # of the manifest, where it has them
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # in a ZIP: the same bundle gives the same bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PackTarget:
    """Where the bundle goes: the runtime there, and the newest ONNX operator set and IR version that it reads."""

    name: str
    runtime: str
    reader: str
    newest: Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was written: the folder or ZIP, its precision and why that one, its files, and their sizes in bytes."""

    path: Path
    precision: str
    reason: str
    files: Mapping[str, int]

    @property
    def total_bytes(self) -> int:
        """The size of all files, before any compression."""
        return sum(self.files.values())


def pack_bundle(
    bundle: Bundle, target: PackTarget, out: Path, precision: str | None = None, language: Language | None = None
) -> Packed:
    """Write the bundle that a target needs as a folder, or as a ZIP where `out` ends with .zip.

    It has the model of one precision, the golden inputs and outputs, and labels.txt, and is a bundle itself: all hashes
    are kept. By default it has the model that is recommended on every measured device with this runtime, else fp32.
    With `language` it also has the program of `snippet` for this model. `out` appears whole or not at all.

    Raises:
        UsageError: there is no program for the target's runtime.
        MissingDependencyError: ONNX Runtime is not installed, which the answers that a program must give come from.
        UsageError: `out` is there already.
        BundleError: a file is missing or was changed, or there is no such model.
        UsageError: the target does not read the model.
        NotWrittenError: there is no room, or no right to write.
    """
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already, and nothing is replaced; choose another --out, or remove it.")
    chosen, reason = (precision, "it was asked for") if precision else _usual_precision(bundle, target.runtime)
    role = bundle.role_for(chosen, target.runtime)
    if language is not None and target.runtime != PROGRAM_RUNTIME:
        raise UsageError(
            f"The programs of `snippet` run the model with {PROGRAM_RUNTIME}, and {target.reader} reads this one; "
            "leave --language out."
        )
    _require_readable(bundle.file(role), target)
    make_folder(out.parent)
    with beside(out) as temporary:
        packed = _write(bundle, temporary / out.name.removesuffix(".zip"), role, target)
        if language is not None:
            packed = _add_program(packed, chosen, language)
        sizes = {"manifest.json": (packed.path / "manifest.json").stat().st_size}
        sizes |= {str(entry["path"]): int(entry["bytes"]) for entry in packed.manifest["files"].values()}
        if out.suffix == ".zip":
            _write_zip(packed.path, out)
        else:
            packed.path.rename(out)
    return Packed(path=out, precision=chosen, reason=reason, files=sizes)


def _usual_precision(bundle: Bundle, runtime: str) -> tuple[str, str]:
    own = device_precisions(bundle.manifest["files"])
    offered = judged_precisions((*bundle.precisions_for(runtime), *own))
    choices = bundle.manifest.get("choices", {}).values()
    found = {
        str(each.get("precision")) for each in choices if isinstance(each, Mapping) and each.get("runtime") == runtime
    }
    if len(found) == 1 and found <= offered:
        (best,) = found
        if best in own and computes_in(best) in offered:
            return computes_in(best), f"{best} is for one device alone, and --precision {best} packs it"
        return best, "it is recommended on every device that was measured with this runtime"
    why = "the measured devices need different models" if found else "no other model is recommended for this runtime"
    if "fp32" in offered:
        return "fp32", why
    return next(each for each in bundle.precisions_for(runtime) if each in offered), why


def _require_readable(model: Path, target: PackTarget) -> None:
    found = read_versions(model)
    if found.opset <= target.newest.opset and found.ir_version <= target.newest.ir_version:
        return
    raise UsageError(
        f"{model.name} has ONNX opset {found.opset} and IR version {found.ir_version}, and {target.reader} reads opset "
        f"{target.newest.opset} and IR version {target.newest.ir_version} at most; write it anew with "
        f"`edgedistill export {model.parent} --target {target.name}`."
    )


def _write(bundle: Bundle, folder: Path, role: str, target: PackTarget) -> Bundle:
    manifest = bundle.manifest
    packed = create_bundle(
        folder,
        subtask=manifest["subtask"],
        preprocess=bundle.preprocess,
        teacher=manifest["teacher"],
        student=manifest["student"],
        provenance=manifest["provenance"],
    )
    wanted = dict.fromkeys((role, f"{role}.data", "golden", expectation_role(role), GOLDEN_IMAGES))
    for each in wanted:
        if bundle.has(each):
            packed = _copy(bundle, packed, each)
    write_text(folder / "labels.txt", "".join(f"{name}\n" for name in bundle.class_names))
    packed = packed.with_file(LABELS, folder / "labels.txt")
    return packed.with_fields(
        **{name: manifest[name] for name in _KEPT_FIELDS if name in manifest},
        choices=_choices_of(bundle, role),
        packed={"from": bundle.name, "target": target.name, "runtime": target.runtime},
    )


def _add_program(packed: Bundle, precision: str, language: Language) -> Bundle:
    with Expert(packed, precision=precision, runtime=PROGRAM_RUNTIME, provider="cpu") as expert:
        written = write_program(expert, language, packed.path)
    for role, path in written.items():
        packed = packed.with_file(role, path)
    return packed


def _copy(bundle: Bundle, packed: Bundle, role: str) -> Bundle:
    source = bundle.file(role)
    path = packed.path / source.name
    with write_whole(path, size=source.stat().st_size) as temporary:
        shutil.copyfile(source, temporary)
    return packed.with_file(role, path)


def _choices_of(bundle: Bundle, role: str) -> dict[str, Any]:
    """Return the recommendations of this very model file: `predict` on these devices follows them."""
    choices = bundle.manifest.get("choices", {})
    sha256 = bundle.model_sha256(role)
    return {
        device: choice
        for device, choice in choices.items()
        if isinstance(choice, Mapping) and choice.get("model_sha256") == sha256
    }


def _write_zip(folder: Path, out: Path) -> None:
    with write_whole(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", _EARLIEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, path.read_bytes())
