"""`doctor`: what this machine can run, and how to install the rest."""

from typing import TYPE_CHECKING

from edgedistill_cli.console import Console

if TYPE_CHECKING:
    from edgedistill_deploy.records.model import Int8Kernels

# library: (extra, purpose)
LIBRARIES = {
    "torch": ("distill", "distillation and export"),
    "timm": ("distill", "teachers and students"),
    "transformers": ("transformers", "teachers of Hugging Face's transformers"),
    "accelerate": ("distill", "distillation on any device"),
    "onnx": ("quantize", "export and calibration"),
    "onnxruntime": ("ort", "validate and profile"),
    "tensorrt": ("tensorrt", "engines on NVIDIA devices"),
    "jinja2": ("report", "the HTML report"),
    "matplotlib": ("report", "the report's charts, and the pictures of compare and inspect"),
    "asyncssh": ("remote", "devices over SSH"),
    "datasets": ("hf", "data sets of Hugging Face's hub"),
    "pyarrow": ("parquet", "images and tables in Parquet files"),
    "fsspec": ("http", "images on servers"),
}

# Packages that bring the same library, with other providers.
_IN_PLACE_OF = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")}

# What ONNX Runtime's INT8 kernels do here, as the end of a line.
_KERNELS: "dict[Int8Kernels | None, str]" = {
    None: "",
    "exact": " ONNX Runtime computes INT8 exactly.",
    "made_exact": " ONNX Runtime computes INT8 exactly by slower kernels, which EdgeDistill asks for.",
    "saturating": " ONNX Runtime's INT8 kernels saturate here: install a newer one, or deploy fp32.",
}


def doctor(console: Console) -> None:
    """Say what this machine can run, what is missing, and the command that installs it. Installs nothing."""
    from edgedistill_deploy.hardware.device import read_device
    from edgedistill_deploy.hardware.int8_outlook import int8_outlook, outlook_sentence

    rows = []
    for library, (extra, purpose) in LIBRARIES.items():
        rows.append({"library": library, "version": _find_version(library), "purpose": purpose, "extra": extra})
    device, kernels = read_device(), _int8_kernels()
    outlook = int8_outlook(device.int8_instructions, device.architecture)
    console.emit(
        {
            "kind": "doctor",
            "schema": 1,
            "device": device.to_json(),
            "libraries": rows,
            "int8_kernels": kernels,
            "int8_outlook": outlook,
        }
    )
    console.table(
        device.name,
        ("library", "version", "for"),
        [(str(row["library"]), row["version"] or "missing", str(row["purpose"])) for row in rows],
    )
    for row in rows:
        if not row["version"]:
            console.result(f"{row['library']}: pip install 'edgedistill[{row['extra']}]'")
    console.result(outlook_sentence(device.int8_instructions, device.architecture) + _KERNELS.get(kernels, ""))


def _find_version(library: str) -> str | None:
    """Return the version of an installed library, with the name of its package where that is another one."""
    from importlib import metadata

    for package in (library, *_IN_PLACE_OF.get(library, ())):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        return version if package == library else f"{version} ({package})"
    return None


def _int8_kernels() -> "Int8Kernels | None":
    """Return how ONNX Runtime's INT8 kernels compute here; None if it is not installed or the probe fails."""
    from edgedistill_deploy.errors import EdgeDistillError
    from edgedistill_deploy.runtimes.opening import probe_int8_kernels

    try:
        return probe_int8_kernels()
    except EdgeDistillError:
        return None
