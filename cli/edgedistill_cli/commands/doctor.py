"""`doctor`: what this machine can run, and what would install the rest."""

from edgedistill_cli import options

# library: (extra, what it is for)
LIBRARIES = {
    "torch": ("distill", "distillation and export"),
    "timm": ("distill", "teachers and students"),
    "accelerate": ("distill", "distillation on any device"),
    "onnx": ("quantize", "export and calibration"),
    "onnxruntime": ("ort", "validate and profile"),
    "tensorrt": ("tensorrt", "engines on NVIDIA devices"),
    "jinja2": ("report", "the HTML report"),
    "asyncssh": ("remote", "devices over SSH"),
}


def doctor(
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Say what this machine can run, what is missing, and the command that installs it. Installs nothing."""
    import contextlib
    from importlib import metadata

    from edgedistill_deploy.device import read_device

    console = options.console_of(as_json, quiet, verbose)
    rows = []
    for library, (extra, purpose) in LIBRARIES.items():
        found: str | None = None
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.version(library)
        rows.append({"library": library, "version": found, "purpose": purpose, "extra": extra})
    console.emit({"kind": "doctor", "schema": 1, "device": read_device().to_json(), "libraries": rows})
    console.table(
        read_device().name,
        ("library", "version", "for"),
        [(str(row["library"]), row["version"] or "missing", str(row["purpose"])) for row in rows],
    )
    for row in rows:
        if not row["version"]:
            console.result(f"{row['library']}: pip install 'edgedistill[{row['extra']}]'")
