"""What a build came to: the models that its bundle holds, and how good they were found."""

from collections.abc import Mapping
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle, model_role
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.records.reading import read_records

# The models of the summary, in its order.
_PRECISIONS = ("teacher", "fp32", "fp16", "int8")


def summarise_build(bundle: Bundle) -> dict[str, Any]:
    """Return teacher, student, distillation, artefacts and the experts' verdicts; what was not measured yet is None."""
    manifest = bundle.manifest
    parity = {precision: _find_parity(bundle, precision) for precision in _PRECISIONS}
    return {
        "teacher": {
            "parameters": manifest["teacher"]["parameters"],
            "accuracy": _accuracy_of(parity["teacher"]),
        },
        "student": {
            "parameters": manifest["student"]["parameters"],
            "accuracy": _accuracy_of(parity["fp32"]),
        },
        "distillation": manifest.get("distillation"),
        "artefacts": [
            {"role": role, **entry} for role, entry in manifest["files"].items() if role.startswith("model.")
        ],
        "verdicts": {
            precision: record["verdict"]
            for precision, record in parity.items()
            if record is not None and precision != "teacher"
        },
    }


def _find_parity(bundle: Bundle, precision: str) -> Mapping[str, Any] | None:
    """Read the newest parity record of a precision that is about the model in the bundle now."""
    if not bundle.has(model_role(precision)):
        return None
    sha256 = bundle.model_sha256(model_role(precision))
    for parity in read_records(bundle).parity:  # those that are sound
        if (parity.precision, parity.model_sha256) == (precision, sha256):
            record: Mapping[str, Any] = read_json(bundle.path / parity.name)
            return record
    return None


def _accuracy_of(parity: Mapping[str, Any] | None) -> float | None:
    return None if parity is None else parity["accuracy"]["candidate"]
