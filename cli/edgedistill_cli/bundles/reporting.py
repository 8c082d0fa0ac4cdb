"""Write the report of a bundle, or several bundles side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.errors import NotWrittenError, UsageError

if TYPE_CHECKING:
    from edgedistill_deploy.records.studies.reading import Studies
    from edgedistill_deploy.report.comparing import BundleComparison

_COMPARISON = Path("bundles.html")


def read_beside(bundles: Sequence[Path], compare: Sequence[Path], plan: Sequence[Path]) -> "Studies":
    """Read the comparisons and plans to show beside a bundle, before anything is written.

    Raises UsageError for several bundles, and DataError for what is no such record.
    """
    from edgedistill_deploy.records.studies.reading import read_studies

    if len(bundles) > 1 and (compare or plan):
        raise UsageError("--compare and --plan belong to the report of one bundle, and several were given.")
    return read_studies(compare, plan)


def report_bundle(
    path: Path, out: Path | None, console: Console, *, pictures: bool, markdown: str | None, studies: "Studies"
) -> None:
    """Write the report of one bundle, and its parity records as Markdown if asked for."""
    from edgedistill_cli.bundles.recording import recording, say_model_card
    from edgedistill_deploy.recommendation.choice import record_choices
    from edgedistill_deploy.records.reading import read_records
    from edgedistill_deploy.report.markdown import markdown_text
    from edgedistill_deploy.report.page import write_report

    _require_one_document(console, markdown)
    opened = open_bundle(path)
    try:
        with recording(opened, "report", console):
            chosen = record_choices(opened) if out is None else opened
            written = write_report(chosen, out, pictures=pictures, studies=studies)
            if out is None:
                say_model_card(opened, console)
    except NotWrittenError as error:
        raise NotWrittenError(f"{error} --out FILE writes the report to another place.") from error
    if markdown is not None:
        _write_markdown(markdown_text([each.report for each in read_records(opened).parity]), markdown, console)
    console.emit({"kind": "report", "schema": 1, "path": str(written)})
    console.result(str(written))


def report_comparison(paths: Sequence[Path], out: Path | None, console: Console, *, markdown: str | None) -> None:
    """Write several bundles side by side as one page, and print them as a table."""
    from edgedistill_deploy.report.comparing import compare_bundles, comparison_markdown
    from edgedistill_deploy.report.page import write_comparison

    _require_one_document(console, markdown)
    _require_different(paths)
    comparison = compare_bundles([open_bundle(path) for path in paths])
    try:
        written = write_comparison(comparison, out or _COMPARISON)
    except NotWrittenError as error:
        raise NotWrittenError(f"{error} --out FILE writes the page to another place.") from error
    if markdown is not None:
        _write_markdown(comparison_markdown(comparison), markdown, console)
    console.emit({**comparison.to_json(), "page": str(written)})
    if markdown != "-":
        _show(comparison, console)
    console.result(str(written))


def _show(comparison: "BundleComparison", console: Console) -> None:
    """Print a column for each bundle, because names of classes are long."""
    from edgedistill_deploy.report.comparing import HEADER

    cells = list(zip(*comparison.table, strict=True))
    console.table(
        "Bundles side by side",
        ["", *cells[0]],
        [[name, *row] for name, row in zip(HEADER[1:-1], cells[1:-1], strict=True)],
    )
    for name, worst in zip(cells[0], cells[-1], strict=True):
        console.result(f"{name}: worst classes {worst}")
    for note in comparison.notes:
        console.result(f"note: {note}")


def _write_markdown(text: str, markdown: str, console: Console) -> None:
    from edgedistill_deploy.files.writing import write_text

    if markdown == "-":
        console.result(text)
    else:
        write_text(Path(markdown), text)


def _require_one_document(console: Console, markdown: str | None) -> None:
    if console.as_json and markdown == "-":
        raise UsageError("--json and --markdown - both want the standard output; name a file for the Markdown.")


def _require_different(paths: Sequence[Path]) -> None:
    resolved = [path.resolve() for path in paths]
    twice = next((path for path, real in zip(paths, resolved, strict=True) if resolved.count(real) > 1), None)
    if twice is not None:
        raise UsageError(f"The bundle {twice} was given twice; name each bundle once.")
