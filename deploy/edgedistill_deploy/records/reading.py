"""Reads the records of a bundle for a report. Sizes are bounded; a faulty record is left out with a sentence why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError, DataError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.records._subspace_file import SubspaceRow, read_subspace_rows
from edgedistill_deploy.records._timing import ComparisonRecord, extra_sentences
from edgedistill_deploy.records.answers import AnswersReport
from edgedistill_deploy.records.decisions import ChainRecord, FlipReport
from edgedistill_deploy.records.explanation import ExplanationReport
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.layers import LayerReport
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.schema import Record, Share
from edgedistill_deploy.records.values import as_count, as_mapping, as_number, as_share, as_time

MAX_RECORD_BYTES = 32 << 20
MAX_RECORDS = 500  # of a kind
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityRecord:
    """A parity report, and the path of its file in the bundle."""

    report: ParityReport
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord:
    """A latency report, the path of its file in the bundle, sentences on its other parts, and the time by node."""

    report: LatencyReport
    name: str = ""
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
class Ledger(Record):
    """The part of ledger.json that a page shows."""

    KIND = "ledger"

    steps: tuple[LedgerRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All records in a fixed order. `problems` are sentences about the records that were left out."""

    parity: tuple[ParityRecord, ...] = ()
    latency: tuple[LatencyRecord, ...] = ()
    comparisons: tuple[ComparisonRecord, ...] = ()
    epochs: tuple[EpochRow, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    subspaces: tuple[SubspaceRow, ...] = ()
    answers: tuple[AnswersReport, ...] = ()
    flips: tuple[FlipReport, ...] = ()
    chains: tuple[ChainRecord, ...] = ()
    explanations: tuple[ExplanationReport, ...] = ()
    problems: tuple[str, ...] = ()


def read_records(bundle: Bundle) -> Records:
    """Read all records of a bundle. Records of a model file that the bundle no longer has are left out."""
    problems: list[str] = []
    parity = _current(bundle, "parity", _parity, lambda found: {found.report.model.model_sha256}, problems)
    latency = _current(bundle, "latency", _latency, lambda found: {found.report.model.model_sha256}, problems)
    answers = _current(bundle, "answers", AnswersReport.from_json, lambda found: {found.model.model_sha256}, problems)
    flips = _current(bundle, "flips", FlipReport.from_json, lambda found: {found.model.model_sha256}, problems)
    chains = _current(
        bundle, "chain", ChainRecord.from_json, lambda found: {step.model_sha256 for step in found.steps}, problems
    )
    ledger = _read_one(bundle.path / "ledger.json", bundle, Ledger.from_json, problems)
    metrics = bundle.path / "distill" / "metrics.jsonl"
    epochs = _read_one(metrics, bundle, _epochs, problems, str.splitlines)
    return Records(
        parity=tuple(replace(found, name=name) for name, found in parity),
        latency=tuple(replace(found, name=name) for name, found in latency),
        comparisons=_current_comparisons(bundle, problems),
        epochs=epochs or (),
        ledger=ledger.steps if ledger else (),
        subspaces=_subspaces(bundle, problems),
        answers=tuple(found for _, found in answers),
        flips=tuple(found for _, found in flips),
        chains=tuple(found for _, found in chains),
        explanations=tuple(
            found for _, found in _read_folder(bundle, "explain", ExplanationReport.from_json, problems)
        ),
        problems=tuple(problems),
    )


def _current(
    bundle: Bundle, kind: str, parse: Callable[[Any], T], hashes_of: Callable[[T], set[str | None]], problems: list[str]
) -> list[tuple[str, T]]:
    """Return the records of a kind with the paths of their files; the bundle must still have all their models."""
    known, kept = {*_known_files(bundle), None}, []
    for name, record in _read_folder(bundle, kind, parse, problems):
        if hashes_of(record) <= known:
            kept.append((name, record))
        else:
            what = "model files" if kind == "chain" else "a model file"
            problems.append(f"{name} was measured on {what} that the bundle no longer has; it is left out.")
    return kept


def _known_files(bundle: Bundle) -> set[str]:
    return {entry["sha256"] for entry in bundle.manifest["files"].values()}


def _current_comparisons(bundle: Bundle, problems: list[str]) -> tuple[ComparisonRecord, ...]:
    known = _known_files(bundle)
    found = _read_folder(bundle, "latency-comparison", ComparisonRecord.from_json, problems)
    return tuple(each for _, each in found if all(model.model_sha256 in known for model in each.alternatives))


def _read_folder(bundle: Bundle, kind: str, parse: Callable[[Any], T], problems: list[str]) -> list[tuple[str, T]]:
    paths = sorted((bundle.path / kind).glob("*.json"))
    if len(paths) > MAX_RECORDS:
        problems.append(f"{kind} holds {len(paths)} records; {len(paths) - MAX_RECORDS} of them are left out.")
        paths = paths[:MAX_RECORDS]
    found = [(f"{kind}/{path.name}", _read_one(path, bundle, parse, problems)) for path in paths]
    return [(name, record) for name, record in found if record is not None]


def _read_one(
    path: Path, bundle: Bundle, parse: Callable[[Any], T], problems: list[str], load: Callable[[str], Any] = parse_json
) -> T | None:
    """Parse a file. Return None if it is absent or unfit; an unfit one adds a problem."""
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
        return parse(load(content.decode("utf-8")))
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


def _parity(document: Any) -> ParityRecord:
    return ParityRecord(report=ParityReport.from_json(document))


def _latency(document: Any) -> LatencyRecord:
    report, layers = LatencyReport.from_json(document), LayerReport.from_record(document)
    return LatencyRecord(report=report, extras=extra_sentences(document), layers=layers)


def _epochs(lines: list[str]) -> tuple[EpochRow, ...]:
    return tuple(_epoch(as_mapping(parse_json(line))) for line in lines if line.strip())


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
