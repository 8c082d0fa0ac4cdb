"""Turns records into the template's values: groups by device, charts, and functions that write numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgedistill_deploy import wording
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.classes.groups import describe_groups
from edgedistill_deploy.hardware.int8_outlook import outlook_sentence
from edgedistill_deploy.recommendation import summary
from edgedistill_deploy.recommendation.choice import choose
from edgedistill_deploy.recommendation.shipping import judge_shipping
from edgedistill_deploy.recommendation.summary import baseline_of, label_of
from edgedistill_deploy.records.classes import ClassFinding, ClassParity
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import EpochRow, LatencyRecord, LedgerRow, Records
from edgedistill_deploy.records.studies.reading import NO_STUDIES, Studies
from edgedistill_deploy.records.values import MAX_TIME
from edgedistill_deploy.report.charts.bars import histogram, interval_chart, spectrum
from edgedistill_deploy.report.charts.frame import COLOURS, Axis, Figure, Series, linear_axis, log_axis
from edgedistill_deploy.report.charts.lines import cumulative_points, line_chart
from edgedistill_deploy.report.content.answers import answer_values
from edgedistill_deploy.report.content.beside import beside_of
from edgedistill_deploy.report.content.data import describe_data
from edgedistill_deploy.report.content.places import colour_of, places_of, with_drawings, with_whole_tables
from edgedistill_deploy.report.content.points import plane_of
from edgedistill_deploy.report.content.reasons import reasons_of
from edgedistill_deploy.report.figures import (
    agreement_figure,
    flipping_figure,
    plane_figure,
    reject_figure,
    reliability_figure,
)
from edgedistill_deploy.report.layers import icicle
from edgedistill_deploy.report.rivals import rival_table
from edgedistill_deploy.statistics.quantiles import Samples
from edgedistill_deploy.version import __version__

MANY_CLASSES = 24
SHORTEST_MS = 1e-6  # finer than any clock; a logarithm needs more than 0
_READINGS = ("clock", "governor", "temperature", "power_mode", "throttling", "load", "pressure")


def page_values(bundle: Bundle, records: Records, studies: Studies = NO_STUDIES) -> dict[str, Any]:
    """Return all values of the template by name."""
    rows = summary.summarise_records(bundle, records)
    conclusion = summary.conclude(rows, choose(records))
    choice = conclusion.choice
    shipping = judge_shipping(bundle, records, conclusion)
    places, rivals = places_of(rows, records), rival_table(bundle.manifest)
    plane = plane_of(rows, choice, rivals)
    return {
        **answer_values(records, shipping),
        "shipping": shipping,
        "data": describe_data(bundle.manifest, records),
        "costs": plane,
        "beside": beside_of(bundle, plane, rows, studies),
        "whole_tables": with_whole_tables(places, shipping.report),
        "drawn_places": with_drawings(places, shipping.report),
        "bundle": bundle,
        "manifest": bundle.manifest,
        "groups": describe_groups(bundle.classes),
        "version": __version__,
        "title": _title(bundle),
        "conclusion": conclusion,
        "choice_teacher": baseline_of(choice, rows) if choice else None,
        "baseline_of": partial(baseline_of, rows=rows),
        "places": places,
        "records": records,
        "rivals": rivals,
        "reasons": reasons_of(bundle, records.explanations),
        "agreement_figure": agreement_figure,
        "flipping_figure": flipping_figure,
        "training": _training_figures(records.epochs, bundle.manifest),
        "training_notes": training_notes(bundle.manifest, records.epochs),
        "stages": [(name, _stage(stage)) for name, stage in bundle.manifest["stages"].items()],
        "student_layers": _student_layers(bundle.manifest),
        "plane_figure": plane_figure,
        "reject_figure": reject_figure,
        "reliability_figure": reliability_figure,
        "drop_figure": drop_figure,
        "ecdf_figure": ecdf_figure,
        "histogram_figure": histogram_figure,
        "icicle_figure": icicle_figure,
        "spectrum_svg": spectrum_svg,
        "class_table": class_table,
        "class_findings": class_findings,
        "condition_rows": condition_rows,
        "label_of": label_of,
        "many_classes": MANY_CLASSES,
        "nodes_measured": nodes_measured,
        "outlook_sentence": outlook_sentence,
        "plainly": plainly,
        "w": wording,
    }


def _title(bundle: Bundle) -> str:
    """Return the subtask's name, or the number of its classes if it has no name."""
    name = str(bundle.manifest["subtask"]["name"])
    count = len(bundle.class_names)
    return name if name not in ("", "subtask") else f"{count} classes" if count > 1 else bundle.class_names[0]


