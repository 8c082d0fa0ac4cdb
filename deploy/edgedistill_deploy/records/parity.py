"""The parity record: the result of a check of a model against its teacher.

One definition serves for writing, reading and printing. Shares lie between 0 and 1. A drop is the teacher's share minus
the model's. In JSON the groups of a report are flat (`schema.FLAT`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from edgedistill_deploy import wording as words
from edgedistill_deploy.classes.groups import WantedClass, group_of_member, names_of
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.records.classes import ClassFigures, ClassFinding
from edgedistill_deploy.records.model import Int8Kernels, MeasuredModel
from edgedistill_deploy.records.schema import Record, Share, Shares
from edgedistill_deploy.records.values import as_bool, as_list, as_mapping, as_share, as_text, maybe
from edgedistill_deploy.records.writing import FLAT
from edgedistill_deploy.statistics.paired import Interval
from edgedistill_deploy.statistics.verdicts import Verdict

UNLABELLED_AGREEMENT = 0.95  # the least agreement where no image has a label, by default
_IDENTITY = ("device", "runtime", "provider", "precision", "model_sha256")  # of a record that cannot be read
_NAMES_SHOWN = 3  # classes in a part of a sentence
_SENTENCES_SHOWN = 4  # reasons, diagnoses and notes of each when a report prints itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Shares of the labelled images that are right, and the paired drop. Shares are None if no label is known."""

    labelled_count: int
    teacher: Share | None
    teacher_interval: Shares
    candidate: Share | None
    candidate_interval: Shares
    drop: Share | None
    interval: Shares
    confidence: Share
    lost_count: int
    gained_count: int
    mcnemar_p: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceCalibration:
    """Expected calibration error in [0, 1]; None without labels or with logits that are not finite.

    Source: Naeini, Cooper and Hauskrecht, AAAI 2015, as used by Guo et al., ICML 2017. Bins of equal width divide the
    largest softmax output. The gap between accuracy and mean confidence is averaged over the bins, weighted by images.
    """

    teacher: Share | None
    candidate: Share | None
    bins: int
    binning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InDomain:
    """The share of the subtask's own images that the reject score accepts, and the accuracy on the accepted ones."""

    accepted: Share
    accepted_accuracy: Share | None


GOLDEN_OUTPUTS = "golden_outputs"  # the name of the check that `Numeric` is the figures of


@dataclass(frozen=True, slots=True, kw_only=True)
class Numeric:
    """Logits against the recorded ones, those of `recorded_of`.

    They are the outputs of the "student", those of this "file" when it was made, or the "teacher"'s answers. `cosine`
    is over all logits at once. Fields are None if nothing was recorded or a logit is not finite. Without a `tolerance`
    nothing is judged by them.
    """

    max_abs_error: float | None
    cosine: float | None
    tolerance: float | None
    image_count: int
    recorded_of: Literal["student", "file", "teacher"] = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition and its result; `detail` is a sentence about what was compared."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotChecked:
    """A check that could not be made; `detail` is a sentence that begins with "Not checked, because"."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationResult(Check):
    """One metamorphic relation; `inputs` are the names of the images that broke it."""

    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A fault: its name, a sentence about it, and the figures behind it as plain JSON values."""

    name: str
    detail: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRow:
    """One way of preparing images. The drop against the contract's way and its `interval` are in points.

    `changed_share` of the images gave another input. The values (0 to 255) differ by `mean_abs_difference` on average.
    """

    variant: str
    what: str
    accuracy: Share
    drop_points: float
    interval: Interval
    changed_share: Share
    mean_abs_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityLimits:
    """What a model must keep, as shares.

    Args:
        max_drop: the largest allowed drop in accuracy (0.02 is two points).
        confidence: that of the two-sided intervals.
        max_class_drop: the largest allowed drop in accuracy on each class; None to fail for dead classes alone.
        min_agreement: the least agreement with the teacher, held by the lower end of its interval; None for no limit,
            and for 0.95 where no image has a label: there the agreement is all that can be judged.
        allowed_classes: names of the classes that may be dead or worse.
        strict: a check that could not be made fails the model.
    """

    max_drop: float = 0.02
    confidence: float = 0.95
    max_class_drop: float | None = None
    min_agreement: float | None = None
    allowed_classes: tuple[str, ...] = ()
    strict: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 1:
            raise UsageError(f"max_drop is {self.max_drop}; it must lie between 0 and 1: 0.02 is two points.")
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence is {self.confidence}; it must lie between 0 and 1, for example 0.95.")
        for name, usual in (("max_class_drop", 0.1), ("min_agreement", UNLABELLED_AGREEMENT)):
            share = getattr(self, name)
            if share is not None and not 0 <= share < 1:
                meant = share / 100 if 1 < share < 100 else usual  # 95 is meant as a percentage
                raise UsageError(f"{name} is {share:g}; it must be at least 0 and below 1, for example {meant:g}.")

    def agreement_limit(self, labelled_count: int) -> float | None:
        """Return the least agreement; where no image has a label, `min_agreement` has a default."""
        unset = None if labelled_count else UNLABELLED_AGREEMENT
        return unset if self.min_agreement is None else self.min_agreement

    def allowed_among(self, classes: Sequence[WantedClass]) -> frozenset[str]:
        """Return the allowed classes as the bundle spells them. Raises UsageError for a name that is none of these."""
        if not self.allowed_classes:
            return frozenset()
        known, allowed = ClassList(names_of(classes)), tuple(dict.fromkeys(self.allowed_classes))
        for name in allowed:
            if known.find(name) is None and (group := group_of_member(name, classes)):
                raise UsageError(
                    f"The expert has no class {name!r} of its own: it is part of {group!r}, which can be allowed as a "
                    "whole."
                )
        return frozenset(known.names[place] for place in known.find_all(allowed, "The expert has"))


