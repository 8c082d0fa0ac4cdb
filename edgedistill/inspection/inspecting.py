"""The inspection: spectra, the teacher's accuracy on its leading directions, and the suggested student."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from edgedistill.compute.device import find_device, staying_on
from edgedistill.data.feeding import Feed
from edgedistill.data.sampling import sample_images
from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import fill_in, judged_by
from edgedistill.inspection.accuracy import Batch, Examination, Tally, tally
from edgedistill.inspection.config import WITHOUT_SPECTRUM, InspectConfig
from edgedistill.inspection.records import Inspection, LayerInspection, StudentFactor, Suggestion
from edgedistill.inspection.suggesting import (
    doubling_ranks,
    effective_rank,
    next_rank,
    plain_student,
    refusal,
    student_factor,
    suggested_width,
)
from edgedistill.models.names import shown_teacher_name
from edgedistill.models.student import build_student
from edgedistill.models.student_names import is_shrunk, shrunk_share
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import LayerPair, Shape, map_shapes, resolve_layer
from edgedistill.networks.modes import evaluating
from edgedistill.networks.pairing import pair_layers
from edgedistill.shrinking.shrinking import shape_of_shrunk
from edgedistill.subspaces.directions import subspace_from
from edgedistill.subspaces.finding import Sampling, gather_moments
from edgedistill.subspaces.moments import Moments
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Phases, Progress, silent
from edgedistill_deploy.statistics.chance import compare_with_chance
from edgedistill_deploy.statistics.paired import drop_interval, wilson_interval

Tallies = dict[tuple[str, str], dict[int, Tally]]
_SUBSPACES, _AT_K, _WIDTHS = "subspaces", "accuracy at K", "bisecting the widths"
_ROUNDS = 3  # of bisection, for most layers


def inspect_subspaces(
    teacher: Teacher,
    subtask: Subtask,
    images: SubtaskImages,
    config: InspectConfig | None = None,
    *,
    student: str = "",
    student_width: float = 1.0,
    progress: Progress = silent,
) -> Inspection:
    """Find the subspaces of a teacher's layers and how many directions its answers need (Chormai et al. 2026).

    One layer at a time is projected on its K leading directions, at its own resolution and at every position, and the
    rest of the teacher answers the validation images. Subspaces come from training images; no test image is used.

    Args:
        teacher: is the same afterwards.
        subtask: the classes that are kept; labels of `images` are in its order. Where validation images have none, the
            accuracies are agreement with the teacher as it is.
        student: for `build_student`, or a shrunk teacher; the layers of its pairs are inspected, unless `config.layers`
            names others.
        student_width: its factor.
        progress: called with what is done, in thousandths of the whole, and the name of the phase.

    Raises:
        UsageError: an unknown layer, a K above every layer's width, a student that cannot be built, or a device that
            this machine lacks.
        EdgeDistillError: a layer has no subspace; the message names it.
    """
    config = config or InspectConfig()
    size = teacher.preprocess.size
    device = find_device(config.compute)
    built = _build(student, student_width, teacher, len(subtask)) if student else None
    with staying_on(teacher.model, device), evaluating(teacher.model), torch.no_grad():
        pairs = _pairs(teacher.model, built, size, config.layers)
        layers = config.layers or tuple(pair.teacher for pair in pairs)
        shapes = map_shapes(teacher.model, layers, size)
        _check_ranks(config.ks, shapes)
        training = sample_images(images.train, config.training_images, config.seed)
        validation = sample_images(images.validation, config.images, config.seed)
        phases = Phases(progress, _phase_shares(config, shapes, len(training), len(validation)))
        work = _Passes(teacher=teacher, subtask=subtask, config=config, device=device, steps=_Steps(phases=phases))
        moments = work.moments(training, layers)
        examination = work.examination(validation, moments)
        predicted, labels = examination.ask_teacher()
        own = tally(predicted, predicted, labels)
        truth = fill_in(labels.cpu().numpy(), predicted.cpu().numpy())
        refused = refusal(compare_with_chance(truth, predicted.cpu().numpy()))
        tallies = work.tallies(examination, own, widths_wanted=refused is None)
        found = tuple(_layer_inspection(layer, shapes[layer], moments[layer], own, tallies, config) for layer in shapes)
        if refused is not None:
            found = tuple(replace(each, suggested_width=dict.fromkeys(config.methods)) for each in found)
        widths = {each.layer: each.suggested_width[config.methods[0]] for each in found}
        given = student_factor(student, built, pairs, widths, len(subtask), teacher) if built else None
        suggestion = replace(_suggestion(config.methods[0], widths, examination, given), refused=refused)
        phases.finish()
    return Inspection(
        teacher=shown_teacher_name(teacher.name),
        subtask=subtask.name,
        class_names=subtask.class_names,
        seed=config.seed,
        training_count=len(training),
        validation_count=own.size,
        teacher_accuracy=own.right / own.size,
        teacher_interval=wilson_interval(own.right, own.size),
        target=config.target,
        judged_by=judged_by(validation),
        layers=found,
        suggestion=suggestion,
    )


def _build(student: str, width: float, teacher: Teacher, class_count: int) -> nn.Module:
    if is_shrunk(student):
        return shape_of_shrunk(teacher, shrunk_share(student)).build(class_count, teacher.preprocess.size)
    return build_student(student, class_count, width=width, image_size=teacher.preprocess.size)


def _pairs(
    teacher: nn.Module, student: nn.Module | None, size: tuple[int, int], layers: Sequence[str]
) -> tuple[LayerPair, ...]:
    """Pair the teacher with the student; without one, pair it with itself."""
    for layer in layers:
        resolve_layer(teacher, layer)
    if student is None:
        return () if layers else pair_layers(teacher, teacher, size)
    return tuple(pair for pair in pair_layers(teacher, student, size) if not layers or pair.teacher in layers)


def _check_ranks(ks: Sequence[int], shapes: Mapping[str, Shape]) -> None:
    widest = max(shape[0] for shape in shapes.values())
    if ks and max(ks) > widest:
        widths = ", ".join(f"{name} {shape[0]}" for name, shape in shapes.items())
        raise UsageError(
            f"k = {max(ks)} is more directions than any inspected layer has ({widths}); give at most {widest}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """The passes over images, and what they share."""

    teacher: Teacher
    subtask: Subtask
    config: InspectConfig
    device: torch.device
    steps: "_Steps"

    def moments(self, images: ImageSet, layers: Sequence[str]) -> dict[str, Moments]:
        """Gather the layers' moments in one pass over training images."""
        return gather_moments(
            self.teacher.model,
            self.subtask.class_indices,
            (pixels for pixels, _ in self._batches(self._load(images))),
            layers,
            Sampling(positions=self.config.positions or None, seed=self.config.seed),
            progress=self.steps.count(len(images), _SUBSPACES),
        )

    def examination(self, images: ImageSet, moments: Mapping[str, Moments]) -> Examination:
        """Prepare to measure on validation images."""
        loaded = list(self._load(images))  # uint8, kept for all rounds
        return Examination(
            model=self.teacher.model,
            class_indices=self.subtask.class_indices,
            batches=lambda: self._batches(loaded),
            subspaces={
                (layer, method): subspace_from(each, len(each.mean), layer=layer, method=method, seed=self.config.seed)
                for layer, each in moments.items()
                for method in self.config.methods
            },
        )

    def tallies(self, examination: Examination, own: Tally, *, widths_wanted: bool) -> Tallies:
        """Measure every layer and method at `config.ks`, or at doubling ranks and those that decide the widths."""
        ks, subspaces = self.config.ks, examination.subspaces
        tallies: Tallies = {key: {} for key in subspaces}
        due = {key: _ranks(ks, len(subspace.mean)) for key, subspace in subspaces.items()}
        phase, expected = _AT_K, 0
        while due:
            count = self.steps.count(own.size * sum(map(len, due.values())), phase, expected)
            phase, expected = _WIDTHS, own.size * len(subspaces) * _ROUNDS
            for key, each in examination.measure_projected(due, count).items():
                tallies[key] |= each
            due = {} if ks or not widths_wanted else _find_undecided(tallies, own, self.config.target)
        return tallies

    def _load(self, images: ImageSet) -> Iterator[Batch]:
        with contextlib.closing(
            Feed(images, self.teacher.preprocess, self.config.batch_size, workers=self.config.workers)
        ) as feed:
            yield from ((pixels, labels) for pixels, labels, _ in feed.batches())

    def _batches(self, loaded: Iterator[Batch] | Sequence[Batch]) -> Iterator[Batch]:
        normalise = self.teacher.normalise().to(self.device)
        for pixels, labels in loaded:
            yield normalise(pixels.to(self.device)), labels.to(self.device)


