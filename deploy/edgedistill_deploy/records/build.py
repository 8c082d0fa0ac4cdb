"""The result of a build: the models in its bundle, and how good they are."""

from collections.abc import Mapping
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import USUAL_PRECISIONS, find_role
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.statistics.verdicts import worst_verdict


def summarise_build(bundle: Bundle) -> dict[str, Any]:
    """Return teacher, student, distillation, artefacts and the experts' verdicts; what was not measured is None."""
    manifest = bundle.manifest
    parity = {precision: _find_parity(bundle, precision) for precision in USUAL_PRECISIONS}
    verdicts = {name: record["verdict"] for name, record in parity.items() if record and name != "teacher"}
    return {
        "teacher": {"parameters": manifest["teacher"]["parameters"], "accuracy": _accuracy_of(parity["teacher"])},
        "student": {
            "parameters": manifest["student"]["parameters"],
            "accuracy": _accuracy_of(parity["fp32"]),
            "agreement": parity["fp32"]["agreement"] if parity["fp32"] else None,
        },
        "distillation": manifest.get("distillation"),
        "rivals": manifest.get("rivals"),
        "artefacts": [
            {"role": role, **entry} for role, entry in manifest["files"].items() if role.startswith("model.")
        ],
        "verdicts": verdicts,
        "verdict": worst_verdict(verdicts.values()) if verdicts else None,
    }


def _find_parity(bundle: Bundle, precision: str) -> Mapping[str, Any] | None:
    """Read the parity record of a precision that is about the model in the bundle now; one from `cpu` if it can be.

    A build asks for no other provider, so what another one does with a file does not change what the build says of it.
    """
    role = find_role(bundle.manifest["files"], precision)
    if role is None:
        return None
    sha256 = bundle.model_sha256(role)
    # `sorted` keeps the order of the others.
    for parity in sorted(read_records(bundle).parity, key=lambda each: each.report.model.provider != "cpu"):
        model = parity.report.model
        if (model.precision, model.model_sha256) == (precision, sha256):
            record: Mapping[str, Any] = read_json(bundle.path / parity.name)
            return record
    return None


def _accuracy_of(parity: Mapping[str, Any] | None) -> float | None:
    return None if parity is None else parity["accuracy"]["candidate"]
