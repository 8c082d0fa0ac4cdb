"""Show a bundle, or a record from any source, as tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedistill_cli.bundles.decisions import show_chain
from edgedistill_cli.console import Console
from edgedistill_cli.tables.devices import show_check
from edgedistill_cli.tables.explanation import show_explanation
from edgedistill_cli.tables.latency import show_profile
from edgedistill_cli.tables.ledger import show_ledger
from edgedistill_cli.tables.parity import show_choices, show_parity, show_summary
from edgedistill_cli.tables.predictions import show_predictions
from edgedistill_cli.tables.shortcuts import show_shortcuts
from edgedistill_cli.tables.values import show_values
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.manifest import MANIFEST
from edgedistill_deploy.errors import BundleError, DataError, quote_value, reading
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.recommendation.summary import label_of
from edgedistill_deploy.records.answers import AnswersReport
from edgedistill_deploy.records.decisions import ChainRecord, FlipReport
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.records.writing import SCHEMA

Document = Mapping[str, Any]

_LEDGER_NODES = 8
_MOST_FLIPS = 20
_MOST_NAMES = 8
_AS_REGISTERED = "as registered"


def show_anything(path: Path, console: Console) -> None:
    """Print a bundle, named by its folder or its manifest, or a record. Raises DataError where nothing is there."""
    if not path.exists():
        raise DataError(
            f"There is no bundle and no record {path}; name a run folder, or a file such as a parity record."
        )
    if path.is_file() and path.name != MANIFEST:
        show_record(path, console)
    else:
        show_bundle(path.parent if path.is_file() else path, console)


def show_bundle(path: Path, console: Console) -> None:
    """Print a bundle's classes, models, figures, choices and files, and say which files are not the registered ones.

    Raises BundleError for a folder that is no bundle.
    """
    bundle = open_bundle(path, verify=False)
    files = {role: (entry, _state_of(bundle, role)) for role, entry in bundle.manifest["files"].items()}
    problems = read_records(bundle).problems
    console.emit(_bundle_record(bundle, files, problems))
    manifest = bundle.manifest
    console.table(
        bundle.name,
        ["", "what it is"],
        [
            ["classes", _describe_classes(bundle.class_names)],
            ["made from", str(manifest["teacher"].get("name", words.MISSING))],
            ["expert", str(manifest["student"].get("name", words.MISSING))],
            ["input", "{} x {} pixels".format(*bundle.preprocess.size)],
        ],
    )
    if bundle.precisions:
        show_summary(bundle, console)
        show_choices(bundle, console)
    rows = [[role, str(entry["path"]), words.size(entry["bytes"]), state] for role, (entry, state) in files.items()]
    console.table("Files", ["role", "file", "size", "state"], rows)
    for sentence in problems:
        console.result(sentence)


def _describe_classes(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:_MOST_NAMES])}{', ...' if len(names) > _MOST_NAMES else ''})"


def _state_of(bundle: Bundle, role: str) -> str:
    try:
        bundle.file(role)
    except BundleError as error:
        return "missing" if "is missing" in str(error) else "changed or refused"
    return _AS_REGISTERED


def _bundle_record(
    bundle: Bundle, files: Mapping[str, tuple[Document, str]], problems: Sequence[str]
) -> dict[str, Any]:
    kept = ("subtask", "preprocess", "teacher", "student", "provenance", "stages", "choices")
    return {
        "kind": "bundle-summary",
        "schema": SCHEMA,
        "bundle": bundle.name,
        **{name: bundle.manifest.get(name, {}) for name in kept},
        "files": {role: {**entry, "state": state} for role, (entry, state) in files.items()},
        "problems": list(problems),
    }


def show_record(path: Path, console: Console) -> None:
    """Print a record as the command prints it that made it; records without tables of their own as their values.

    Raises DataError for a file that is no record, or a damaged one.
    """
    record = _read(path)
    show = _VIEWS.get(str(record["kind"]), show_values)
    # Without output first, so that a damaged record prints nothing.
    _require_whole(path, lambda: show(record, replace(console, as_json=True, quiet=True)))
    console.emit(record)
    show(record, console)


def _require_whole(path: Path, look: Callable[[], None]) -> None:
    try:
        look()
    except DataError as error:
        raise DataError(f"{path} is damaged: {str(error).rstrip('.')}.") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {quote_value(str(error))}).") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with reading(path):
            record = read_json(path)
    except ValueError as error:
        raise DataError(
            f"{path} is not a record: it is no JSON ({' '.join(str(error).split())}); give a file such as "
            "parity/NAME.json, latency/NAME.json or ledger.json of a bundle."
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise DataError(f'{path} is not a record: it is no JSON object with a "kind".')
    if record.get("schema") != SCHEMA:
        raise DataError(f"{path} has schema {quote_value(record.get('schema'))}; this EdgeDistill reads {SCHEMA}.")
    return record


def _records_in(record: Document) -> list[Document]:
    """Return the records of a set, or the record itself. Raises ValueError for a set without records."""
    if "records" not in record:
        return [record]
    records = record["records"]
    if not isinstance(records, list) or not records:
        raise ValueError("it holds no records")
    return records


def _show_parity(record: Document, console: Console) -> None:
    show_parity([ParityReport.from_json(each) for each in _records_in(record)], console)


def _show_latency(record: Document, console: Console) -> None:
    records = _records_in(record)
    for each in records:
        LatencyReport.from_json(each)  # its sentences are clearer than a missing key
    show_profile({"comparison": record.get("comparison"), "records": records}, console)


def _show_chain(record: Document, console: Console) -> None:
    show_chain(ChainRecord.from_json(record).steps, console)


def _show_ledger(record: Document, console: Console) -> None:
    show_ledger(record, console, _LEDGER_NODES)


def _show_answers(record: Document, console: Console) -> None:
    report = AnswersReport.from_json(record)
    truth = "it is" if report.truth == "label" else "the teacher says"
    title = f"{label_of(report.model.precision)}: what it confuses, on {report.judged_count} images"
    if not report.pairs:
        console.result(f"{title}: nothing.")
        return
    console.table(
        title,
        [truth, "the expert says", "images", "of", "the teacher confuses"],
        [
            [each.truth, each.answer, *map(words.whole, (each.candidate_count, each.support, each.teacher_count))]
            for each in report.pairs[:_MOST_FLIPS]
        ],
    )


def _show_flips(record: Document, console: Console) -> None:
    for report in map(FlipReport.from_json, _records_in(record)):
        title = (
            f"{label_of(report.model.precision)}: {report.flip_count} of {report.sample_count} images are decided "
            "differently"
        )
        if not report.flips:
            console.result(f"{title}.")
            continue
        console.table(
            title,
            ["image", "label", "teacher", "expert", "probability", "outcome"],
            [
                [
                    flip.name,
                    flip.label or words.MISSING,
                    flip.teacher,
                    flip.candidate,
                    words.percent(flip.candidate_probability),
                    flip.outcome.replace("_", " "),
                ]
                for flip in report.flips[:_MOST_FLIPS]
            ],
        )


def _show_several(record: Document, console: Console) -> None:
    """Print each bundle as alone, below its name; the failure of one that could not be judged is a sentence."""
    for each in record["bundles"]:
        console.result(f"{each['bundle']}: {each['verdict']}")
        if each["kind"] == "bundle-set":
            raise ValueError("a set of bundles is an entry of another")
        if each["kind"] == "failure":
            console.result(str(each["error"]))
        else:
            _VIEWS.get(each["kind"], show_values)(each, console)


_VIEWS: Mapping[str, Callable[[Document, Console], None]] = {
    "parity": _show_parity,
    "parity-set": _show_parity,
    "latency": _show_latency,
    "latency-set": _show_latency,
    "chain": _show_chain,
    "ledger": _show_ledger,
    "answers": _show_answers,
    "flips": _show_flips,
    "flip-set": _show_flips,
    "device-check": show_check,
    "explanation": show_explanation,
    "prediction-set": show_predictions,
    "shortcuts": show_shortcuts,
    "bundle-set": _show_several,
}
