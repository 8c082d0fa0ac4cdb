"""The images of a parity check, joined with the teacher's recorded answers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.extended import NewAnswers, read_extended
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import Reference, read_reference
from edgedistill_deploy.classes.groups import ClassGroup, claim_folders
from edgedistill_deploy.classes.lookup import in_one_message
from edgedistill_deploy.errors import BundleError, DataError, EdgeDistillError, UsageError
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet, batches
from edgedistill_deploy.records.parity import Check, NotChecked

Rows = NDArray[np.int64]
Prepared = NDArray[np.uint8]

_BATCH = 64  # images that the teacher's file is asked about at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Images with the teacher's logits (n, C) and labels (n,), -1 where unknown.

    `prepared` yields the uint8 (m, H, W, 3) batches of the given rows, in order. `name` is a row's name in messages,
    `digest` the sha256 of its source. `recorded` is the reference that the answers come from, and `checks` are the
    results of its checks. `conflict_count` images have another label than the recorded one. `unknown_count` images were
    left out, because no teacher's answer to them was recorded and its file is not there to ask. `answered` are the
    answers that it gave now. `notes` are sentences for the report.
    """

    teacher: NDArray[np.float32]
    labels: Rows
    prepared: Callable[[Rows, int], Iterator[Prepared]]
    name: Callable[[int], str]
    digest: Callable[[int], str]
    recorded: Reference
    checks: tuple[Check | NotChecked, ...] = ()
    conflict_count: int = 0
    unknown_count: int = 0
    answered: NewAnswers | None = None
    notes: tuple[str, ...] = ()

    def spread(self, count: int) -> Rows:
        """Return up to `count` rows, spread evenly over the set."""
        return np.unique(np.linspace(0, len(self.labels) - 1, count).round().astype(np.int64))

    def images(self, rows: Rows) -> Prepared:
        """Return the prepared images (m, H, W, 3) of these rows, all in memory."""
        return np.concatenate(list(self.prepared(rows, len(rows))))


class AskedTeacher(Protocol):
    """The teacher's file, which can be asked about images."""

    @property
    def path(self) -> Path:
        """The file."""

    def ask(self, batches: Iterable[Prepared], count: int) -> tuple[NDArray[np.float32], str, str]:
        """Return the logits (count, C) of prepared images, and the runtime and provider that gave them."""


def open_evaluation(bundle: Bundle, images: ImageSet | None, teacher: AskedTeacher | None = None) -> Evaluation:
    """Match images with the reference recorded in the bundle; by default take the images recorded there.

    Images are recognised by the digest of their source. `teacher` answers those whose answers are not recorded; without
    it, they are left out. Raises DataError if no image is known or recorded, and BundleError if the reference does not
    fit the bundle's classes.
    """
    reference = read_reference(bundle.file("reference"))
    classes = len(bundle.class_names)
    if reference.logits.shape[1] != classes:
        raise BundleError(
            f"The reference of {bundle.path} holds logits of {reference.logits.shape[1]} classes, but the bundle names "
            f"{classes}; export it again."
        )
    if images is None:
        return _build_from_reference(reference)
    return _build_from_images(bundle, images, reference, teacher)


def choose_classes(images: ImageSet, bundle: Bundle) -> ImageSet:
    """Return the images of the bundle's classes, labelled in its order; a group has those of its members' folders.

    Raises:
        UsageError: the images lack a class, or a folder belongs to two classes; it lists all of these.
    """
    if images.class_names == bundle.class_names:
        return images
    if any(isinstance(each, ClassGroup) for each in bundle.classes):
        claims = claim_folders(images.class_names, bundle.classes, "The images have")
        if claims.problems:
            raise UsageError(in_one_message(claims.problems))
        images = images.rename_classes(claims.renamed)
    return images.with_classes(bundle.class_names)


def _build_from_reference(reference: Reference) -> Evaluation:
    images, rows = reference.images, reference.image_index
    if images is None or len(images) == 0:
        raise DataError(
            "The bundle records no images (they were left out for size, or there were none); name the evaluation "
            "images, for example with --data."
        )
    sampled = len(rows) < len(reference.labels)
    note = f"Judged on the {len(rows)} recorded images of {len(reference.labels)} evaluation images."
    return Evaluation(
        recorded=reference,
        teacher=reference.logits[rows],
        labels=reference.labels[rows],
        prepared=lambda wanted, size: (images[wanted[start : start + size]] for start in range(0, len(wanted), size)),
        digest=lambda row: str(reference.digests[rows[row]]),
        name=lambda row: f"recorded image {rows[row]} (sha256 {str(reference.digests[rows[row]])[:12]})",
        notes=(note,) if sampled else (),
    )