# --- training


def _training_figures(epochs: Sequence[EpochRow], manifest: Mapping[str, Any]) -> list[Figure]:
    if not epochs:
        return []
    x = linear_axis("epoch", [1, *(row.epoch + 1 for row in epochs)], lambda value: f"{value:g}")
    return [_accuracy_figure(epochs, manifest, x), _loss_figure(epochs, x)]


def _accuracy_figure(epochs: Sequence[EpochRow], manifest: Mapping[str, Any], x: Axis) -> Figure:
    points = [(row.epoch + 1.0, row.validation_accuracy) for row in epochs]
    noted = _mapping(manifest.get("distillation"))
    teacher = noted.get("teacher_validation_accuracy")
    levels: list[tuple[float, str]] = []
    by_teacher = noted.get("judged_by") == "teacher"
    if isinstance(teacher, float) and 0 <= teacher <= 1 and not by_teacher:
        levels.append((teacher, f"teacher {wording.percent(teacher)}"))
    highest = max(points, key=lambda point: point[1])
    best = next((point for point in points if point[0] - 1 == noted.get("best_epoch")), highest)
    values = [value for _, value in points] + [value for value, _ in levels]
    y = linear_axis("", values, lambda value: f"{100 * value:.4g} %")
    series = Series(name="student", points=points, colour=1, marks=[best])
    what = (
        "Agreement with the teacher on validation images, which have no labels" if by_teacher else "Validation accuracy"
    )
    return Figure(
        svg=line_chart(f"{what} by epoch", [series], x, y, levels=levels),
        caption=f"{what}. Best: {wording.percent(best[1])} after epoch {best[0]:g}, which is the one exported.",
        legend=(("student", 2),),
    )


def _loss_figure(epochs: Sequence[EpochRow], x: Axis) -> Figure:
    names = dict.fromkeys(name for row in epochs for name in row.terms)
    lines = {
        name: [(row.epoch + 1.0, row.terms[name]) for row in epochs if _loggable(row.terms.get(name, 0.0))]
        for name in names
    }
    lines = {"total": [(row.epoch + 1.0, row.loss) for row in epochs if _loggable(row.loss)], **lines}
    shown = [(name, points) for name, points in lines.items() if points]
    series = [Series(name=name, points=points, colour=index) for index, (name, points) in enumerate(shown)]
    values = [value for each in series for _, value in each.points] or [1.0]
    y = log_axis("", values, lambda value: f"{value:g}")
    return Figure(
        svg=line_chart("Loss terms by epoch", series, x, y),
        caption="Loss on the training images, as weighted in the objective; logarithmic.",
        legend=_legend(series),
    )


def _legend(series: Sequence[Series]) -> tuple[tuple[str, int], ...]:
    return tuple((each.name, each.colour % COLOURS + 1) for each in series)


def _loggable(value: float) -> bool:
    return 1e-9 < value < 1e12


def training_notes(manifest: Mapping[str, Any], epochs: Sequence[EpochRow]) -> list[str]:
    """Return sentences on the duration of the training and its images, and the notes of the stage."""
    noted = _mapping(manifest.get("distillation"))
    images, notes = _mapping(noted.get("images")), noted.get("notes")
    duration = f"{wording.counted(len(epochs), 'epoch')} in {wording.seconds(sum(row.seconds for row in epochs))}."
    told = [f"Images: {plainly(images)}."] if images else []
    told += [f"Training images without a label: {plainly(noted['unlabelled'])}."] if noted.get("unlabelled") else []
    return [duration, *told, *(plainly(note) for note in (notes if isinstance(notes, list) else []))]