@dataclass(slots=True, kw_only=True)
class _Steps:
    """Counts images in each phase; a phase may have several passes."""

    phases: Phases
    _phase: str = ""
    _report: Progress = silent
    _total: int = 0

    def count(self, images: int, phase: str, expected: int = 0) -> Progress:
        """Add `images` to the phase, of which so many are expected; the returned function takes those that are done."""
        if phase != self._phase:
            self._phase, self._report, self._total = phase, self.phases.begin(phase), 0
        report, before = self._report, self._total
        self._total += images
        whole = max(self._total, expected)
        return lambda done, total, note="": report(before + done, whole)


def _phase_shares(
    config: InspectConfig, shapes: Mapping[str, Shape], training_count: int, validation_count: int
) -> dict[str, float]:
    """Return how long each phase takes beside the others, in runs of the teacher on an image; roughly."""
    spectra = len(config.methods)
    ranks = sum(spectra * len(_ranks(config.ks, shape[0])) for shape in shapes.values())
    return {
        _SUBSPACES: 3.0 * training_count,
        _AT_K: 0.5 * validation_count * ranks,
        _WIDTHS: 0.0 if config.ks else 0.5 * validation_count * spectra * len(shapes) * _ROUNDS,
    }


def _ranks(ks: Sequence[int], width: int) -> tuple[int, ...]:
    return tuple(sorted({min(k, width) for k in ks})) or doubling_ranks(width)