DEFAULT_LIMITS = ParityLimits()


def as_limits(value: Any) -> ParityLimits:
    """Accept limits only if drop and confidence are stated: a record has no defaults for these."""
    limits = as_mapping(value)
    return ParityLimits(
        max_drop=as_share(limits["max_drop"]),
        confidence=as_share(limits["confidence"]),
        max_class_drop=maybe(limits.get("max_class_drop"), as_share),
        min_agreement=maybe(limits.get("min_agreement"), as_share),
        allowed_classes=tuple(map(as_text, as_list(limits.get("allowed_classes", [])))),
        strict=as_bool(limits.get("strict", False)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCounts:
    """The number of compared images, and of those left out because there is no teacher's answer to them.

    `answered_count` of the compared images were answered by the teacher's file now, because no answer was recorded.
    """

    sample_count: int
    unknown_count: int
    answered_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How similar the model's answers are to the teacher's. `mean_kl` is in nats, None if it is not finite."""

    agreement: Share
    agreement_interval: Shares
    mean_kl: float | None
    confidence_calibration: ConfidenceCalibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundness:
    """What must hold at any accuracy: the recorded outputs, the relations, the checks.

    Records of earlier versions do not name what was not checked.
    """

    numeric: Numeric
    metamorphic: tuple[RelationResult, ...]
    checks: tuple[Check, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()

    @property
    def tests(self) -> tuple[Check, ...]:
        """The relations, then the checks."""
        return (*self.metamorphic, *self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, its limits and reasons, and the number of images that would decide an inconclusive one.

    `class_findings` is None in records of earlier versions, which judged no class.
    """

    limits: Annotated[ParityLimits, as_limits]
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    images_to_decide: int | None = None
    class_findings: tuple[ClassFinding, ...] | None = None

    def classes_with(self, verdict: Verdict, fault: str) -> tuple[str, ...]:
        """Return the names of the classes with this finding."""
        found = self.class_findings or ()
        return tuple(each.name for each in found if (each.verdict, each.fault) == (verdict, fault))


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Findings beside the verdict; None if not requested, or if the model has no such output."""

    notes: tuple[str, ...] = ()
    diagnosis: tuple[Diagnosis, ...] = ()
    preprocess_drift: tuple[DriftRow, ...] | None = None
    in_domain: InDomain | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """The nodes on each provider, the processor's INT8 instructions, and what the INT8 kernels do.

    Records of earlier versions have no INT8 keys.
    """

    placement: Mapping[str, int] | None = None
    int8_instructions: tuple[str, ...] | None = None
    int8_kernels: Int8Kernels | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport(Record):
    """All results of a parity check. Printed, it fills one screen."""

    KIND = "parity"

    bundle: str
    model: MeasuredModel = field(metadata=FLAT)
    images: ImageCounts = field(metadata=FLAT)
    accuracy: Accuracy
    likeness: Likeness = field(metadata=FLAT)
    classes: ClassFigures = field(metadata=FLAT)
    soundness: Soundness = field(metadata=FLAT)
    judgement: Judgement = field(metadata=FLAT)
    findings: Findings = field(metadata=FLAT)
    arithmetic: Arithmetic = field(metadata=FLAT)

    @property
    def verdict(self) -> Verdict:
        """The verdict that the gate uses. An earlier version's record, which judged no class, fails by a dead one."""
        return "fail" if self._unjudged_dead else self.judgement.verdict

    @property
    def class_shortfall(self) -> str:
        """What its classes do to the verdict, as the end of a sentence on the model; "" if they do not decide it."""
        judged = self.judgement
        if dead := self._unjudged_dead or judged.classes_with("fail", "dead"):
            return f"has {'a dead class' if len(dead) == 1 else 'dead classes'}: {_word_names(dead)}"
        if beyond := judged.classes_with("fail", "beyond_limit"):
            return f"loses more than is allowed for a class: {_word_names(beyond)}"
        unknown = judged.classes_with("inconclusive", "dead") + judged.classes_with("inconclusive", "beyond_limit")
        if unknown and judged.verdict == "inconclusive":
            return f"needs more images of a class to be judged: {_word_names(unknown)}"
        return ""

    @property
    def _unjudged_dead(self) -> tuple[str, ...]:
        if self.judgement.class_findings is not None:
            return ()
        return tuple(row.name for row in self.classes.per_class if row.is_lost and row.significantly_worse)

    def with_drift(self, rows: tuple[DriftRow, ...], notes: tuple[str, ...]) -> "ParityReport":
        """Return the report with the cost of other ways of preparing the images."""
        findings = replace(self.findings, preprocess_drift=rows, notes=(*self.findings.notes, *notes))
        return replace(self, findings=findings)

    def __str__(self) -> str:
        return words.screen(f"Parity with the teacher: {self.model}", _rows(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableParity:
    """A parity record that is not there for a summary: its own statements about itself, and the problem.

    `what` is the subject and the verb of the problem.
    """

    bundle: str
    model: MeasuredModel
    problem: str
    what: str = "The record cannot be read"

    @classmethod
    def of_bundle(cls, bundle: str, problem: str) -> "UnreadableParity":
        """Stand for a bundle that could not be judged at all; it has no model."""
        none = dict.fromkeys(_IDENTITY, "")
        return cls(bundle=bundle, model=MeasuredModel(**none), problem=problem, what="The bundle cannot be judged")


def read_parity(document: Mapping[str, Any]) -> ParityReport | UnreadableParity:
    """Read a record for a summary, which also names the records that it cannot show."""
    try:
        return ParityReport.from_json(document)
    except DataError as error:
        model = MeasuredModel(**{name: str(document.get(name, "unknown")) for name in _IDENTITY})
        return UnreadableParity(bundle=str(document.get("bundle", "")), model=model, problem=str(error))


def _rows(report: ParityReport) -> Iterator[tuple[str, str]]:
    accuracy, likeness, classes = report.accuracy, report.likeness, report.classes
    yield "bundle", f"{report.bundle}, {words.whole(report.images.sample_count)} images"
    limit = words.points(report.judgement.limits.max_drop)
    shortfall = report.class_shortfall
    why = f"it {shortfall}; {_word_drop(accuracy)}" if shortfall else _word_drop(accuracy)
    yield "verdict", f"{report.verdict}: {why}, limit {limit}"
    yield "accuracy", words.with_interval(accuracy.candidate, accuracy.candidate_interval)
    yield "teacher", words.with_interval(accuracy.teacher, accuracy.teacher_interval)
    yield "agreement", words.with_interval(likeness.agreement, likeness.agreement_interval)
    yield "classes", f"{classes.worse_count} of {classes.class_statistics.tested_count} lost significantly"
    yield "outputs", _word_outputs(report.soundness.numeric)
    tests = report.soundness.tests
    yield "checks", f"{sum(each.passed for each in tests)} of {len(tests)} hold"
    yield "not checked", " ".join(f"{each.name}: {each.detail}" for each in report.soundness.not_checked)
    yield "reasons", " ".join(report.judgement.reasons[:_SENTENCES_SHOWN])
    diagnosis = report.findings.diagnosis[:_SENTENCES_SHOWN]
    yield "diagnosis", " ".join(f"{each.name}: {each.detail}" for each in diagnosis)
    yield "notes", " ".join(report.findings.notes[:_SENTENCES_SHOWN])


def _word_names(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    more = [f"{rest} more"] if rest > 0 else []
    return words.join_words([*map(repr, names[:_NAMES_SHOWN]), *more])


def _word_drop(accuracy: Accuracy) -> str:
    if accuracy.drop is None:
        return "no label is known"
    interval = words.points_interval(accuracy.interval)
    return f"drop {words.points(accuracy.drop)}, {accuracy.confidence:.0%} interval {interval}"


def _word_outputs(numeric: Numeric) -> str:
    if not numeric.image_count:
        return "none recorded"
    tolerance = "" if numeric.tolerance is None else f", tolerance {words.significant(numeric.tolerance)}"
    return f"largest error {words.significant(numeric.max_abs_error)}{tolerance}"
