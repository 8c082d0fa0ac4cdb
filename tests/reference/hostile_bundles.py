"""A small real bundle with a file of every kind that is read, and everything that reads one, for feeding it damaged
bytes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from edgedistill_deploy.bundle.folder import GOLDEN_IMAGES, Bundle, open_bundle
from edgedistill_deploy.bundle.reference import read_golden, read_reference
from edgedistill_deploy.diagnosis._input_faults import PIXEL_RANGE
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import sha256_of_file, write_json
from edgedistill_deploy.images.golden import (
    compare_golden_images,
    device_preparation,
    make_golden_images,
    read_golden_images,
    write_golden_images,
)
from edgedistill_deploy.latency.comparison import read_latencies
from edgedistill_deploy.onnx_files.content import read_metadata, read_weights
from edgedistill_deploy.onnx_files.graph import read_graph
from edgedistill_deploy.onnx_files.safety import read_claims, require_bounded, require_listed_data
from edgedistill_deploy.parity.check import check_parity
from edgedistill_deploy.recommendation.choice import record_choices
from edgedistill_deploy.report.page import render_report
from edgedistill_deploy.runtimes.opening import open_session
from reference.measured_bundles import bundle_of
from reference.report_bundles import add_record, add_training, latency_record, parity_record, write_subspaces


def write_full_bundle(folder: Path) -> Path:
    """Make the bundle and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle, _ = bundle_of(folder, [0, 1, 2] * 8, [0, 1, 2] * 8, [0, 1, 2] * 8)
    write_golden_images(bundle.path / "golden-images.npz", make_golden_images(bundle.preprocess))
    bundle = bundle.with_file(GOLDEN_IMAGES, bundle.path / "golden-images.npz")
    (bundle.path / "distill").mkdir(exist_ok=True)
    write_subspaces(bundle.path / "distill" / "subspaces.safetensors", {"layer1": (np.linspace(2, 1, 6), 3)})
    bundle = bundle.with_file("subspaces", bundle.path / "distill" / "subspaces.safetensors")
    bundle = add_training(bundle, epochs=3)
    _describe(bundle.path / "model.fp32.onnx", bundle)
    bundle = bundle.with_file("model.fp32", bundle.path / "model.fp32.onnx")
    _add_records(bundle)
    return bundle.path


def _describe(path: Path, bundle: Bundle) -> None:
    """Give the model the metadata that an exported one has."""
    model = onnx.load(path)
    pixels = {"black": [0.0, 0.0, 0.0], "white": [1.0, 1.0, 1.0]}
    metadata = {
        "edgedistill.class_names": json.dumps(bundle.class_names),
        "edgedistill.preprocess": bundle.preprocess.digest,
        PIXEL_RANGE: json.dumps(pixels),
    }
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())


def _add_records(bundle: Bundle) -> None:
    sha256 = bundle.model_sha256("model.fp32")
    add_record(bundle, parity_record(bundle, "fp32", model_sha256=sha256))
    latency = latency_record(bundle, "fp32", model_sha256=sha256)
    add_record(bundle, {**latency, "samples_ms": latency["samples_ms"][:60]})
    step = {"stage": "int8", "sample_count": 3, "accuracy": 0.9, "agreement": 0.9, "sqnr_db": 30.0}
    write_json(bundle.path / "ledger.json", {"kind": "ledger", "schema": 1, "steps": [step]})


def copy_of(source: Path, folder: Path) -> Path:
    """Copy a bundle over whatever is at `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder


def register_anew(folder: Path) -> None:
    """Do what a forger does: make the manifest say what the files have become."""
    path = folder / "manifest.json"
    if not path.is_file():
        return  # a pipe or a device in its place has no end
    try:
        record = json.loads(path.read_bytes())
        for entry in record["files"].values():
            file = folder / entry["path"]
            if file.exists() and not file.is_file():
                continue
            entry["sha256"], entry["bytes"] = sha256_of_file(file), file.stat().st_size
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        return  # the manifest itself is damaged
    path.write_text(json.dumps(record))


def examine(folder: Path) -> list[str]:
    """Read everything that the product reads of a bundle and return what was refused; any other exception is passed
    on."""
    refused: list[str] = []

    def attempt(read: Callable[[], object]) -> None:
        try:
            read()
        except EdgeDistillError as error:
            refused.append(str(error))

    attempt(lambda: _examine_bundle(folder, attempt))
    for path in sorted(folder.glob("latency/*.json")):
        attempt(lambda path=path: read_latencies(path))  # type: ignore[misc]
    return refused


def _examine_bundle(folder: Path, attempt: Callable[[Callable[[], object]], None]) -> None:
    bundle = open_bundle(folder, verify=False)
    attempt(lambda: open_bundle(folder))
    attempt(lambda: (bundle.class_names, bundle.preprocess.digest, bundle.precisions))
    for role in bundle.manifest["files"]:
        if role.startswith("model."):
            for read in (
                lambda path: require_listed_data(read_claims(path), ()),
                lambda path: require_bounded(read_claims(path)),
                read_metadata,
                read_graph,
                lambda path: list(read_weights(path)),
            ):
                attempt(lambda read=read, role=role: read(bundle.file(role)))  # type: ignore[misc]
    attempt(lambda: read_reference(bundle.file("reference")))
    attempt(lambda: read_golden(bundle.file("golden")))
    attempt(lambda: _examine_golden_images(bundle))
    attempt(lambda: render_report(bundle))
    attempt(lambda: record_choices(bundle))
    attempt(lambda: _validate(bundle))


def _examine_golden_images(bundle: Bundle) -> None:
    golden = read_golden_images(bundle.file(GOLDEN_IMAGES))
    compare_golden_images(golden, device_preparation(bundle.preprocess))


def _validate(bundle: Bundle) -> None:
    with open_session(bundle, threads=1) as session:
        check_parity(bundle, session)
