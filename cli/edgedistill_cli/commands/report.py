"""`report`: the run's records as one HTML file, or several bundles side by side."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

Bundles = Annotated[
    list[Path],
    typer.Argument(metavar="BUNDLE...", help="A run folder or bundle; several are compared.", show_default=False),
]
ReportFile = Annotated[
    Path | None,
    flag("--out", "FILE", "Where it goes; report.html in the bundle, or bundles.html here for several, by default."),
]
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Leave out the pictures that the records hold.")]
Compare = Annotated[
    list[Path] | None,
    flag("--compare", "DIR", "Show the methods of a comparison beside the models; may be given several times."),
]
Plan = Annotated[
    list[Path] | None,
    flag("--plan", "DIR", "Show the students of a plan beside the models; may be given several times."),
]
Markdown = Annotated[
    str | None, flag("--markdown", "FILE", 'Also write what was judged as Markdown, "-" for the screen.')
]


def report(
    bundles: Bundles,
    *,
    out: ReportFile = None,
    no_pictures: NoPictures = False,
    compare: Compare = None,
    plan: Plan = None,
    markdown: Markdown = None,
    console: Console,
) -> None:
    """Write report.html: one self-contained file with every figure of the run. Several bundles are put side by side."""
    from edgedistill_cli.bundles.reporting import read_beside, report_bundle, report_comparison

    studies = read_beside(bundles, compare or (), plan or ())
    if len(bundles) == 1:
        report_bundle(bundles[0], out, console, pictures=not no_pictures, markdown=markdown, studies=studies)
    else:
        report_comparison(bundles, out, console, markdown=markdown)
