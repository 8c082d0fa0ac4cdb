"""The records of a bundle, read for a report: bounded, checked, and a faulty one left out with a sentence that says why."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy._records import SCHEMA
from edgedistill_deploy._samples import OpenInterval
from edgedistill_deploy.bundle import Bundle
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.report.subspace_file import SubspaceRow, read_subspace_rows

MAX_RECORD_BYTES = 64 << 20
VERDICTS = ("pass", "fail", "inconclusive")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """One class of a parity record; accuracies are shares, None without labelled images."""

    name: str
    support: int
    teacher: float | None
    candidate: float | None
    drop: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One metamorphic relation of a parity record."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityRecord:
    """What a report shows of a parity record; shares are in [0, 1], drops are teacher minus candidate."""

    device: str
    runtime: str
    provider: str
    precision: str
    model_sha256: str
    sample_count: int
    teacher: float | None
    teacher_interval: OpenInterval
    candidate: float | None
    candidate_interval: OpenInterval
    drop: float | None
    interval: OpenInterval
    confidence: float
    agreement: float
    classes: tuple[ClassRow, ...]
    max_abs_error: float | None
    cosine: float | None
    relations: tuple[Relation, ...]
    max_drop: float
    verdict: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord:
    """What a report shows of a latency record; times are of one batch, in ms."""

    device: Mapping[str, Any]
    runtime: str
    provider: str
    precision: str
    model_sha256: str
    batch_size: int
    threads: int
    warmup_runs: int
    samples_ms: NDArray[np.float64]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    throughput_per_s: float | None
    load_ms: float | None
    first_run_ms: float | None
    peak_memory_bytes: int | None
    conditions: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def device_name(self) -> str:
        """The name parity records know the device by."""
        return str(self.device["name"])


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One line of metrics.jsonl."""

    epoch: int
    loss: float
    terms: Mapping[str, float]
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One step of ledger.json."""

    stage: str
    sample_count: int
    accuracy: float
    agreement: float
    sqnr_db: float | None
    nodes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything that was measured, in a fixed order. `problems` says which records were left out, and why."""

    parity: tuple[ParityRecord, ...] = ()
    latency: tuple[LatencyRecord, ...] = ()
    epochs: tuple[EpochRow, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    subspaces: tuple[SubspaceRow, ...] = ()
    problems: tuple[str, ...] = field(default=())


def read_records(bundle: Bundle) -> Records:
    """Read all records of a bundle. Records of a model file that the bundle no longer has are left out."""
    problems: list[str] = []
    parity = _of_this_bundle(bundle, _read_folder(bundle, "parity", _parity, problems), problems)
    latency = _of_this_bundle(bundle, _read_folder(bundle, "latency", _latency, problems), problems)
    ledger = _read_one(bundle.path / "ledger.json", bundle, _ledger, problems)
    epochs = _read_one(bundle.path / "distill" / "metrics.jsonl", bundle, _epochs, problems)
    return Records(
        parity=tuple(parity),
        latency=tuple(latency),
        epochs=epochs or (),
        ledger=ledger or (),
        subspaces=_subspaces(bundle, problems),
        problems=tuple(problems),
    )


def _of_this_bundle(
    bundle: Bundle, found: Iterable[tuple[str, "ParityRecord | LatencyRecord"]], problems: list[str]
) -> list[Any]:
    known = {entry["sha256"] for entry in bundle.manifest["files"].values()}
    kept = []
    for name, record in found:
        if record.model_sha256 in known:
            kept.append(record)
        else:
            problems.append(
                f"{name} was measured on a model file that the bundle no longer has; it is left out."
            )
    return kept


def _read_folder(
    bundle: Bundle, kind: str, parse: Callable[[str], T], problems: list[str]
) -> list[tuple[str, T]]:
    paths = sorted((bundle.path / kind).glob("*.json"))
    found = [(f"{kind}/{path.name}", _read_one(path, bundle, parse, problems)) for path in paths]
    return [(name, record) for name, record in found if record is not None]


def _read_one(path: Path, bundle: Bundle, parse: Callable[[str], T], problems: list[str]) -> T | None:
    """Parse a file that may be absent; None, and a problem where it is there and unfit."""
    if not path.is_file():
        return None
    name = path.relative_to(bundle.path).as_posix()
    try:
        if not path.resolve().is_relative_to(bundle.path.resolve()):
            raise ValueError("it leads out of the bundle")
        with path.open("rb") as stream:
            content = stream.read(MAX_RECORD_BYTES + 1)
        if len(content) > MAX_RECORD_BYTES:
            raise ValueError(f"it is larger than {MAX_RECORD_BYTES} bytes")
        return parse(content.decode("utf-8"))
    except KeyError as error:
        problems.append(f"{name} is left out: it has no {error.args[0]}.")
    except (OSError, TypeError, ValueError, RecursionError) as error:
        problems.append(f"{name} is left out: {error}.")
    return None


def _subspaces(bundle: Bundle, problems: list[str]) -> tuple[SubspaceRow, ...]:
    if not bundle.has("subspaces"):
        return ()
    try:
        return read_subspace_rows(bundle.file("subspaces"))
    except BundleError as error:
        problems.append(str(error))
        return ()


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _record(text: str, kind: str) -> Mapping[str, Any]:
    record = _mapping(_json(text))
    if record.get("kind") != kind or record.get("schema") != SCHEMA:
        raise ValueError(f"it is not a {kind} record of schema {SCHEMA}")
    return record


def _parity(text: str) -> ParityRecord:
    record = _record(text, "parity")
    accuracy, numeric = _mapping(record["accuracy"]), _mapping(record["numeric"])
    if record["verdict"] not in VERDICTS:
        raise ValueError(f"the verdict {record['verdict']!r} is none of {', '.join(VERDICTS)}")
    return ParityRecord(
        device=_text(record["device"]),
        runtime=_text(record["runtime"]),
        provider=_text(record["provider"]),
        precision=_text(record["precision"]),
        model_sha256=_text(record["model_sha256"]),
        sample_count=_count(record["sample_count"]),
        teacher=_maybe(accuracy["teacher"]),
        teacher_interval=_interval(accuracy.get("teacher_interval")),
        candidate=_maybe(accuracy["candidate"]),
        candidate_interval=_interval(accuracy.get("candidate_interval")),
        drop=_maybe(accuracy["drop"]),
        interval=_interval(accuracy["interval"]),
        confidence=_number(accuracy["confidence"]),
        agreement=_number(record["agreement"]),
        classes=tuple(_class_row(_mapping(row)) for row in _items(record["per_class"])),
        max_abs_error=_maybe(numeric.get("max_abs_error")),
        cosine=_maybe(numeric.get("cosine")),
        relations=tuple(_relation(_mapping(row)) for row in _items(record["metamorphic"])),
        max_drop=_number(_mapping(record["limits"])["max_drop"]),
        verdict=_text(record["verdict"]),
        reasons=_texts(record.get("reasons")),
        notes=_texts(record.get("notes")),
    )


def _class_row(row: Mapping[str, Any]) -> ClassRow:
    return ClassRow(
        name=_text(row["name"]),
        support=_count(row["support"]),
        teacher=_maybe(row["teacher"]),
        candidate=_maybe(row["candidate"]),
        drop=_maybe(row["drop"]),
    )


def _relation(row: Mapping[str, Any]) -> Relation:
    return Relation(name=_text(row["name"]), passed=row["passed"] is True, detail=_text(row["detail"]))


def _latency(text: str) -> LatencyRecord:
    record = _record(text, "latency")
    _text(_mapping(record["device"])["name"])
    return LatencyRecord(
        device=record["device"],
        runtime=_text(record["runtime"]),
        provider=_text(record["provider"]),
        precision=_text(record["precision"]),
        model_sha256=_text(record["model_sha256"]),
        batch_size=_count(record["batch_size"]),
        threads=_count(record["threads"]),
        warmup_runs=_count(record["warmup_runs"]),
        samples_ms=_samples(record["samples_ms"]),
        p50_ms=_number(record["p50_ms"]),
        p90_ms=_number(record["p90_ms"]),
        p99_ms=_number(record["p99_ms"]),
        mean_ms=_number(record["mean_ms"]),
        throughput_per_s=_maybe(record["throughput_per_s"]),
        load_ms=_maybe(record["load_ms"]),
        first_run_ms=_maybe(record["first_run_ms"]),
        peak_memory_bytes=None
        if record["peak_memory_bytes"] is None
        else _count(record["peak_memory_bytes"]),
        conditions=_mapping(record["conditions"]),
        warnings=_texts(record.get("warnings")),
    )


def _samples(values: Any) -> NDArray[np.float64]:
    samples = np.asarray([_number(value) for value in _items(values)], np.float64)
    if len(samples) == 0 or samples.min() < 0:
        raise ValueError("samples_ms must hold times, at least one")
    return samples


def _epochs(text: str) -> tuple[EpochRow, ...]:
    return tuple(_epoch(_mapping(_json(line))) for line in text.splitlines() if line.strip())


def _epoch(row: Mapping[str, Any]) -> EpochRow:
    layers = _mapping(row.get("loss_layers") or {})
    terms = {"logits": row.get("loss_kd"), "labels": row.get("loss_task"), **layers}
    return EpochRow(
        epoch=_count(row["epoch"]),
        loss=_number(row["loss"]),
        terms={name: _number(value) for name, value in terms.items() if value is not None},
        validation_accuracy=_number(row["validation_accuracy"]),
        learning_rate=_number(row["learning_rate"]),
        seconds=_number(row["seconds"]),
    )


def _ledger(text: str) -> tuple[LedgerRow, ...]:
    return tuple(_ledger_row(_mapping(step)) for step in _items(_record(text, "ledger")["steps"]))


def _ledger_row(step: Mapping[str, Any]) -> LedgerRow:
    return LedgerRow(
        stage=_text(step["stage"]),
        sample_count=_count(step["sample_count"]),
        accuracy=_number(step["accuracy"]),
        agreement=_number(step["agreement"]),
        sqnr_db=_maybe(step["sqnr_db"]),
        nodes=tuple(_mapping(node) for node in _items(step.get("nodes") or [])),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{_shown(value)} stands where an object belongs")
    return value


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{_shown(value)} stands where a list belongs")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{_shown(value)} stands where a text belongs")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in _items(value or []))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{_shown(value)} stands where a number belongs")
    return float(value)


def _maybe(value: Any) -> float | None:
    return None if value is None else _number(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{_shown(value)} stands where a count belongs")
    return value


def _interval(value: Any) -> OpenInterval:
    if value is None:
        return None, None
    low, high = _items(value)
    return _maybe(low), _maybe(high)


def _shown(value: Any) -> str:
    return repr(value)[:60]
