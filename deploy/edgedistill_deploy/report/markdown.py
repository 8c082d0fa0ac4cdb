"""Parity records as Markdown, for the summary of a build job or a comment."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgedistill_deploy import wording as words
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.recommendation.summary import BASELINE, label_of
from edgedistill_deploy.records.classes import ClassParity
from edgedistill_deploy.records.parity import ParityReport, UnreadableParity
from edgedistill_deploy.report._cases import Case, Record, cases_of, is_judged
from edgedistill_deploy.report._markdown_text import escape_markdown

_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "⚠️", "error": "❌"}
_WORST_CLASSES = 5


def write_markdown(path: Path, records: Sequence[Record], *, append: bool = False) -> None:
    """Write the summary whole or not at all; `append` keeps the file's present text before it."""
    before = path.read_text(encoding="utf-8") if append and path.is_file() else ""
    gap = "\n" if before and not before.endswith("\n\n") else ""
    write_text(path, f"{before}{gap}{markdown_text(records)}")


def markdown_text(records: Sequence[Record]) -> str:
    """Return GitHub-flavoured Markdown: a table with a row for each model, the reasons, the classes that lose most."""
    return "\n".join(_lines(records)) + "\n"


def _lines(records: Sequence[Record]) -> Iterator[str]:
    verdict = _gate(records)
    bundle = escape_markdown(records[0].bundle) if records else "nothing"
    yield f"## {_MARKS[verdict]} EdgeDistill: {bundle} {verdict}"
    yield ""
    yield "| model | verdict | accuracy | teacher | drop, points | interval | agreement | worst class | checks |"
    yield "|---|---|--:|--:|--:|--:|--:|---|---|"
    for record in records:
        yield _row(record, is_judged(record, records))
    yield from _reasons(records)
    yield from _classes(records)


def _gate(records: Sequence[Record]) -> str:
    statuses = {case.status for record in records if is_judged(record, records) for case in cases_of(record)[:1]}
    return next((each for each in ("error", "fail", "inconclusive") if each in statuses), "pass")


def _row(record: Record, judged: bool) -> str:
    if isinstance(record, UnreadableParity):
        return f"| {_name(record)} | {_MARKS['error']} error | | | | | | | |"
    cases, accuracy, verdict = cases_of(record), record.accuracy, record.verdict
    checks = [case for case in cases if case.group not in ("parity", "classes") or case.name == "golden_outputs"]
    ran = [case for case in checks if case.status != "skipped"]
    held = sum(case.status == "pass" for case in ran)
    cells = (
        _name(record),
        f"{_MARKS[verdict]} {verdict}" if judged else BASELINE,
        words.percent(accuracy.candidate),
        words.percent(accuracy.teacher),
        words.MISSING if accuracy.drop is None else words.bare_points(accuracy.drop),
        words.MISSING if accuracy.drop is None else words.points_interval(accuracy.interval),
        words.percent(record.likeness.agreement),
        _worst_class(record),
        f"{held} of {len(ran)} hold",
    )
    return f"| {' | '.join(cells)} |"


def _name(record: Record) -> str:
    model = record.model
    return escape_markdown(f"{label_of(model.precision)}, {model.device} {model.runtime}")


def _worst_class(record: ParityReport) -> str:
    for row, drop in _losing(record)[:1]:
        return f"{escape_markdown(row.name)} ({words.bare_points(drop)})"
    return words.MISSING


def _losing(report: ParityReport) -> list[tuple[ClassParity, float]]:
    """Return the classes that lose and their drops, the worst first."""
    rows = [(row, row.shown_loss or 0.0) for row in report.classes.per_class if (row.shown_loss or 0.0) > 0]
    return sorted(rows, key=lambda row: -row[1])


def _reasons(records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        if not is_judged(record, records):
            continue
        yield from ("", f"**{_name(record)}**", "")
        for case in cases_of(record):
            if case.name == "verdict" or case.status in ("fail", "inconclusive", "error"):
                yield f"- {_describe_case(case)}"
        yield from (f"- {escape_markdown(text)}" for text in _further(record))


def _further(record: Record) -> Iterator[str]:
    """Yield the findings about a model beside its cases: what was not checked, the diagnosis and the notes."""
    if isinstance(record, ParityReport):
        yield from (f"{each.name}: {each.detail}" for each in record.soundness.not_checked)
        yield from (f"diagnosis {found.name}: {found.detail}" for found in record.findings.diagnosis)
        yield from record.findings.notes


def _describe_case(case: Case) -> str:
    return f"{_MARKS[case.status]} {escape_markdown(case.name.replace('_', ' '))}: {escape_markdown(case.message)}"


def _classes(records: Sequence[Record]) -> Iterator[str]:
    rows = [
        (record, row, drop)
        for record in records
        if is_judged(record, records) and isinstance(record, ParityReport)
        for row, drop in _losing(record)[:_WORST_CLASSES]
    ]
    if not rows:
        return
    yield from ("", "<details><summary>Classes that lose most</summary>", "")
    yield "| model | class | images | teacher | accuracy | drop, points |"
    yield "|---|---|--:|--:|--:|--:|"
    for record, row, drop in rows:
        shares = words.percent(row.teacher), words.percent(row.shown_share), words.bare_points(drop)
        yield f"| {_name(record)} | {escape_markdown(row.name)} | {row.shown_count} | {' | '.join(shares)} |"
    yield from ("", "</details>")