def _stage(stage: Any) -> str:
    status, spent = _mapping(stage).get("status"), _mapping(stage).get("seconds")
    known = isinstance(spent, (int, float)) and 0 <= spent < MAX_TIME
    return plainly(status) + (f", {wording.seconds(spent)}" if known else "")


def _student_layers(manifest: Mapping[str, Any]) -> dict[str, str]:
    pairs = _mapping(manifest.get("distillation")).get("pairs")
    found = [pair for pair in pairs if isinstance(pair, Mapping)] if isinstance(pairs, list) else []
    return {str(pair.get("teacher")): str(pair.get("student")) for pair in found}


def spectrum_svg(layer: str, eigenvalues: Any, rank: int) -> str:
    """Draw a layer's spectrum, the kept directions in colour."""
    return spectrum(f"eigenvalues of {layer}, {rank} of {len(eigenvalues)} kept", eigenvalues, rank)


# --- parity


def drop_figure(parity: Iterable[ParityReport]) -> Figure | None:
    """Draw the experts' drops with their intervals against the limit; None if no drop is known."""
    rows, limits = [], []
    for record in parity:
        accuracy = record.accuracy
        if record.model.is_teacher or accuracy.drop is None:
            continue
        label = f"{label_of(record.model.precision)}: {wording.points(accuracy.drop)}"
        rows.append((label, accuracy.drop, *accuracy.interval, record.verdict))
        limits.append(record.judgement.limits.max_drop)
    if not rows:
        return None
    axis_title = "accuracy lost against the teacher, points"
    return Figure(
        svg=interval_chart("Accuracy drop against the limit", rows, min(limits), _in_points, axis_title),
        caption="Dot and bar: accuracy lost and its interval, from the images that teacher and expert answer "
        "differently. Left of zero the expert is better than its teacher; the shaded side is beyond what is "
        "allowed.",
    )


