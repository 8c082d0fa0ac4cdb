"""The records of a bundle, read for a report: bounded, checked, and a faulty one left out with a sentence that says why."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.records._decisions import ChainRecord, FlipsRecord, parse_chain, parse_flips
from edgedistill_deploy.records._subspace_file import SubspaceRow, read_subspace_rows
from edgedistill_deploy.records._timing import ComparisonRecord, as_samples, extra_sentences, parse_comparison
from edgedistill_deploy.records.layers import LayersRecord, parse_layers
from edgedistill_deploy.records.values import (
    as_count,
    as_interval,
    as_list,
    as_mapping,
    as_number,
    as_share,
    as_text,
    as_texts,
    as_time,
    maybe,
    record_of,
)
from edgedistill_deploy.statistics.quantiles import OpenInterval
from edgedistill_deploy.statistics.verdicts import VERDICTS

MAX_RECORD_BYTES = 32 << 20
MAX_RECORDS = 500  # of a kind
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
    """One metamorphic relation, or one check, of a parity record."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityRecord:
    """What a report shows of a parity record; shares are in [0, 1], drops are teacher minus candidate.

    `placement` counts the nodes that run on each provider, where the runtime tells. `name` is the file's path in the bundle.
    """

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
    diagnosis: tuple[str, ...]
    notes: tuple[str, ...]
    placement: Mapping[str, int] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord:
    """What a report shows of a latency record; times are of one batch, in ms. The clean ones leave out interrupted runs.

    `flags` name what makes the times doubtful, `warnings` say it. `placement` and `name` are as in a parity record.
    """

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
    clean_p50_ms: float | None
    clean_p99_ms: float | None
    conditions: Mapping[str, Any]
    warnings: tuple[str, ...]
    flags: tuple[str, ...] = ()
    placement: Mapping[str, int] | None = None
    name: str = ""
    extras: tuple[str, ...] = ()
    layers: LayersRecord | None = None

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
    comparisons: tuple[ComparisonRecord, ...] = ()
    epochs: tuple[EpochRow, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    subspaces: tuple[SubspaceRow, ...] = ()
    flips: tuple[FlipsRecord, ...] = ()
    chains: tuple[ChainRecord, ...] = ()
    problems: tuple[str, ...] = field(default=())


def read_records(bundle: Bundle) -> Records:
    """Read all records of a bundle. Records of a model file that the bundle no longer has are left out."""
    problems: list[str] = []
    parity = _of_this_bundle(bundle, _read_folder(bundle, "parity", _parity, problems), problems)
    latency = _of_this_bundle(bundle, _read_folder(bundle, "latency", _latency, problems), problems)
    flips = _of_this_bundle(bundle, _read_folder(bundle, "flips", parse_flips, problems), problems)
    chains = _current_chains(bundle, problems)
    ledger = _read_one(bundle.path / "ledger.json", bundle, _ledger, problems)
    epochs = _read_one(bundle.path / "distill" / "metrics.jsonl", bundle, _epochs, problems)
    return Records(
        parity=tuple(parity),
        latency=tuple(latency),
        comparisons=_current_comparisons(bundle, problems),
        epochs=epochs or (),
        ledger=ledger or (),
        subspaces=_subspaces(bundle, problems),
        flips=tuple(flips),
        chains=chains,
        problems=tuple(problems),
    )


def _of_this_bundle(
    bundle: Bundle,
    found: Iterable[tuple[str, "ParityRecord | LatencyRecord | FlipsRecord"]],
    problems: list[str],
) -> list[Any]:
    known = _known_files(bundle)
    kept = []
    for name, record in found:
        if record.model_sha256 in known:
            kept.append(record if isinstance(record, FlipsRecord) else replace(record, name=name))
        else:
            problems.append(
                f"{name} was measured on a model file that the bundle no longer has; it is left out."
            )
    return kept


def _known_files(bundle: Bundle) -> set[str | None]:
    return {entry["sha256"] for entry in bundle.manifest["files"].values()}


def _current_chains(bundle: Bundle, problems: list[str]) -> tuple[ChainRecord, ...]:
    """Return the chains all of whose files the bundle still has."""
    known, kept = _known_files(bundle) | {None}, []
    for name, chain in _read_folder(bundle, "chain", parse_chain, problems):
        if {step.model_sha256 for step in chain.steps} <= known:
            kept.append(chain)
        else:
            problems.append(
                f"{name} was measured on model files that the bundle no longer has; it is left out."
            )
    return tuple(kept)


def _current_comparisons(bundle: Bundle, problems: list[str]) -> tuple[ComparisonRecord, ...]:
    known = {entry["sha256"] for entry in bundle.manifest["files"].values()}
    found = _read_folder(bundle, "latency-comparison", parse_comparison, problems)
    return tuple(each for _, each in found if set(each.model_sha256s) <= known)


def _read_folder(
    bundle: Bundle, kind: str, parse: Callable[[str], T], problems: list[str]
) -> list[tuple[str, T]]:
    paths = sorted((bundle.path / kind).glob("*.json"))
    if len(paths) > MAX_RECORDS:
        problems.append(
            f"{kind} holds {len(paths)} records; {len(paths) - MAX_RECORDS} of them are left out."
        )
        paths = paths[:MAX_RECORDS]
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
    except (OSError, OverflowError, TypeError, ValueError, RecursionError) as error:
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


def _parity(text: str) -> ParityRecord:
    record = record_of(text, "parity")
    accuracy, numeric = as_mapping(record["accuracy"]), as_mapping(record["numeric"])
    if record["verdict"] not in VERDICTS:
        raise ValueError(f"the verdict {record['verdict']!r} is none of {', '.join(VERDICTS)}")
    return ParityRecord(
        device=as_text(record["device"]),
        runtime=as_text(record["runtime"]),
        provider=as_text(record["provider"]),
        precision=as_text(record["precision"]),
        model_sha256=as_text(record["model_sha256"]),
        sample_count=as_count(record["sample_count"]),
        teacher=maybe(accuracy["teacher"], as_share),
        teacher_interval=as_interval(accuracy.get("teacher_interval")),
        candidate=maybe(accuracy["candidate"], as_share),
        candidate_interval=as_interval(accuracy.get("candidate_interval")),
        drop=maybe(accuracy["drop"], as_share),
        interval=as_interval(accuracy["interval"]),
        confidence=as_share(accuracy["confidence"]),
        agreement=as_share(record["agreement"]),
        classes=tuple(_class_row(as_mapping(row)) for row in as_list(record["per_class"])),
        max_abs_error=maybe(numeric.get("max_abs_error")),
        cosine=maybe(numeric.get("cosine")),
        relations=tuple(
            _relation(as_mapping(row))
            for row in (*as_list(record["metamorphic"]), *as_list(record.get("checks") or []))
        ),
        max_drop=as_share(as_mapping(record["limits"])["max_drop"]),
        verdict=as_text(record["verdict"]),
        reasons=as_texts(record.get("reasons")),
        diagnosis=tuple(
            f"{as_text(row['name'])}: {as_text(row['detail'])}"
            for row in map(as_mapping, as_list(record.get("diagnosis") or []))
        ),
        notes=as_texts(record.get("notes")),
        placement=_placement(record.get("placement")),
    )


def _placement(value: Any) -> Mapping[str, int] | None:
    return None if value is None else {name: as_count(count) for name, count in as_mapping(value).items()}


def _class_row(row: Mapping[str, Any]) -> ClassRow:
    return ClassRow(
        name=as_text(row["name"]),
        support=as_count(row["support"]),
        teacher=maybe(row["teacher"], as_share),
        candidate=maybe(row["candidate"], as_share),
        drop=maybe(row["drop"], as_share),
    )


def _relation(row: Mapping[str, Any]) -> Relation:
    return Relation(name=as_text(row["name"]), passed=row["passed"] is True, detail=as_text(row["detail"]))


def _latency(text: str) -> LatencyRecord:
    record = record_of(text, "latency")
    as_text(as_mapping(record["device"])["name"])
    clean = as_mapping(record.get("clean") or {})
    return LatencyRecord(
        device=record["device"],
        runtime=as_text(record["runtime"]),
        provider=as_text(record["provider"]),
        precision=as_text(record["precision"]),
        model_sha256=as_text(record["model_sha256"]),
        batch_size=as_count(record["batch_size"]),
        threads=as_count(record["threads"]),
        warmup_runs=as_count(record["warmup_runs"]),
        samples_ms=as_samples(record["samples_ms"]),
        p50_ms=as_time(record["p50_ms"]),
        p90_ms=as_time(record["p90_ms"]),
        p99_ms=as_time(record["p99_ms"]),
        mean_ms=as_time(record["mean_ms"]),
        throughput_per_s=maybe(record["throughput_per_s"]),
        load_ms=maybe(record["load_ms"], as_time),
        first_run_ms=maybe(record["first_run_ms"], as_time),
        peak_memory_bytes=None
        if record["peak_memory_bytes"] is None
        else as_count(record["peak_memory_bytes"]),
        clean_p50_ms=maybe(clean.get("p50_ms"), as_time),
        clean_p99_ms=maybe(clean.get("p99_ms"), as_time),
        conditions=as_mapping(record["conditions"]),
        warnings=as_texts(record.get("warnings")),
        flags=as_texts(record.get("flags")),
        placement=_placement(record.get("placement")),
        extras=extra_sentences(record),
        layers=parse_layers(record),
    )


def _epochs(text: str) -> tuple[EpochRow, ...]:
    return tuple(_epoch(as_mapping(parse_json(line))) for line in text.splitlines() if line.strip())


def _epoch(row: Mapping[str, Any]) -> EpochRow:
    layers = as_mapping(row.get("loss_layers") or {})
    terms = {"logits": row.get("loss_kd"), "labels": row.get("loss_task"), **layers}
    return EpochRow(
        epoch=as_count(row["epoch"]),
        loss=as_number(row["loss"]),
        terms={name: as_number(value) for name, value in terms.items() if value is not None},
        validation_accuracy=as_share(row["validation_accuracy"]),
        learning_rate=as_number(row["learning_rate"]),
        seconds=as_time(row["seconds"]),
    )


def _ledger(text: str) -> tuple[LedgerRow, ...]:
    return tuple(_ledger_row(as_mapping(step)) for step in as_list(record_of(text, "ledger")["steps"]))


def _ledger_row(step: Mapping[str, Any]) -> LedgerRow:
    return LedgerRow(
        stage=as_text(step["stage"]),
        sample_count=as_count(step["sample_count"]),
        accuracy=as_share(step["accuracy"]),
        agreement=as_share(step["agreement"]),
        sqnr_db=maybe(step["sqnr_db"]),
        nodes=tuple(as_mapping(node) for node in as_list(step.get("nodes") or [])),
    )