def _build_from_images(
    bundle: Bundle, images: ImageSet, reference: Reference, teacher: AskedTeacher | None
) -> Evaluation:
    subtask = choose_classes(images, bundle)
    digests = np.array([subtask.digest(index) for index in range(len(subtask))])
    kept = read_extended(bundle)
    recorded = _rows_of(digests, reference)
    known = (recorded >= 0) | (_rows_of(digests, kept) >= 0)
    answered, refused = _ask_or_tell(bundle, subtask, known, teacher)
    logits, labels = np.zeros((len(subtask), len(bundle.class_names)), np.float32), np.full(len(subtask), NO_LABEL)
    for source in (answered.answers if answered else None, kept, reference):  # the build's own answers come last
        rows = _rows_of(digests, source)
        if source is not None:
            logits[rows >= 0], labels[rows >= 0] = source.logits[rows[rows >= 0]], source.labels[rows[rows >= 0]]
    chosen = np.arange(len(subtask)) if answered else np.flatnonzero(known)
    if not len(chosen):
        raise DataError(_nothing_known(bundle, len(subtask), len(reference.labels)))
    merged, conflicts = _merge_labels(subtask.labels[chosen], labels[chosen])
    unknown = len(subtask) - len(chosen)
    return Evaluation(
        recorded=reference,
        teacher=logits[chosen],
        labels=merged,
        prepared=lambda wanted, size: batches(subtask.select(chosen[wanted]), bundle.preprocess, size),
        digest=lambda row: str(digests[chosen[row]]),
        name=lambda row: subtask.name(int(chosen[row])),
        conflict_count=conflicts,
        unknown_count=unknown,
        answered=answered,
        notes=tuple(
            _notes(unknown, conflicts, answered, int(np.sum(known & (recorded < 0))), refused or _how_to_ask(bundle))
        ),
    )


def _rows_of(digests: NDArray[np.str_], source: Reference | None) -> Rows:
    """Return the row of each image (n,) in a reference, -1 for one that it does not have."""
    row_of = {} if source is None else {str(digest): row for row, digest in enumerate(source.digests)}
    return np.array([row_of.get(str(digest), -1) for digest in digests], dtype=np.int64)


def _ask_or_tell(
    bundle: Bundle, images: ImageSet, known: NDArray[np.bool_], teacher: AskedTeacher | None
) -> tuple[NewAnswers | None, str]:
    """Let the teacher's file answer the images that are not known, or say why it cannot; raise where none is known."""
    if teacher is None or known.all():
        return None, ""
    try:
        return _ask(bundle, images, np.flatnonzero(~known), teacher), ""
    except BundleError:
        raise
    except EdgeDistillError as error:
        if not known.any():
            raise
        return None, f"{teacher.path.name} cannot be run here. {error}"


def _ask(bundle: Bundle, images: ImageSet, unknown: Rows, teacher: AskedTeacher) -> NewAnswers:
    """Let the teacher's file answer the images at these positions."""
    asked = images.select(unknown)
    logits, runtime, provider = teacher.ask(batches(asked, bundle.preprocess, _BATCH), len(asked))
    if logits.shape != (len(asked), len(bundle.class_names)):
        raise BundleError(
            f"{teacher.path.name} gave logits of shape {logits.shape} for {len(asked)} images and "
            f"{len(bundle.class_names)} classes; it does not belong to this bundle: export again."
        )
    answers = Reference(
        logits=logits,
        labels=asked.labels.astype(np.int64),
        digests=np.array([asked.digest(index) for index in range(len(asked))]),
        images=None,
        image_index=np.zeros(0, np.int64),
    )
    return NewAnswers(answers=answers, runtime=runtime, provider=provider)


def _nothing_known(bundle: Bundle, count: int, recorded: int) -> str:
    return (
        f"None of the {count} images is among the {recorded} whose teacher answers the bundle records; give the split "
        f"it was built with, or no images to use the recorded ones. {_how_to_ask(bundle)}"
    )


def _how_to_ask(bundle: Bundle) -> str:
    return (
        f"With the teacher's file in the bundle, the teacher answers any image: `edgedistill export {bundle.path}` "
        "writes teacher.fp32.onnx where the expert was built."
    )


def _merge_labels(given: Rows, recorded: Rows) -> tuple[Rows, int]:
    """Return the given labels, completed by the recorded ones, and the number of contradictions."""
    both = (given != NO_LABEL) & (recorded != NO_LABEL)
    return np.where(given == NO_LABEL, recorded, given), int(np.sum(both & (given != recorded)))


def _notes(unknown: int, conflicts: int, answered: NewAnswers | None, kept_count: int, advice: str) -> Iterator[str]:
    if answered is not None:
        yield (
            f"The teacher's answers to {len(answered.answers.labels)} images were not recorded; its file in the bundle "
            f"gave them now, with {answered.runtime} {answered.provider}."
        )
    if kept_count:
        yield f"The teacher's answers to {kept_count} images are those that --extend-reference kept."
    if unknown:
        yield (f"{unknown} images were left out: the bundle does not record the teacher's answers to them. {advice}")
    if conflicts:
        yield f"{conflicts} images carry another label than when the bundle was built; the labels given now were used."
