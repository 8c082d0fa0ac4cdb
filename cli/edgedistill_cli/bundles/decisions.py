"""Show and write the chain of losses, the images decided differently, and the summaries for build servers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.recommendation.summary import label_of

if TYPE_CHECKING:
    from edgedistill_deploy.records.decisions import ChainStep, FlipReport
    from edgedistill_deploy.records.parity import ParityReport, UnreadableParity

_JOB_SUMMARY = "GITHUB_STEP_SUMMARY"


def show_chain(steps: "Sequence[ChainStep]", console: Console) -> None:
    """Print a row for each step: its source, the accuracy it lost, and the agreement of the two."""
    if not steps:
        return
    console.table(
        "Where the accuracy went, in points",
        ["", "made from", "accuracy", "lost", "interval", "agreement"],
        [
            [
                step.precision,
                step.source or "",
                words.percent(step.accuracy),
                "" if step.loss is None else words.bare_points(step.loss),
                "" if step.interval is None else words.points_interval(step.interval),
                words.percent(step.agreement) if step.source else "",
            ]
            for step in steps
        ],
    )


def write_flips_of(flips: "Sequence[FlipReport]", folder: Path, console: Console) -> None:
    """Write the pictures and their index into the folder, and say how many there are of each kind."""
    from edgedistill_deploy.parity.flips import write_flips

    index = write_flips(folder, flips)
    for report in flips:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.outcomes.items() if count)
        console.result(
            f"{label_of(report.model.precision)}: {report.flip_count} of {report.sample_count} images are decided "
            f"differently{counts and ': '}{counts}."
        )
    console.say(f"Their pictures, the expert's surest answers first: {index.parent}")


def write_summaries(
    records: "Sequence[ParityReport | UnreadableParity]", junit: Path | None, markdown: str | None, console: Console
) -> None:
    """Write JUnit XML and Markdown if they are asked for; "-" is stdout. A job's summary is continued."""
    from edgedistill_deploy.report.junit import write_junit
    from edgedistill_deploy.report.markdown import markdown_text, write_markdown

    if junit is not None:
        write_junit(junit, records)
    if markdown == "-":
        console.result(markdown_text(records))
    elif markdown is not None:
        path = Path(markdown)
        summary = os.environ.get(_JOB_SUMMARY)
        write_markdown(path, records, append=summary is not None and path.resolve() == Path(summary).resolve())


def require_fitting(
    *, bisecting: bool, search: Mapping[str, object], check: Mapping[str, object], as_json: bool, markdown: str | None
) -> None:
    """Refuse flags that exclude each other; a flag whose value is None was not given.

    Raises:
        UsageError: a flag of the search without --bisect, one of the check with it, or two documents for stdout.
    """
    wrong = [name for name, value in (check if bisecting else search).items() if value is not None]
    if wrong and bisecting:
        raise UsageError(
            f"--bisect searches and checks no accuracy, so {wrong[0]} has nothing to tell; leave one of them out."
        )
    if wrong:
        raise UsageError(f"{wrong[0]} belongs to --bisect; give both.")
    if as_json and markdown == "-":
        raise UsageError("--json and --markdown - both want the standard output; name a file for the Markdown.")
