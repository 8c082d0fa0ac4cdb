"""A bundle with every kind of record, made by hand: the report reads records only, so no model has to run."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.files.writing import write_json, write_text
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.records.writing import record_path
from edgedistill_deploy.statistics.paired import drop_interval, mcnemar_p, wilson_interval

DIGITS = tuple("0123456789")
ROLES = {"teacher": "teacher.fp32", "fp32": "model.fp32", "int8": "model.int8"}
SIZES = {"teacher": 5_120_000, "fp32": 412_000, "int8": 118_000}

POWER = {
    "reader": "ina3221",
    "scope": "whole module",
    "idle": {"mean_w": 4.0},
    "load": {"mean_w": 9.5},
    "runs": 100,
    "batch_size": 1,
    "net_w": 5.5,
    "net_interval_w": [5.25, 5.75],
    "energy_per_image_mj": 11.0,
    "gross_energy_per_image_mj": 19.0,
    "reason": None,
}


def models_only(folder: Path, class_names: Sequence[str] = DIGITS, name: str = "digits") -> Bundle:
    """Make a bundle that has models (of arbitrary bytes) and no record."""
    bundle = create_bundle(
        folder,
        subtask={"name": name, "class_names": list(class_names), "class_indices": list(range(len(class_names)))},
        preprocess=Preprocess(size=(64, 64)),
        teacher={
            "name": "embedded:glyphs100",
            "parameters": 1_272_036,
            "multiply_adds": 38_400_000,
            "weights_sha256": "ab" * 32,
        },
        student={"name": "timm:resnet18", "parameters": 98_410, "multiply_adds": 4_120_000},
        provenance={"edgedistill": "0.1.0", "torch": "2.14.1", "onnx": "1.23.2"},
    )
    for precision, role in ROLES.items():
        path = folder / f"{role}.onnx"
        path.write_bytes(precision.encode() * (SIZES[precision] // len(precision)))
        bundle = bundle.with_file(role, path)
    return bundle


def parity_record(
    bundle: Bundle, precision: str, *, lost: int = 20, gained: int = 12, count: int = 2000, **changes: Any
) -> dict[str, Any]:
    """Return a parity record of a model that loses and gains so many images; `changes` replace fields."""
    teacher_right = round(0.953 * count)
    right = teacher_right - lost + gained
    low, high = drop_interval(lost, gained, count, 0.95)
    record = {
        "kind": "parity",
        "schema": 1,
        "bundle": "bundle",
        "device": "workbench",
        "runtime": "onnxruntime",
        "provider": "cpu",
        "precision": precision,
        "model_sha256": bundle.model_sha256(ROLES[precision]),
        "sample_count": count,
        "unknown_count": 0,
        "answered_count": 0,
        "accuracy": {
            "labelled_count": count,
            "teacher": teacher_right / count,
            "teacher_interval": wilson_interval(teacher_right, count, 0.95),
            "candidate": right / count,
            "candidate_interval": wilson_interval(right, count, 0.95),
            "drop": (lost - gained) / count,
            "interval": [low, high],
            "confidence": 0.95,
            "lost_count": lost,
            "gained_count": gained,
            "mcnemar_p": mcnemar_p(lost, gained),
        },
        "agreement": 1 - (lost + gained) / count,
        "agreement_interval": wilson_interval(count - lost - gained, count, 0.95),
        "mean_kl": 0.021,
        "confidence_calibration": {"teacher": 0.012, "candidate": 0.019, "bins": 15, "binning": "equal-width"},
        "class_statistics": {
            "tested_count": len(bundle.class_names),
            "correction": "holm",
            "interval_correction": "bonferroni",
            "interval_confidence": 1 - 0.05 / len(bundle.class_names),
        },
        "per_class": _classes(bundle.class_names, count, lost, gained),
        "numeric": {"max_abs_error": 3.2e-6, "cosine": 0.999998, "tolerance": 0.1, "image_count": 16},
        "metamorphic": [
            {"name": name, "passed": True, "detail": "8 images.", "inputs": []}
            for name in ("row-permutation", "batch-size", "identical-rows", "determinism")
        ],
        "checks": [{"name": "golden_images", "passed": True, "detail": "6 files."}],
        "not_checked": [],
        "limits": {
            "max_drop": 0.02,
            "confidence": 0.95,
            "max_class_drop": None,
            "min_agreement": None,
            "allowed_classes": [],
            "strict": False,
        },
        "verdict": "pass",
        "reasons": [f"The accuracy drops by {100 * (lost - gained) / count:.2f} %, below the limit of 2.00 %."],
        "images_to_decide": None,
        "class_findings": [],
        "notes": [],
        "diagnosis": [],
        "preprocess_drift": None,
        "in_domain": None,
        "placement": None,
        "int8_instructions": ["AVX-VNNI"],
        "int8_kernels": "exact" if precision.startswith("int8") else None,
    }
    return {**record, **changes}


def with_layers(bundle: Bundle, **changes: Any) -> dict[str, Any]:
    """Return a latency record with the times of twelve nodes, n0 of layer0 the fastest."""
    nodes = [
        {
            "node": f"n{place}",
            "op_type": "Conv",
            "module": f"layer{place}",
            "mean_ms": 0.01 * (place + 1),
            "share": 0.01 * (place + 1),
            "provider": "cpu",
        }
        for place in reversed(range(12))
    ]
    run = {"source": "ONNX Runtime's profiler", "runs": 5, "mean_ms": 1.0, "outside_ms": 0.22, "outside_share": 0.22}
    return latency_record(bundle, "fp32", layers=nodes, layer_run=run, **changes)


def _classes(names: Sequence[str], count: int, lost: int, gained: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(lost)
    support = count // len(names)
    changes = (
        random.multinomial(lost, [1 / len(names)] * len(names)),
        random.multinomial(gained, [1 / len(names)] * len(names)),
    )
    return [
        {
            "name": name,
            "support": support,
            "teacher": 0.9,
            "candidate": 0.9 - (int(minus) - int(plus)) / support,
            "drop": (int(minus) - int(plus)) / support,
            "interval": drop_interval(int(minus), int(plus), support, 1 - 0.05 / len(names)),
            "lost_count": int(minus),
            "gained_count": int(plus),
            "mcnemar_p": mcnemar_p(int(minus), int(plus)),
            "adjusted_p": 1.0,
            "significantly_worse": False,
            "answer_count": support,
            "unlabelled": None,
        }
        for name, minus, plus in zip(names, *changes, strict=True)
    ]


def latency_record(bundle: Bundle, precision: str, *, median_ms: float = 0.2, **changes: Any) -> dict[str, Any]:
    """Return a latency record whose samples spread log-normally, with a few slow runs."""
    random = np.random.default_rng(round(median_ms * 1e6))
    samples = median_ms * np.exp(0.06 * random.standard_normal(3000))
    samples[random.random(3000) < 0.02] *= 1.6
    p50, p90, p99 = (float(value) for value in np.quantile(samples, [0.5, 0.9, 0.99]))
    moment = {
        "clock": {"cpu0_mhz": 2400.0, "cpu1_mhz": 2400.0},
        "governor": "performance",
        "temperature": None,
        "throttling": None,
        "power_mode": None,
        "load": {"1min": 0.41, "5min": 0.38, "15min": 0.3},
        "pressure": {"some_avg10": 0.4},
        "stolen_s": 1.0,
        "memory_available_bytes": 3_000_000_000,
    }
    record = {
        "kind": "latency",
        "schema": 1,
        "bundle": "bundle",
        "device": {
            "name": "workbench",
            "board": None,
            "cpu": "Example Processor 9",
            "architecture": "x86_64",
            "cpu_count": 2,
            "memory_bytes": 8_000_000_000,
            "accelerator": None,
            "system": "Debian GNU/Linux 12",
            "kernel": "6.1.0",
            "board_release": None,
            "virtual": True,
            "emulated": False,
            "python": "3.11.7",
            "libraries": {"numpy": "2.4.6", "onnxruntime": "1.32.0"},
            "int8_instructions": ["AVX-VNNI"],
        },
        "int8_kernels": "exact" if precision.startswith("int8") else None,
        "runtime": "onnxruntime",
        "provider": "cpu",
        "precision": precision,
        "model_sha256": bundle.model_sha256(ROLES[precision]),
        "batch_size": 1,
        "threads": 1,
        "warmup_runs": 250,
        "runs": len(samples),
        "samples_ms": samples.tolist(),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "intervals": {"p50_ms": [0.99 * p50, 1.01 * p50], "p90_ms": [p50, p99], "p99_ms": [p90, None]},
        "mean_ms": float(samples.mean()),
        "std_ms": float(samples.std(ddof=1)),
        "min_ms": float(samples.min()),
        "throughput_per_s": 1000 / float(samples.mean()),
        "load_ms": 14.2,
        "first_run_ms": 3 * median_ms,
        "loop_overhead_ms": 0.0001,
        "preempted_share": 1 - 2900 / 3000,
        "clean": {"runs": 2900, "p50_ms": p50, "p90_ms": p90, "p99_ms": 0.9 * p99, "mean_ms": p50},
        "peak_memory_bytes": 96_000_000,
        "model_bytes": SIZES[precision],
        "conditions": {"before": moment, "after": {**moment, "load": {"1min": 1.02, "5min": 0.5, "15min": 0.3}}},
        "flags": [],
        "warnings": [],
        "placement": None,
        "warmup": {"runs": 250, "seconds": 1.0, "steady": True, "rule": "Two quarters within 5 %."},
        "modes": None,
        "engine_bytes": None,
    }
    return {**record, **changes}


def add_record(bundle: Bundle, record: Mapping[str, Any]) -> Path:
    """Write a parity or latency record where the product does."""
    path = record_path(bundle.path, record)
    write_json(path, record)
    return path


def add_training(bundle: Bundle, epochs: int = 30) -> Bundle:
    """Write training curves and what distillation notes in the manifest."""
    rows = [
        {
            "epoch": epoch,
            "loss": 3.1 * 0.9**epoch + 0.4,
            "loss_kd": 2.2 * 0.88**epoch + 0.1,
            "loss_task": 0.0,
            "loss_layers": {f"layer{stage}": (0.2 + 0.1 * stage) * 0.95**epoch for stage in (1, 2, 3, 4)},
            "validation_accuracy": 0.952 - 0.5 * 0.8**epoch + 0.004 * float(np.sin(3 * epoch)),
            "learning_rate": 1e-3,
            "seconds": 2.4,
        }
        for epoch in range(epochs)
    ]
    write_text(bundle.path / "distill" / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return bundle.with_fields(
        distillation={
            "best_epoch": epochs - 1,
            "epochs": epochs,
            "validation_accuracy": rows[-1]["validation_accuracy"],
            "teacher_validation_accuracy": 0.961,
            "pairs": [{"teacher": f"layer{stage}", "student": f"layer{stage}"} for stage in (1, 2, 3, 4)],
            "images": {"train": 8620, "validation": 2930},
            "notes": [],
        },
        stages={
            "distill": {"status": "done", "seconds": 84.2, "key": "k"},
            "export": {"status": "done", "seconds": 9.7, "key": "k"},
        },
    )


def write_subspaces(
    path: Path, layers: Mapping[str, tuple[NDArray[np.float64], int]], sample_count: int = 172_400
) -> None:
    """Write eigenvalues (D,) and a rank per layer in the safetensors format, spelt out by its published definition."""
    tensors: dict[str, tuple[str, NDArray[Any]]] = {}
    for layer, (eigenvalues, rank) in layers.items():
        tensors[f"{layer}/basis"] = ("F64", np.zeros((len(eigenvalues), rank)))
        tensors[f"{layer}/eigenvalues"] = ("F64", eigenvalues.astype("<f8"))
        tensors[f"{layer}/sample_count"] = ("I64", np.array(sample_count, "<i8"))
    header: dict[str, Any] = {"__metadata__": {"format": "edgedistill-subspaces-1"}}
    payload = b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(payload), len(payload) + len(raw)],
        }
        payload += raw
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def add_ledger(bundle: Bundle) -> None:
    """Write a ledger of two steps."""
    steps = [
        {
            "stage": "fp32",
            "model_sha256": "0" * 64,
            "sample_count": 256,
            "accuracy": 0.957,
            "agreement": 1.0,
            "sqnr_db": None,
            "nodes": [],
        },
        {
            "stage": "int8",
            "model_sha256": "1" * 64,
            "sample_count": 256,
            "accuracy": 0.953,
            "agreement": 0.988,
            "sqnr_db": 31.2,
            "nodes": [{"name": "conv1", "sqnr_db": 24.25}],
        },
    ]
    write_json(bundle.path / "ledger.json", {"kind": "ledger", "schema": 1, "steps": steps})


def full_bundle(folder: Path, class_names: Sequence[str] = DIGITS, name: str = "digits") -> Bundle:
    """Make a bundle with every kind of record, whose experts pass."""
    bundle = add_training(models_only(folder, class_names, name))
    falling = {
        f"layer{stage}": (8.0 * np.exp(-np.arange(32 * stage) / (4.0 * stage)), 8 * stage) for stage in (1, 2, 3, 4)
    }
    write_subspaces(folder / "distill" / "subspaces.safetensors", falling)
    bundle = bundle.with_file("subspaces", folder / "distill" / "subspaces.safetensors")
    add_ledger(bundle)
    for precision, lost, gained, median_ms in (
        ("teacher", 0, 0, 1.31),
        ("fp32", 24, 15, 0.182),
        ("int8", 29, 14, 0.094),
    ):
        add_record(bundle, parity_record(bundle, precision, lost=lost, gained=gained))
        add_record(bundle, latency_record(bundle, precision, median_ms=median_ms))
    return bundle
