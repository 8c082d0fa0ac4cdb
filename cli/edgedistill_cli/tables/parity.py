"""The tables of parity, and the summary at the end of `build`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.classes.groups import describe_groups
from edgedistill_deploy.recommendation.choice import choose, read_choices
from edgedistill_deploy.recommendation.shipping import judge_shipping
from edgedistill_deploy.recommendation.summary import conclude, label_of, summarise_records, verdict_word
from edgedistill_deploy.records.reading import read_records

if TYPE_CHECKING:
    from edgedistill_deploy.parity.check import ParityReport
    from edgedistill_deploy.recommendation.summary import ArtefactSummary
    from edgedistill_deploy.records.parity import Accuracy, DriftRow


def show_summary(bundle: Bundle, console: Console) -> None:
    """Print cost, size, accuracy, agreement, latency and verdict, a column for each model, then the conclusion.

    A provider other than `cpu` has a table of its own: more columns do not fit on a screen.
    """
    records = read_records(bundle)
    rows = summarise_records(bundle, records)
    several = len({row.device for row in rows if row.device}) > 1
    for provider in dict.fromkeys(map(_unusual, rows)):
        _show_models([row for row in rows if _unusual(row) == provider], provider, several, console)
    show_groups(bundle, console)
    conclusion = conclude(rows, choose(records))
    console.result(conclusion.sentence)
    for line in judge_shipping(bundle, records, conclusion, str(bundle.path)).lines():
        console.result(line)
    for row in rows:
        for reason in () if row.is_teacher else row.reasons:
            console.result(f"{row.label}{_unusual(row)}: {reason}")


def _show_models(rows: "Sequence[ArtefactSummary]", provider: str, several: bool, console: Console) -> None:
    console.table(
        f"Summary{provider}",
        ["", *(f"{row.label}, {row.device}" if several and row.device else row.label for row in rows)],
        [
            ["parameters", *(words.quantity(row.parameters) for row in rows)],
            ["multiply-adds", *(words.quantity(row.multiply_adds) for row in rows)],
            ["file", *(words.size(row.file_bytes) for row in rows)],
            ["accuracy", *(words.percent(row.accuracy) for row in rows)],
            ["  interval", *(words.percent_interval(row.accuracy_interval) for row in rows)],
            ["drop, points", *(_points(row.drop) for row in rows)],
            ["  interval", *(words.points_interval(row.drop_interval) for row in rows)],
            ["agreement", *(words.percent(row.agreement) for row in rows)],
            ["p50", *(words.milliseconds(row.p50_ms) for row in rows)],
            ["p99", *(words.milliseconds(row.p99_ms) for row in rows)],
            ["verdict", *(row.verdict_word for row in rows)],
        ],
    )


def _unusual(row: "ArtefactSummary") -> str:
    return "" if row.provider in (None, "cpu", row.runtime) else f" with {row.provider}"


def show_groups(bundle: Bundle, console: Console) -> None:
    """Print what each class is made of that stands for several of the teacher's."""
    for described in describe_groups(bundle.classes):
        console.result(f"class {described}")


def show_choices(bundle: Bundle, console: Console) -> None:
    """Print for each device in the manifest which model to deploy there, and why."""
    for device, choice in read_choices(bundle).items():
        console.result(f"{device}: {choice.reason}")


def _points(drop: float | None) -> str:
    return words.MISSING if drop is None else words.bare_points(drop)


def show_parity(reports: "Sequence[ParityReport]", console: Console) -> None:
    """Print accuracy, drop and verdict, a column for each model, then the reasons."""
    console.table(
        "Parity with the teacher on the subtask",
        ["", *(label_of(report.model.precision) for report in reports)],
        [
            ["images", *(str(report.images.sample_count) for report in reports)],
            ["teacher", *(words.percent(report.accuracy.teacher) for report in reports)],
            ["accuracy", *(words.percent(report.accuracy.candidate) for report in reports)],
            ["  interval", *_labelled(reports, lambda each: words.percent_interval(each.candidate_interval))],
            ["drop, points", *(_points(report.accuracy.drop) for report in reports)],
            ["  interval", *_labelled(reports, lambda each: words.points_interval(each.interval))],
            ["  p, McNemar", *_labelled(reports, lambda each: _probability(each.mcnemar_p))],
            ["agreement", *(words.percent(report.likeness.agreement) for report in reports)],
            ["  interval", *(words.percent_interval(report.likeness.agreement_interval) for report in reports)],
            ["KL divergence, nats", *(words.significant(report.likeness.mean_kl) for report in reports)],
            ["ECE of confidence", *(words.percent(each.likeness.confidence_calibration.candidate) for each in reports)],
            ["classes worse", *(_worse_count(report) for report in reports)],
            ["classes dead", *(_dead_count(report) for report in reports)],
            ["verdict", *(_verdict(report, reports) for report in reports)],
        ],
    )
    for report in reports:
        if report.findings.preprocess_drift is not None:
            _show_drift(report.findings.preprocess_drift, label_of(report.model.precision), console)
    for report in reports:
        found = (f"Diagnosis {each.name}: {each.detail}" for each in report.findings.diagnosis)
        open_questions = (f"{each.name}: {each.detail}" for each in report.soundness.not_checked)
        for sentence in (*report.judgement.reasons, *found, *open_questions, *report.findings.notes):
            console.result(f"{label_of(report.model.precision)}: {sentence}")


def _verdict(report: "ParityReport", reports: "Sequence[ParityReport]") -> str:
    """Return the verdict as in the report; the teacher's file is judged only where it is alone."""
    return report.verdict if len(reports) == 1 else verdict_word(report.model.precision, report.verdict)


def _labelled(reports: "Sequence[ParityReport]", write: "Callable[[Accuracy], str]") -> list[str]:
    """Write a figure that only labels give; a dash where no image has one."""
    return [write(each.accuracy) if each.accuracy.labelled_count else words.MISSING for each in reports]


def _probability(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _worse_count(report: "ParityReport") -> str:
    return f"{report.classes.worse_count} of {report.classes.class_statistics.tested_count}"


def _dead_count(report: "ParityReport") -> str:
    findings = report.judgement.class_findings
    dead = sum(each.fault == "dead" for each in findings or ())
    return words.MISSING if findings is None else f"{dead} of {report.classes.class_statistics.tested_count}"


def _show_drift(rows: "Sequence[DriftRow]", label: str, console: Console) -> None:
    """Print the accuracy that each other preparation of the images costs."""
    console.table(
        f"What other preparations of the images would cost: {label}",
        ["prepared", "accuracy", "drop, points", "interval", "changed"],
        [
            [
                row.variant,
                words.percent(row.accuracy),
                words.bare_points(row.drop_points / 100),
                words.points_interval((row.interval[0] / 100, row.interval[1] / 100)),
                words.percent(row.changed_share),
            ]
            for row in rows
        ],
    )
