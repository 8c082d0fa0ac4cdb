"""What a validation tells image by image: the chain of losses, the flips, and the summaries for build servers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle, model_role
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.recommendation.summary import label_of

if TYPE_CHECKING:
    from edgedistill_deploy.evaluation.figures import Answers
    from edgedistill_deploy.evaluation.images import Evaluation
    from edgedistill_deploy.images.sets import ImageSet
    from edgedistill_deploy.parity.check import ParityReport
    from edgedistill_deploy.records.decisions import ChainStep, FlipReport
    from edgedistill_deploy.records.parity import UnreadableParity

_JOB_SUMMARY = "GITHUB_STEP_SUMMARY"
# Files for another runtime, whose arithmetic this one can show all the same.
_FOR_ELSEWHERE = ("int8-tensorrt", "int8-fp16-tensorrt")


@dataclass(slots=True, kw_only=True)
class Kept:
    """What is kept of each model's check: its answers, and the flips where they are wanted."""

    with_flips: bool = False
    answers: "dict[str, Answers]" = field(default_factory=dict)
    reports: "list[ParityReport]" = field(default_factory=list)
    flips: "list[FlipReport]" = field(default_factory=list)

    _received: "tuple[Evaluation, Answers] | None" = None

    def receive(self, evaluation: "Evaluation", answers: "Answers") -> None:
        """Take what a check hands out while it runs."""
        self._received = evaluation, answers

    def add(self, bundle: Bundle, report: "ParityReport", *, judged: bool = True) -> None:
        """Keep the check that was just made; its images are read for the flips of a judged expert alone, and let go."""
        from edgedistill_deploy.parity.flips import find_flips

        assert self._received is not None
        (evaluation, answers), self._received = self._received, None
        self.answers[report.model.precision] = answers
        self.reports.append(report)
        if self.with_flips and judged and not report.model.is_teacher:
            self.flips.append(find_flips(report, evaluation, answers, bundle.class_names))

    def chain(self) -> "tuple[ChainStep, ...]":
        """Return what each step lost, over the models checked so far."""
        from edgedistill_deploy.parity.chain import chain_steps

        if not self.reports:
            return ()
        models = {report.model.precision: report.model.model_sha256 for report in self.reports}
        return chain_steps(self.answers, self.reports[0].judgement.limits.confidence, models)


def add_unjudged(
    bundle: Bundle,
    kept: Kept,
    console: Console,
    images: "ImageSet | None",
    runtime: str,
    threads: int | None,
    provider: str = "cpu",
) -> None:
    """Ask the files that another runtime is to run, too: what they answer belongs to the chain, though not to the gate."""
    from edgedistill_deploy.parity.check import check_parity
    from edgedistill_deploy.runtimes.opening import open_session

    for precision in _FOR_ELSEWHERE:
        if precision in kept.answers or not bundle.has(model_role(precision)):
            continue
        with (
            console.progress(f"chain {precision}") as report,
            open_session(
                bundle, runtime=runtime, precision=precision, provider=provider, threads=threads
            ) as session,
        ):
            checked = check_parity(
                bundle,
                session,
                images,
                kept.reports[0].judgement.limits,
                progress=lambda done, total: report(done, total, "images"),
                keep=kept.receive,
            )
        kept.add(bundle, checked, judged=False)


def write_chain_of(bundle: Bundle, kept: Kept) -> None:
    """Write the chain's record for the report; nothing where no expert was checked."""
    from edgedistill_deploy.parity.chain import chain_record, write_chain

    steps = kept.chain()
    if steps:
        write_chain(bundle, chain_record(kept.reports, steps))


def show_chain(steps: "Sequence[ChainStep]", console: Console) -> None:
    """Print a row for each step: what it is made from, what it lost, and how far both agree."""
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


def write_flips_of(bundle: Bundle, kept: Kept, folder: Path, console: Console) -> None:
    """Write the pictures and their index into the folder, and the records for the report into the bundle."""
    from edgedistill_deploy.parity.flips import write_flip_record, write_flips

    index = write_flips(folder, kept.flips)
    for report in kept.flips:
        write_flip_record(bundle, report)
        console.result(
            f"{label_of(report.model.precision)}: {report.flip_count} of {report.sample_count} images are decided differently"
            f"{_outcomes(report)}."
        )
    console.say(f"Their pictures, the expert's surest answers first: {index.parent}")


def _outcomes(report: "FlipReport") -> str:
    told = [f"{count} {name.replace('_', ' ')}" for name, count in report.outcomes.items() if count]
    return f": {', '.join(told)}" if told else ""


def write_summaries(
    records: "Sequence[ParityReport | UnreadableParity]",
    junit: Path | None,
    markdown: str | None,
    console: Console,
) -> None:
    """Write JUnit XML and Markdown where they are asked for; "-" is stdout, and a job's summary is continued."""
    from edgedistill_deploy.report.junit import write_junit
    from edgedistill_deploy.report.markdown import markdown_text, write_markdown

    if junit is not None:
        write_junit(junit, records)
    if markdown == "-":
        console.result(markdown_text(records))
    elif markdown is not None:
        path = Path(markdown)
        summary = os.environ.get(_JOB_SUMMARY)
        write_markdown(
            path, records, append=summary is not None and path.resolve() == Path(summary).resolve()
        )


def require_fitting(
    *, bisecting: bool, search: Sequence[str], check: Sequence[str], as_json: bool, markdown: str | None
) -> None:
    """Refuse flags that mean nothing together; `search` and `check` name those given that belong to --bisect, or never to it.

    Raises:
        UsageError: a flag of the search without --bisect, one of the check with it, or two documents for stdout.
    """
    if bisecting and check:
        raise UsageError(
            f"--bisect searches and checks no accuracy, so {check[0]} has nothing to tell; leave one of them out."
        )
    if not bisecting and search:
        raise UsageError(f"{search[0]} belongs to --bisect; give both.")
    if as_json and markdown == "-":
        raise UsageError(
            "--json and --markdown - both want the standard output; name a file for the Markdown."
        )
