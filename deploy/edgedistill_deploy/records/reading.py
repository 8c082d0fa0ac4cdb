"""The records of a bundle, read for a report: bounded, checked, and a faulty one left out with a sentence that says why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError, DataError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.records._subspace_file import SubspaceRow, read_subspace_rows
from edgedistill_deploy.records._timing import ComparisonRecord, extra_sentences, parse_comparison
from edgedistill_deploy.records.decisions import ChainRecord, FlipReport
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.layers import LayerReport
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.schema import Share, read_as
from edgedistill_deploy.records.values import (
    as_count,
    as_list,
    as_mapping,
    as_number,
    as_share,
    as_time,
    record_of,
)

MAX_RECORD_BYTES = 32 << 20
MAX_RECORDS = 500  # of a kind
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityRecord:
    """A parity report, and the path of its file in the bundle."""

    name: str
    report: ParityReport


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord:
    """A latency report, and the path of its file in the bundle; what else the file tells, in sentences; and the time by node."""

    name: str
    report: LatencyReport
    extras: tuple[str, ...] = ()
    layers: LayerReport | None = None


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
    accuracy: Share
    agreement: Share
    sqnr_db: float | None
    nodes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything that was measured, in a fixed order. `problems` says which records were left out, and why."""

    parity: tuple[ParityRecord, ...] = ()
    latency: tuple[LatencyRecord, ...] = ()
    comparisons: tuple[ComparisonRecord, ...] = ()
    epochs: tuple[EpochRow, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    subspaces: tuple[SubspaceRow, ...] = ()
    flips: tuple[FlipReport, ...] = ()
    chains: tuple[ChainRecord, ...] = ()
    problems: tuple[str, ...] = field(default=())


def read_records(bundle: Bundle) -> Records:
    """Read all records of a bundle. Records of a model file that the bundle no longer has are left out."""
    problems: list[str] = []
    parity = _current(bundle, "parity", _parity, lambda found: {found.report.model.model_sha256}, problems)
    latency = _current(bundle, "latency", _latency, lambda found: {found.report.model.model_sha256}, problems)
    flips = _current(bundle, "flips", _flips, lambda found: {found.model.model_sha256}, problems)
    chains = _current(
        bundle, "chain", _chain, lambda found: {step.model_sha256 for step in found.steps}, problems
    )
    ledger = _read_one(bundle.path / "ledger.json", bundle, _ledger, problems)
    epochs = _read_one(bundle.path / "distill" / "metrics.jsonl", bundle, _epochs, problems)
    return Records(
        parity=parity,
        latency=latency,
        comparisons=_current_comparisons(bundle, problems),
        epochs=epochs or (),
        ledger=ledger or (),
        subspaces=_subspaces(bundle, problems),
        flips=flips,
        chains=chains,
        problems=tuple(problems),
    )


def _current(
    bundle: Bundle,
    kind: str,
    parse: Callable[[str, str], T],
    hashes_of: Callable[[T], set[str | None]],
    problems: list[str],
) -> tuple[T, ...]:
    """Return the records of a kind all of whose model files the bundle still has."""
    known, kept = {*_known_files(bundle), None}, []
    for name, record in _read_folder(bundle, kind, parse, problems):
        if hashes_of(record) <= known:
            kept.append(record)
        else:
            what = "model files" if kind == "chain" else "a model file"
            problems.append(f"{name} was measured on {what} that the bundle no longer has; it is left out.")
    return tuple(kept)


def _known_files(bundle: Bundle) -> set[str]:
    return {entry["sha256"] for entry in bundle.manifest["files"].values()}


def _current_comparisons(bundle: Bundle, problems: list[str]) -> tuple[ComparisonRecord, ...]:
    found = _read_folder(bundle, "latency-comparison", _comparison, problems)
    return tuple(each for _, each in found if set(each.model_sha256s) <= _known_files(bundle))


def _read_folder(
    bundle: Bundle, kind: str, parse: Callable[[str, str], T], problems: list[str]
) -> list[tuple[str, T]]:
    paths = sorted((bundle.path / kind).glob("*.json"))
    if len(paths) > MAX_RECORDS:
        problems.append(
            f"{kind} holds {len(paths)} records; {len(paths) - MAX_RECORDS} of them are left out."
        )
        paths = paths[:MAX_RECORDS]
    found = [(f"{kind}/{path.name}", _read_one(path, bundle, parse, problems)) for path in paths]
    return [(name, record) for name, record in found if record is not None]


def _read_one(path: Path, bundle: Bundle, parse: Callable[[str, str], T], problems: list[str]) -> T | None:
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
        return parse(name, content.decode("utf-8"))
    except KeyError as error:
        problems.append(f"{name} is left out: it has no {error.args[0]}.")
    except (OSError, OverflowError, TypeError, ValueError, RecursionError, DataError) as error:
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


def _parity(name: str, text: str) -> ParityRecord:
    return ParityRecord(name=name, report=ParityReport.from_json(parse_json(text)))


def _latency(name: str, text: str) -> LatencyRecord:
    document = parse_json(text)
    report = LatencyReport.from_json(document)
    return LatencyRecord(
        name=name, report=report, extras=extra_sentences(document), layers=LayerReport.from_record(document)
    )


def _flips(_: str, text: str) -> FlipReport:
    return FlipReport.from_json(parse_json(text))


def _chain(_: str, text: str) -> ChainRecord:
    return ChainRecord.from_json(parse_json(text))


def _comparison(_: str, text: str) -> ComparisonRecord:
    return parse_comparison(text)


def _epochs(_: str, text: str) -> tuple[EpochRow, ...]:
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


def _ledger(_: str, text: str) -> tuple[LedgerRow, ...]:
    return tuple(read_as(LedgerRow, step) for step in as_list(record_of(text, "ledger")["steps"]))
