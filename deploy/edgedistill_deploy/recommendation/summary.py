"""The figures for a user's decision, one row for each model; the command prints them, and the report draws them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import USUAL_PRECISIONS, find_role
from edgedistill_deploy.recommendation._alternatives import is_alternative
from edgedistill_deploy.recommendation.choice import Choice
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.model import TEACHER
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import Records, read_records
from edgedistill_deploy.statistics.quantiles import OpenInterval
from edgedistill_deploy.statistics.verdicts import Verdict, worst_verdict
from edgedistill_deploy.wording import MISSING, bare_points, join_words, percent, points, points_interval

BASELINE = "baseline"
_LABELS = {"teacher": "teacher fp32"}
_SHORTFALLS = {
    "fail": ("does not hold the limit", "do not hold the limit"),
    "inconclusive": ("needs more images to be judged", "need more images to be judged"),
}
_UNKNOWN: OpenInterval = (None, None)

Place = tuple[str | None, str | None, str | None]  # device, runtime, provider


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactSummary:
    """One model on one device; None for what was not measured or recorded.

    `accuracy`, `agreement` and `drop` (teacher minus this model) are shares of the subtask's evaluation images. p50 and
    p99 are of one batch of `batch_size`; `timing_warnings` say why they are doubtful. `class_shortfall` says what its
    classes do to the verdict. `device`, `runtime` and `provider` are None if the bundle has no measurement.
    """

    precision: str
    device: str | None
    runtime: str | None
    provider: str | None
    parameters: int | None
    multiply_adds: int | None
    file_bytes: int | None
    sample_count: int | None
    accuracy: float | None
    accuracy_interval: OpenInterval
    drop: float | None
    drop_interval: OpenInterval
    max_drop: float | None
    agreement: float | None
    batch_size: int | None
    p50_ms: float | None
    p99_ms: float | None
    verdict: str | None
    class_shortfall: str
    reasons: tuple[str, ...]
    timing_warnings: tuple[str, ...]

    @property
    def label(self) -> str:
        """The model's name in tables."""
        return label_of(self.precision)

    @property
    def place(self) -> Place:
        """The place of the measurement."""
        return self.device, self.runtime, self.provider

    @property
    def is_teacher(self) -> bool:
        """True for the baseline of the other rows."""
        return self.precision == TEACHER

    @property
    def verdict_word(self) -> str:
        """The verdict in tables."""
        return verdict_word(self.precision, self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The verdict over all experts, a summary, the fastest expert to deploy, and the choice on each device."""

    verdict: Verdict | None
    sentence: str
    choice: ArtefactSummary | None
    choices: tuple[Choice, ...] = ()


def summarise(bundle: Bundle) -> tuple[ArtefactSummary, ...]:
    """Return a row for each model of each measured device and runtime: first the teacher, then the experts."""
    return summarise_records(bundle, read_records(bundle))


def summarise_records(bundle: Bundle, records: Records) -> tuple[ArtefactSummary, ...]:
    """Return the rows of `summarise` from records that were read before."""
    checked = [each.report for each in records.parity]
    # The smallest of several batch sizes counts. It is the last one here.
    timed = sorted((each.report for each in records.latency), key=lambda each: -each.setting.batch_size)
    models = [each.model for each in checked] + [each.model for each in timed]
    places: list[Place] = sorted({model.place for model in models}, key=str)
    rows = []
    for place in places or [(None, None, None)]:
        parity = {each.model.precision: each for each in checked if each.model.place == place}
        latency = {each.model.precision: each for each in timed if each.model.place == place}
        for precision in _precisions(bundle, place, {*parity, *latency}):
            rows.append(_row(bundle, precision, place, parity, latency.get(precision)))
    return tuple(rows)


def _precisions(bundle: Bundle, place: Place, measured: set[str]) -> list[str]:
    """Return the usual models that the bundle has for the place, then the others that were measured there."""
    usual = [each for each in USUAL_PRECISIONS if each in measured or _role(bundle, each, place)]
    return [*usual, *sorted(measured - set(usual))]


def _role(bundle: Bundle, precision: str, place: Place) -> str | None:
    return find_role(bundle.manifest["files"], precision, place[1] or "onnxruntime")


def _row(
    bundle: Bundle, precision: str, place: Place, parity: Mapping[str, ParityReport], latency: LatencyReport | None
) -> ArtefactSummary:
    model = bundle.manifest["teacher" if precision == "teacher" else "student"]
    checked = parity.get(precision)
    accuracy, accuracy_interval = _accuracy(precision, parity)
    return ArtefactSummary(
        precision=precision,
        device=place[0],
        runtime=place[1],
        provider=place[2],
        parameters=_whole(model.get("parameters")),
        multiply_adds=_whole(model.get("multiply_adds")),
        file_bytes=_file_bytes(bundle, _role(bundle, precision, place), checked or latency),
        sample_count=checked.images.sample_count if checked else None,
        accuracy=accuracy,
        accuracy_interval=accuracy_interval,
        drop=checked.accuracy.drop if checked else None,
        drop_interval=checked.accuracy.interval if checked and checked.accuracy.labelled_count else _UNKNOWN,
        max_drop=checked.judgement.limits.max_drop if checked else None,
        agreement=checked.likeness.agreement if checked else None,
        batch_size=latency.setting.batch_size if latency else None,
        p50_ms=latency.times.p50_ms if latency else None,
        p99_ms=latency.times.p99_ms if latency else None,
        verdict=checked.verdict if checked else None,
        class_shortfall=checked.class_shortfall if checked else "",
        reasons=checked.judgement.reasons if checked else (),
        timing_warnings=latency.disturbance.warnings if latency else (),
    )


def _accuracy(precision: str, parity: Mapping[str, ParityReport]) -> tuple[float | None, OpenInterval]:
    """Return a model's own accuracy; the teacher's is in every expert's record too."""
    if precision in parity:
        checked = parity[precision].accuracy
        found = checked.candidate, checked.candidate_interval
    else:
        others = (each.accuracy for each in parity.values() if precision == "teacher")
        found = next(((each.teacher, each.teacher_interval) for each in others), (None, (0.0, 1.0)))
    return found if found[0] is not None else (None, _UNKNOWN)


def _file_bytes(bundle: Bundle, role: str | None, record: ParityReport | LatencyReport | None) -> int | None:
    """Return the size of the measured file: INT8 has one file for ONNX Runtime and one for TensorRT."""
    files: Mapping[str, Mapping[str, Any]] = bundle.manifest["files"]
    if record:
        sizes = (int(each["bytes"]) for each in files.values() if each["sha256"] == record.model.model_sha256)
        return next(sizes, None)
    return int(files[role]["bytes"]) if role else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def conclude(rows: Sequence[ArtefactSummary], choices: Mapping[str, Choice]) -> Conclusion:
    """Say whether the checked experts are good enough, and which one to deploy; first of all, which classes are not.

    One failed expert fails the gate, as for `edgedistill validate`; but see `is_alternative`. `choices` are those of
    `choice.choose`; the fastest of several devices is named first.
    """
    checked = [row for row in rows if not row.is_teacher and row.verdict is not None]
    chosen = [row for row in checked if _is_chosen(row, choices)]
    choice = min(chosen, key=_cost, default=None)
    several = len({row.place for row in rows}) > 1
    sentences = _class_shortfalls(checked, several)
    sentences += [_choice_sentence(choice, rows, several)] if choice else []
    reasons = {each.device: each.timing_reason for each in choices.values() if each.model}
    sentences += [f"{device}: {each}" if len(choices) > 1 else each for device, each in reasons.items()]
    sentences += _shortfalls(checked, several)
    judged = {(row.precision, row.place) for row in checked}
    counted = [row for row in checked if not is_alternative((row.precision, row.place), judged)]
    return Conclusion(
        verdict=worst_verdict(row.verdict for row in counted if row.verdict) if counted else None,
        sentence=" ".join(sentences),
        choice=choice,
        choices=tuple(choices.values()),
    )


def _is_chosen(row: ArtefactSummary, choices: Mapping[str, Choice]) -> bool:
    choice = choices.get(row.device or "")
    model = choice.model if choice else None
    return model is not None and (model.precision, model.place) == (row.precision, row.place)


def verdict_word(precision: str, verdict: str | None) -> str:
    """Return a model's verdict in tables; the teacher's own file is what the others are held against."""
    return BASELINE if precision == TEACHER else verdict or MISSING


def label_of(precision: str) -> str:
    """Return a model's name in tables and sentences, by its precision."""
    return _LABELS.get(precision, f"expert {precision}")


def baseline_of(row: ArtefactSummary, rows: Iterable[ArtefactSummary]) -> ArtefactSummary | None:
    """Return the teacher measured in the same place as a row."""
    return next((each for each in rows if each.is_teacher and each.place == row.place), None)


def _cost(row: ArtefactSummary) -> tuple[float, float]:
    time, size = (float("inf") if cost is None else cost for cost in (row.p50_ms, row.file_bytes))
    return time, size


def _choice_sentence(choice: ArtefactSummary, rows: Sequence[ArtefactSummary], several: bool) -> str:
    teacher = baseline_of(choice, rows)
    clauses = [f"The {_name_row(choice, several)} is good enough"]
    if choice.accuracy is not None and teacher and teacher.accuracy is not None:
        clauses[0] += f": {percent(choice.accuracy)} accurate where the teacher is {percent(teacher.accuracy)}"
    elif choice.accuracy is None and choice.agreement is not None:
        clauses[0] += (
            f": it agrees with the teacher on {percent(choice.agreement)} of the images, none of which has a label"
        )
    if teacher and teacher.p50_ms and choice.p50_ms:
        factor = teacher.p50_ms / choice.p50_ms
        clauses.append(f"{factor:.1f} times as fast" if factor >= 1 else f"{1 / factor:.1f} times as slow")
    if teacher and teacher.file_bytes and choice.file_bytes:
        clauses.append(f"its file 1/{teacher.file_bytes / choice.file_bytes:.1f} of the size")
    return f"{', '.join(clauses)}."


def _name_row(row: ArtefactSummary, several: bool) -> str:
    """Name an expert, and its place if there are several."""
    runtime = row.runtime if row.provider in ("cpu", row.runtime) else f"{row.runtime} {row.provider}"
    return f"{row.precision} expert" + (f" on {row.device} with {runtime}" if several else "")


def _class_shortfalls(checked: Sequence[ArtefactSummary], several: bool) -> list[str]:
    """Name the experts that did not pass because of a class, the failed ones first."""
    rows = sorted((row for row in checked if row.class_shortfall), key=lambda row: row.verdict != "fail")
    return [f"The {_name_row(row, several)} {row.class_shortfall}." for row in rows]


def _shortfalls(checked: Sequence[ArtefactSummary], several: bool) -> list[str]:
    """Name the other experts that did not pass, or say that none was checked."""
    if not checked:
        return ["No expert was compared with the teacher yet: run edgedistill validate on this bundle."]
    sentences = []
    for verdict, (singular, plural) in _SHORTFALLS.items():
        names = [f"the {_describe_row(row, several)}" for row in _by_verdict(checked, verdict)]
        if names:
            subject = join_words(names)
            sentences.append(f"{subject[0].upper()}{subject[1:]} {plural if len(names) > 1 else singular}.")
    return sentences


def _by_verdict(checked: Sequence[ArtefactSummary], verdict: str) -> list[ArtefactSummary]:
    return [row for row in checked if row.verdict == verdict and not row.class_shortfall]


def _describe_row(row: ArtefactSummary, several: bool) -> str:
    """Name an expert with its drop, the drop's interval and the limit, as far as they are known."""
    if row.drop is None or row.max_drop is None:
        by_agreement = row.accuracy is None and row.agreement is not None
        agreement = f" (agreement with the teacher {percent(row.agreement)})" if by_agreement else ""
        return _name_row(row, several) + agreement
    interval = points_interval(row.drop_interval)
    told = f", interval {interval}" if interval else ""
    return f"{_name_row(row, several)} (drop {points(row.drop)}{told}, limit {bare_points(row.max_drop)})"