def _in_points(value: float) -> str:
    return wording.significant(100 * value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTable:
    """Accuracy by class: (name, colour) of the experts; for each class its first row and each expert's."""

    experts: tuple[tuple[str, int], ...]
    rows: tuple[tuple[ClassParity, tuple[ClassParity | None, ...]], ...]
    worst: tuple[tuple[ClassParity, tuple[ClassParity | None, ...]], ...]

    @property
    def has_unlabelled(self) -> bool:
        """Whether a class is told by the teacher's answers, for want of labels."""
        return any(row.unlabelled is not None for row, _ in self.rows)


def class_table(parity: Sequence[ParityReport]) -> ClassTable | None:
    """Put the experts' classes beside one another; None if no expert was checked."""
    experts = [record for record in parity if not record.model.is_teacher]
    if not experts:
        return None
    by_name = [{row.name: row for row in record.classes.per_class} for record in experts]
    rows = tuple((row, tuple(each.get(row.name) for each in by_name)) for row in experts[0].classes.per_class)
    return ClassTable(
        experts=tuple((label_of(record.model.precision), colour_of(record.model.precision) + 1) for record in experts),
        rows=rows,
        worst=tuple(sorted(rows, key=_largest_drop, reverse=True)[:10]),
    )


def class_findings(parity: Iterable[ParityReport]) -> list[tuple[str, ClassFinding]]:
    """Return what is wrong with single classes, each with the name of its expert."""
    return [
        (label_of(record.model.precision), found)
        for record in parity
        if not record.model.is_teacher
        for found in record.judgement.class_findings or ()
    ]


def _largest_drop(row: tuple[ClassParity, tuple[ClassParity | None, ...]]) -> float:
    return max((each.shown_loss for each in row[1] if each and each.shown_loss is not None), default=-1.0)


# --- latency


def ecdf_figure(latency: Sequence[LatencyRecord]) -> Figure:
    """Draw each model's share of runs up to each time, with p50 and p99 as dots."""
    series = [
        Series(
            name=_label_time(record),
            points=[point for point in cumulative_points(_samples(record)) if _loggable(point[0])],
            colour=colour_of(record.report.model.precision),
            marks=[(record.report.times.p50_ms, 0.5), (record.report.times.p99_ms, 0.99)],
        )
        for record in latency
    ]
    values = [value for each in series for value, _ in each.points] or [1.0]
    top = max(1.5 * max(record.report.times.p99_ms for record in latency), min(values))
    values = [*(value for value in values if value <= top), top]
    x = log_axis("time of one batch, ms; logarithmic", values, lambda value: f"{value:g}")
    ticks = [(0.0, "0"), (0.25, "25 %"), (0.5, "p50"), (0.75, "75 %"), (0.9, "p90"), (0.99, "p99")]
    y = Axis(title="", low=0, high=1, ticks=ticks)
    return Figure(
        svg=line_chart("Share of runs by time", series, x, y),
        caption="Share of the runs that took at most so long. Further left is faster, steeper is steadier; dots: p50 "
        "and p99.",
        legend=_legend(series),
    )


def histogram_figure(record: LatencyRecord) -> Figure:
    """Draw the distribution of one model's runs."""
    times, label = record.report.times, _label_time(record)
    marks = [(ms, f"{name} {wording.milliseconds(ms)}") for name, ms in (("p50", times.p50_ms), ("p99", times.p99_ms))]
    samples, colour = np.maximum(_samples(record), SHORTEST_MS), colour_of(record.report.model.precision)
    svg = histogram(f"Runs of {label} by time", samples, marks, wording.milliseconds, colour)
    return Figure(svg=svg, caption=f"{label}; logarithmic")


def icicle_figure(record: LatencyRecord) -> Figure | None:
    """Draw the share of each of the student's modules in a run; None if no node was timed."""
    if record.layers is None:
        return None
    label = _label_time(record)
    return Figure(
        svg=icicle(f"Time of {label} by module", record.layers),
        caption=f"{label}: a run, its parts by the student’s modules from the outermost to the innermost; as wide as "
        "the time they take. Grey: of no module.",
    )


def _label_time(record: LatencyRecord) -> str:
    size = record.report.setting.batch_size
    batch = "" if size == 1 else f", batch {size}"
    return f"{label_of(record.report.model.precision)}{batch}"


def _samples(record: LatencyRecord) -> Samples:
    return np.asarray(record.report.times.samples_ms, np.float64)


# --- precision


def nodes_measured(row: LedgerRow) -> str:
    """Say how many nodes of a step were measured one by one, of how many."""
    tried = sum(node["alone"] is not None for node in row.nodes if "alone" in node)
    whole = len(row.nodes)
    if not whole:
        return wording.MISSING
    return f"a sample of {tried} of {whole}" if 0 < tried < whole else str(whole)


# --- conditions


def condition_rows(
    latency: Sequence[LatencyRecord],
) -> tuple[tuple[str, ...], list[tuple[str, list[str]]], tuple[str, ...]]:
    """Return the known readings, each model's "before → after" of them, and the readings that no record has."""
    known = tuple(name for name in _READINGS if any(_moments(record, name) != (None, None) for record in latency))
    rows = [
        (label_of(record.report.model.precision), [_change(*_moments(record, name)) for name in known])
        for record in latency
    ]
    return known, rows, tuple(name for name in _READINGS if name not in known)


def _moments(record: LatencyRecord, name: str) -> tuple[Any, Any]:
    conditions = record.report.disturbance.conditions
    before, after = (conditions.get(moment, {}).get(name) for moment in ("before", "after"))
    return before, after


def _change(before: Any, after: Any) -> str:
    first, last = plainly(before), plainly(after)
    return first if first == last else f"{first} → {last}"


def plainly(value: Any, depth: int = 3) -> str:
    """Write a JSON value in a few words: the first four entries of a mapping, and at most `depth` levels."""
    if value is None:
        return wording.MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (Mapping, list, tuple)):
        return _several(value, depth - 1) if depth else "…"
    if isinstance(value, float):
        return wording.significant(value, 4) if not 1e4 <= abs(value) < 1e12 else wording.whole(round(value))
    return str(value)


def _several(values: Mapping[str, Any] | Sequence[Any], depth: int) -> str:
    if not isinstance(values, Mapping):
        return ", ".join(plainly(item, depth) for item in values) or "none"
    shown = [f"{name.replace('_', ' ')} {plainly(item, depth)}" for name, item in list(values.items())[:4]]
    return ", ".join(shown) + (", …" if len(values) > 4 else "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
