"""The images of a parity check, joined with the teacher's recorded answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import Reference, read_reference
from edgedistill_deploy.classes.groups import ClassGroup, claim_folders
from edgedistill_deploy.classes.lookup import in_one_message
from edgedistill_deploy.errors import BundleError, DataError, UsageError
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet, batches
from edgedistill_deploy.records.parity import Check, NotChecked

Rows = NDArray[np.int64]
Prepared = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Images with the teacher's logits (n, C) and labels (n,), -1 where unknown.

    `prepared` yields the uint8 (m, H, W, 3) batches of the given rows, in order. `name` is a row's name in messages,
    `digest` the sha256 of its source. `recorded` is the reference that the answers come from, and `checks` are the
    results of its checks. `conflict_count` images have another label than the recorded one. `unknown_count` images were
    left out, because no teacher's answer to them was recorded. `notes` are sentences for the report.
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
    notes: tuple[str, ...] = ()

    def spread(self, count: int) -> Rows:
        """Return up to `count` rows, spread evenly over the set."""
        return np.unique(np.linspace(0, len(self.labels) - 1, count).round().astype(np.int64))

    def images(self, rows: Rows) -> Prepared:
        """Return the prepared images (m, H, W, 3) of these rows, all in memory."""
        return np.concatenate(list(self.prepared(rows, len(rows))))


def open_evaluation(bundle: Bundle, images: ImageSet | None) -> Evaluation:
    """Match images with the reference recorded in the bundle; by default take the images recorded there.

    Images are recognised by the digest of their source. Raises DataError if no image is known or recorded, and
    BundleError if the reference does not fit the bundle's classes.
    """
    reference = read_reference(bundle.file("reference"))
    classes = len(bundle.class_names)
    if reference.logits.shape[1] != classes:
        raise BundleError(
            f"The reference of {bundle.path} holds logits of {reference.logits.shape[1]} classes, but the bundle names "
            f"{classes}; export it again."
        )
    return _build_from_reference(reference) if images is None else _build_from_images(bundle, images, reference)


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


def _build_from_images(bundle: Bundle, images: ImageSet, reference: Reference) -> Evaluation:
    subtask = choose_classes(images, bundle)
    row_of = {str(digest): row for row, digest in enumerate(reference.digests)}
    found = np.array([row_of.get(subtask.digest(index), -1) for index in range(len(subtask))], dtype=np.int64)
    known = np.flatnonzero(found >= 0)
    if len(known) == 0:
        raise DataError(
            f"None of the {len(subtask)} images is among the {len(row_of)} whose teacher answers the bundle records; "
            "give the split it was built with, or no images to use the recorded ones."
        )
    rows = found[known]
    labels, conflicts = _merge_labels(subtask.labels[known], reference.labels[rows])
    unknown = len(subtask) - len(known)
    return Evaluation(
        recorded=reference,
        teacher=reference.logits[rows],
        labels=labels,
        prepared=lambda wanted, size: batches(subtask.select(known[wanted]), bundle.preprocess, size),
        digest=lambda row: subtask.digest(int(known[row])),
        name=lambda row: subtask.name(int(known[row])),
        conflict_count=conflicts,
        unknown_count=unknown,
        notes=tuple(_notes(unknown, conflicts)),
    )


def _merge_labels(given: Rows, recorded: Rows) -> tuple[Rows, int]:
    """Return the given labels, completed by the recorded ones, and the number of contradictions."""
    both = (given != NO_LABEL) & (recorded != NO_LABEL)
    return np.where(given == NO_LABEL, recorded, given), int(np.sum(both & (given != recorded)))


def _notes(unknown: int, conflicts: int) -> Iterator[str]:
    if unknown:
        yield f"{unknown} images were left out: the bundle does not record the teacher's answers to them."
    if conflicts:
        yield f"{conflicts} images carry another label than when the bundle was built; the labels given now were used."