def _find_undecided(tallies: Tallies, own: Tally, target: float) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return the ranks to measure next, for the suggested widths that are not certain yet."""
    found = {key: next_rank(_find_met(each, own, target)) for key, each in tallies.items()}
    return {key: (k,) for key, k in found.items() if k is not None}


def _find_met(tallies: Mapping[int, Tally], own: Tally, target: float) -> dict[int, bool]:
    return {k: not each.misses(target, own) for k, each in tallies.items()}


def _layer_inspection(
    layer: str, shape: Shape, moments: Moments, own: Tally, tallies: Tallies, config: InspectConfig
) -> LayerInspection:
    at = {method: tallies[layer, method] for method in config.methods}
    spectra = {method: _spectrum(moments, layer, method) for method in config.methods if method not in WITHOUT_SPECTRUM}
    return LayerInspection(
        layer=layer,
        width=shape[0],
        map_size=shape[1:],
        effective_rank=effective_rank(_spectrum(moments, layer, "pca")),
        eigenvalues=spectra,
        accuracy_at_k={method: tuple(each[k].at(k) for k in sorted(each)) for method, each in at.items()},
        suggested_width={method: suggested_width(_find_met(each, own, config.target)) for method, each in at.items()},
    )


def _spectrum(moments: Moments, layer: str, method: str) -> tuple[float, ...]:
    return tuple(subspace_from(moments, 1, layer=layer, method=method).eigenvalues.tolist())


def _suggestion(
    method: str, widths: Mapping[str, int | None], examination: Examination, given: StudentFactor | None
) -> Suggestion:
    known = {layer: width for layer, width in widths.items() if width is not None}
    together = examination.together(method, known) if len(known) == len(widths) else None
    return Suggestion(
        method=method,
        widths=tuple(widths.values()),
        student=plain_student(tuple(widths.values())),
        together_accuracy=together.right / together.size if together else None,
        together_drop_interval=drop_interval(together.lost, together.gained, together.size) if together else None,
        given=given,
    )
