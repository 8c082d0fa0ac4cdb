"""Several bundles side by side: verdict, the file to ship, accuracy, latency, size and worst classes of each.

The same comparison is a page, Markdown, tables and one JSON document. It reads records alone, as the report does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.recommendation.choice import choose
from edgedistill_deploy.recommendation.shipping import Shipping, judge_shipping
from edgedistill_deploy.recommendation.summary import ArtefactSummary, Conclusion, conclude, summarise_records
from edgedistill_deploy.records.reading import read_records
from edgedistill_deploy.records.writing import SCHEMA, plain
from edgedistill_deploy.report._markdown_text import escape_markdown

HEADER = (
    "bundle", "may I ship it?", "file", "accuracy", "teacher", "drop, points", "latency, p50", "size", "parameters",
    "worst classes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedBundle:
    """One bundle: the name that tells it from the others, the answer on it, and a row for each of its models."""

    name: str
    bundle: Bundle
    shipping: Shipping
    conclusion: Conclusion
    rows: tuple[ArtefactSummary, ...]
    problems: tuple[str, ...]

    @property
    def shown(self) -> ArtefactSummary | None:
        """The row of the model that the bundle is compared by: the one to ship, else the expert that was checked."""
        report = self.shipping.report
        if self.conclusion.choice or report is None:
            return self.conclusion.choice
        same = (
            each for each in self.rows if (each.precision, each.place) == (report.model.precision, report.model.place)
        )
        return next(same, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleComparison:
    """The bundles in the order given, and sentences on what cannot be compared."""

    bundles: tuple[ComparedBundle, ...]
    notes: tuple[str, ...]

    @property
    def table(self) -> tuple[tuple[str, ...], ...]:
        """A row of cells for each bundle, under `HEADER`."""
        return tuple(map(_cells, self.bundles))

    def to_json(self) -> dict[str, Any]:
        """Return the one document on all bundles."""
        return {
            "kind": "bundle-comparison",
            "schema": SCHEMA,
            "bundles": [_document(each) for each in self.bundles],
            "notes": list(self.notes),
        }


def compare_bundles(bundles: Sequence[Bundle]) -> BundleComparison:
    """Read the records of each bundle and put them side by side."""
    names = _names([each.path for each in bundles])
    compared = tuple(_compare(bundle, name) for bundle, name in zip(bundles, names, strict=True))
    return BundleComparison(bundles=compared, notes=tuple(_notes(compared)))


def comparison_markdown(comparison: BundleComparison) -> str:
    """Return the comparison as GitHub-flavoured Markdown."""
    return "\n".join(_markdown(comparison)) + "\n"


def _compare(bundle: Bundle, name: str) -> ComparedBundle:
    records = read_records(bundle)
    rows = summarise_records(bundle, records)
    conclusion = conclude(rows, choose(records))
    return ComparedBundle(
        name=name,
        bundle=bundle,
        shipping=judge_shipping(bundle, records, conclusion, str(bundle.path)),
        conclusion=conclusion,
        rows=rows,
        problems=records.problems,
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the names of the folders; the paths as given where two folders have one name."""
    short = [path.resolve().name for path in paths]
    return [printable(name if short.count(name) == 1 else str(path)) for name, path in zip(short, paths, strict=True)]


def _notes(compared: Sequence[ComparedBundle]) -> Iterator[str]:
    if len({each.bundle.class_names for each in compared}) > 1:
        yield "The bundles have different classes, so their accuracies are not of the same task."
    elif len({_reference_of(each.bundle) for each in compared}) > 1:
        yield (
            "The bundles do not hold the same test images with the same answers of the teacher, so their accuracies "
            "may be of other images."
        )
    devices = {each.shown.device for each in compared if each.shown and each.shown.p50_ms is not None}
    if len(devices) > 1:
        yield f"The latencies are of different devices: {words.join_words(sorted(map(str, devices)))}."
    batches = {each.shown.batch_size for each in compared if each.shown and each.shown.p50_ms is not None}
    if len(batches) > 1:
        yield "The latencies are of batches of different size."
    for each in compared:
        yield from (f"{each.name}: {problem}" for problem in each.problems)


def _reference_of(bundle: Bundle) -> str | None:
    entry = bundle.manifest["files"].get("reference")
    return str(entry["sha256"]) if isinstance(entry, Mapping) else None


def _cells(each: ComparedBundle) -> tuple[str, ...]:
    row, shipping = each.shown, each.shipping
    worst = "; ".join(f"{found.name} {words.percent(found.share)}" for found in shipping.worst) or words.MISSING
    start = (each.name, shipping.answer)
    if row is None:
        return (*start, *[words.MISSING] * (len(HEADER) - 3), worst)
    return (
        *start,
        row.label,
        words.percent(row.accuracy),
        words.percent(_teacher_accuracy(each)),
        words.MISSING if row.drop is None else words.bare_points(row.drop),
        _latency(row),
        words.size(row.file_bytes),
        words.quantity(row.parameters),
        worst,
    )


def _teacher_accuracy(each: ComparedBundle) -> float | None:
    return each.shipping.report.accuracy.teacher if each.shipping.report else None


def _latency(row: ArtefactSummary) -> str:
    if row.p50_ms is None:
        return words.MISSING
    batch = "" if row.batch_size == 1 else f", batch {row.batch_size}"
    return f"{words.milliseconds(row.p50_ms)} on {row.device}{batch}"


def _document(each: ComparedBundle) -> dict[str, Any]:
    shipping = each.shipping
    shown = each.shown
    return {
        "bundle": each.name,
        "path": str(each.bundle.path),
        "class_names": list(each.bundle.class_names),
        "verdict": each.conclusion.verdict,
        "answer": shipping.answer,
        "file": shipping.file,
        "model": None if shown is None else _row_document(shown),
        "teacher_accuracy": _teacher_accuracy(each),
        "worst_classes": [plain(found) for found in shipping.worst],
        "problems": list(shipping.problems),
        "models": [_row_document(row) for row in each.rows],
    }


def _row_document(row: ArtefactSummary) -> dict[str, Any]:
    return dict(plain(row))


def _markdown(comparison: BundleComparison) -> Iterator[str]:
    yield f"## EdgeDistill: {len(comparison.bundles)} bundles side by side"
    yield ""
    yield f"| {' | '.join(HEADER)} |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|---|"
    for cells in comparison.table:
        yield f"| {' | '.join(map(escape_markdown, cells))} |"
    if comparison.notes:
        yield ""
    yield from (f"- {escape_markdown(note)}" for note in comparison.notes)
