"""`explain`: whether the expert answers for the teacher's reasons."""

from dataclasses import dataclass
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import Setting, flag, settings_of
from edgedistill_deploy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainFlags:
    """How the reasons are looked for."""

    method: Annotated[
        str | None,
        flag(
            "--method",
            "NAME",
            "integrated-gradients, lrp, attention, or auto: lrp or attention where they fit both networks.",
        ),
    ] = None
    images: Annotated[
        int | None,
        flag("--images", "N", "Validation images, evenly over the classes; by default 64, with --shortcuts 128."),
    ] = None
    steps: Annotated[
        int | None, flag("--steps", "N", "Points of integrated gradients; 32 by default, more are more exact.")
    ] = None
    seed: Annotated[int | None, flag("--seed", "N", "Fixes the images and the random orders; 0 by default.")] = None
    workers: options.Workers = None
    compute: Annotated[
        str | None, flag("--compute", "auto|cpu|cuda|mps", "Where the networks run."), Setting("distill.compute")
    ] = None
    allow_code: options.AllowCode = None


MinAgreementOfReasons = Annotated[
    float | None,
    flag("--min-agreement-of-reasons", "X", "Least mean cosine of the maps of teacher and expert, such as 0.5."),
]

Shortcuts = Annotated[
    bool, typer.Option("--shortcuts", help="Look instead for places that speak for one class alone, such as a mark.")
]


def explain(
    run: options.RunPath,
    flags: ExplainFlags,
    *,
    shortcuts: Shortcuts = False,
    min_agreement_of_reasons: MinAgreementOfReasons = None,
    console: Console,
) -> None:
    """Show whether expert and teacher look at the same parts of the images, beside what agreement costs nothing.

    Measured on validation images, never on test images. Exit code 3: --min-agreement-of-reasons is not reached; 4: too
    few images to tell.
    """
    from edgedistill.explanation.config import SHORTCUT_IMAGES, ExplainConfig
    from edgedistill_cli.runs.explaining import explain_run, find_run_shortcuts, require_limit

    require_limit(min_agreement_of_reasons)
    given = options.not_none(method=flags.method, images=flags.images, steps=flags.steps, seed=flags.seed)
    if shortcuts:
        if min_agreement_of_reasons is not None:
            raise UsageError(
                "--min-agreement-of-reasons judges maps of teacher and expert, which --shortcuts does not compare; "
                "leave one of them out."
            )
        config = ExplainConfig(**{"images": SHORTCUT_IMAGES, **given})
        find_run_shortcuts(run, config, settings_of(flags), console)
        return
    config = ExplainConfig(**given)
    raise typer.Exit(explain_run(run, config, settings_of(flags), min_agreement_of_reasons, console))
