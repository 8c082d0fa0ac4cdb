"""Checks the models of a bundle against the teacher, one after another, on the same images.

A library user, the command and a device over SSH use the same function. The same runs show which step lost the
accuracy, and which images are decided differently.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from edgedistill_deploy.bundle.extended import NewAnswers
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import USUAL_PRECISIONS, judged_precisions, made_for, model_role
from edgedistill_deploy.errors import EdgeDistillError, NotWrittenError, UsageError
from edgedistill_deploy.evaluation.figures import Answers
from edgedistill_deploy.evaluation.images import Evaluation, open_evaluation
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity._reference_checks import with_reference_checks
from edgedistill_deploy.parity.answers import describe_answers, write_answers
from edgedistill_deploy.parity.chain import chain_record, chain_steps, write_chain
from edgedistill_deploy.parity.check import ParityReport, check_answers, collect_answers, write_parity
from edgedistill_deploy.parity.flips import MAX_LISTED, MAX_PICTURES, find_flips, write_flip_record
from edgedistill_deploy.parity.preprocess_drift import measure_preprocess_drift
from edgedistill_deploy.parity.teacher_answers import find_teacher_file
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.answers import AnswersReport
from edgedistill_deploy.records.decisions import INLINED, ChainStep, FlipReport
from edgedistill_deploy.records.parity import DEFAULT_LIMITS, ParityLimits
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.runtimes.session import LIMIT_S, Session, require_limit
from edgedistill_deploy.statistics.verdicts import Verdict, worst_verdict

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRequest:
    """The models to check, and how to check them.

    Args:
        limits: the allowed drops, the least agreement, the allowed classes, and the confidence.
        precisions: names of `bundle.precisions`; None for all in the bundle that the runtime accepts, save those made
            for other devices.
        runtime, provider, threads: as for `open_session`; the same for all models.
        preprocess_drift: measure for each expert the cost of other ways of preparing the images.
        flips: list all images that teacher and expert decide differently, with their pictures; else the first twelve.
        pictures: keep small pictures of a few images in the records, for the report.
        limit_s: how long one inference may take, a batch of images.
        all_files: also run the files made for another runtime. They are steps of the chain, and are not judged.
        optional: leave out a model that cannot be run here, with its reason, instead of raising.
    """

    limits: ParityLimits = DEFAULT_LIMITS
    precisions: tuple[str, ...] | None = None
    runtime: str = "onnxruntime"
    provider: str = "cpu"
    threads: int | None = None
    preprocess_drift: bool = False
    flips: bool = False
    pictures: bool = True
    all_files: bool = False
    optional: bool = False
    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        require_limit(self.limit_s)
        for name in self.precisions or ():
            model_role(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A report of each judged model, and the loss of each step from the teacher.

    `answers` and `flips` are of the experts: their answers beside the teacher's, and the images that both decide
    differently. `unkept` says why records could not be written. `answered` are the teacher's answers to images that
    had none. `left_out` says by precision why an optional model could not be run.
    """

    reports: tuple[ParityReport, ...]
    chain: tuple[ChainStep, ...]
    answers: tuple[AnswersReport, ...] = ()
    flips: tuple[FlipReport, ...] = ()
    unkept: str | None = None
    answered: NewAnswers | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the models that count; see `judged_precisions`."""
        judged = judged_precisions(report.model.precision for report in self.reports)
        return worst_verdict(report.verdict for report in self.reports if report.model.precision in judged)


def validate_bundle(
    bundle: Bundle,
    request: ValidationRequest | None = None,
    images: ImageSet | None = None,
    *,
    write: bool = False,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Validation:
    """Check the models of a bundle against the teacher's recorded answers.

    Args:
        bundle: has the models and the teacher's answers.
        request: the models and the checks.
        images: the evaluation images; by default those recorded in the bundle.
        write: write the records of a model as soon as it is checked, and the chain if all models are. A record that
            cannot be written does not stop the check.
        folder: where the records go; by default the bundle.
        progress: its note is MODEL: WHAT. The model's name is its precision, with an unusual provider.

    Raises:
        UsageError: the drift is requested without images, or a class that the limits allow is none of the bundle's.
        DataError: no image can be compared.
        BundleError: a model is missing, or files do not fit each other.
        EdgeDistillError: a model cannot be opened, and is not optional.
    """
    asked = request or ValidationRequest()
    asked.limits.allowed_among(bundle.classes)
    if asked.preprocess_drift and images is None:
        raise UsageError(
            "--preprocess-drift needs image files to prepare in other ways, and those in the bundle are prepared "
            "already; name a folder of images with --data."
        )
    precisions = asked.precisions or bundle.precisions_here(asked.runtime)
    opener = _Opener(bundle=bundle, asked=asked, progress=progress)
    teacher = find_teacher_file(bundle, lambda: opener.open("teacher"), opener.tell("teacher"))
    evaluation = with_reference_checks(bundle, open_evaluation(bundle, images, teacher), lambda: opener.open("teacher"))
    checker = _Checker(opener=opener, images=images, evaluation=evaluation)
    answers: dict[str, Answers] = {}
    reports: list[ParityReport] = []
    decisions: list[tuple[AnswersReport, FlipReport]] = []
    unkept: list[str] = []
    left_out: dict[str, str] = {}
    for precision in precisions:
        try:
            report, answers[precision] = checker.check(precision)
        except EdgeDistillError as error:
            if not asked.optional:
                raise
            left_out[precision] = str(error)
            continue
        reports.append(report)
        if write:
            unkept.append(_keep(write_parity, bundle, report, folder))
        if precision != "teacher":
            decisions.append(checker.describe(report, answers[precision]))
            if write:
                unkept += _keep_decisions(bundle, *decisions[-1], folder, asked.pictures)
    models = {report.model.precision: report.model.model_sha256 for report in reports}
    for precision in _others(bundle) if asked.all_files else ():
        models[precision], answers[precision] = checker.ask(precision)
    chain = chain_steps(answers, asked.limits.confidence, models)
    if write and chain and asked.precisions is None:
        unkept.append(_keep(write_chain, bundle, chain_record(reports, chain), folder))
    return Validation(
        reports=tuple(reports),
        chain=chain,
        answers=tuple(described for described, _ in decisions),
        flips=tuple(flips for _, flips in decisions),
        unkept=next(filter(None, unkept), None),
        answered=evaluation.answered,
        left_out=left_out,
    )


def _keep_decisions(
    bundle: Bundle, answers: AnswersReport, flips: FlipReport, folder: Path | None, pictures: bool
) -> tuple[str, str]:
    """Write both records; return for each "", or why it cannot be written."""
    write_flips = partial(write_flip_record, pictures=pictures)
    return _keep(write_answers, bundle, answers, folder), _keep(write_flips, bundle, flips, folder)


def _keep(write: Callable[[Bundle, T, Path | None], Path], bundle: Bundle, record: T, folder: Path | None) -> str:
    """Write a record; return "", or why it cannot be written."""
    try:
        write(bundle, record, folder)
    except NotWrittenError as error:
        return str(error)
    return ""


def _others(bundle: Bundle) -> tuple[str, ...]:
    """Return the expert's files made for one runtime; other runtimes can run them too."""
    return tuple(each for each in bundle.precisions if each not in USUAL_PRECISIONS and made_for(each) is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opener:
    """Opens the models of a bundle as they were asked for."""

    bundle: Bundle
    asked: ValidationRequest
    progress: Progress

    def open(self, precision: str) -> Session:
        """Open a model with the runtime asked for."""
        return open_session(
            self.bundle,
            runtime=self.asked.runtime,
            precision=precision,
            provider=self.asked.provider,
            threads=self.asked.threads,
            progress=self.tell(precision),
            limit_s=self.asked.limit_s,
        )

    def tell(self, precision: str) -> Progress:
        """Return the progress of a model, whose notes begin with its name."""
        runtime, provider = self.asked.runtime, self.asked.provider
        name = precision if provider in ("cpu", runtime) else f"{precision} on {provider}"
        return lambda done, total, note="": self.progress(done, total, f"{name}: {note}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checker:
    """Opens one model after another and runs it on the same images."""

    opener: _Opener
    images: ImageSet | None
    evaluation: Evaluation

    def check(self, precision: str) -> tuple[ParityReport, Answers]:
        """Return the report on a model, and both models' answers."""
        bundle, asked, tell = self.opener.bundle, self.opener.asked, self.opener.tell(precision)
        with self.opener.open(precision) as session:
            answers = collect_answers(session, self.evaluation, progress=tell)
            report = check_answers(bundle, session, self.evaluation, answers, asked.limits)
            if asked.preprocess_drift and self.images is not None and precision != "teacher":
                confidence = asked.limits.confidence
                drift = measure_preprocess_drift(bundle, session, self.images, confidence, progress=tell)
                report = report.with_drift(drift.rows, drift.notes)
        return report, answers

    def describe(self, report: ParityReport, answers: Answers) -> tuple[AnswersReport, FlipReport]:
        """Return the expert's answers beside the teacher's, and the images that both decide differently."""
        names, evaluation, asked = self.opener.bundle.class_names, self.evaluation, self.opener.asked
        listed = MAX_LISTED if asked.flips else INLINED
        pictures = MAX_PICTURES if asked.flips else INLINED if asked.pictures else 0
        return (
            describe_answers(report, evaluation, answers, names, pictures=asked.pictures),
            find_flips(report, evaluation, answers, names, listed=listed, pictures=pictures),
        )

    def ask(self, precision: str) -> tuple[str, Answers]:
        """Return the sha256 of a model that is not judged, and both models' answers."""
        with self.opener.open(precision) as session:
            answers = collect_answers(session, self.evaluation, progress=self.opener.tell(precision))
            return session.model_sha256, answers
