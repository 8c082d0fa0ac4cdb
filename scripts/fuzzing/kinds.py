"""All kinds of input."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from fuzzing import bundles, devices, images, predicting, texts
from fuzzing.kind import Kind

KINDS: tuple[Kind, ...] = (
    images.IMAGES,
    bundles.BUNDLES,
    bundles.RECORDS,
    texts.SETTINGS,
    texts.LABELS,
    devices.DEVICES,
    predicting.PREDICTING,
)
# A case is a fork, which inherits what is imported here; nothing of it has run before.
_IMPORTED = (
    "asyncssh",
    "jinja2",
    "onnxruntime",
    "rich.table",
    *(
        f"edgedistill_cli.commands.{name}"
        for name in ("devices", "ledger", "predict", "profile", "report", "training", "validate")
    ),
    *(
        f"edgedistill_cli.bundles.{name}"
        for name in ("bisecting", "decisions", "devices", "predicting", "profiling", "validating")
    ),
    *(f"edgedistill_cli.tables.{name}" for name in ("devices", "latency", "ledger", "parity", "predictions")),
    "edgedistill_deploy.remote.tasks",
    "edgedistill_deploy.report.junit",
    "edgedistill_deploy.report.page",
    "edgedistill_deploy.runtimes._onnxruntime",
)


def build_samples(folder: Path, kinds: Sequence[Kind]) -> Path:
    """Write the sound files of the kinds and return their folder."""
    folder.mkdir(parents=True)
    for module in _IMPORTED:
        importlib.import_module(module)
    for kind in kinds:
        kind.prepare(folder)
    return folder
