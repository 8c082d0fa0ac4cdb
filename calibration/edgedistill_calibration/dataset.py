"""The training images that INT8 ranges are measured on, evenly over the classes; the files' order has no effect."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet

MEASURED_PER_CLASS = 4
NEEDED_PER_CLASS = MEASURED_PER_CLASS + 1  # one more to judge with
FEW_IMAGES = 100  # with fewer, another image still changes the ranges
MANY_IMAGES = 1024  # with more, it does not
WITHOUT_LABEL = "(no label)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """Images to measure ranges on, and held-out images to judge the result with; no image is in both.

    The order of the images mixes the classes and depends only on seed and content.
    """

    images: ImageSet
    held_out: ImageSet
    per_class: dict[str, int]  # {class name, or `WITHOUT_LABEL`: number of images to measure on}
    notes: tuple[str, ...]  # sentences for a reader of the result

    def key(self, preprocess: Preprocess) -> str:
        """Return a sha256 that depends on the images and their preprocessing, but not on their order."""
        return content_key(self.images, preprocess)


def content_key(images: ImageSet, preprocess: Preprocess) -> str:
    """Return a sha256 over the images' digests, in any order, and the preprocessing's digest."""
    digests = sorted(images.digest(index) for index in range(len(images)))
    return hashlib.sha256("\n".join([preprocess.digest, *digests]).encode()).hexdigest()


def select_calibration(
    images: ImageSet, count: int, seed: int, *, held_out: int = 512, exclude: Collection[str] = ()
) -> CalibrationSet:
    """Draw `count` images to calibrate on and up to `held_out` others, evenly over the classes.

    A class's images are ranked by a hash of seed and content, so file names and their order have no effect, and copies
    count once. A class with too few images gives all but a fifth (at least one), which stays held out. Images without a
    label are drawn like those of one more class.

    Args:
        images: training images.
        count: number of images to calibrate on.
        seed: another seed ranks the images differently.
        held_out: number of images to judge on.
        exclude: digests of images that must not be used, such as those that judge the student in the end.

    Raises:
        DataError: a class has fewer than `NEEDED_PER_CLASS` different images, and there are not so many for each class
            among the images without a label.
        UsageError: `count` does not give every class `MEASURED_PER_CLASS` images.
    """
    _check_count(count, len(images.class_names))
    digests = [images.digest(index) for index in range(len(images))]
    ranked = _rank(digests, [int(label) for label in images.labels], len(images.class_names), seed, set(exclude))
    left_out = len(set(digests) & set(exclude))
    _check_classes(images.class_names, [len(each) for each in ranked], left_out)
    names = (*images.class_names, WITHOUT_LABEL)
    shares = fair_shares([len(each) - max(1, len(each) // 5) if each else 0 for each in ranked], count)
    rest = fair_shares([len(each) - share for each, share in zip(ranked, shares, strict=True)], held_out)
    chosen = _mix_classes([index for each, a in zip(ranked, shares, strict=True) for index in each[:a]], digests, seed)
    judged = [index for each, a, b in zip(ranked, shares, rest, strict=True) for index in each[a : a + b]]
    return CalibrationSet(
        images=images.select(chosen),
        held_out=images.select(_mix_classes(judged, digests, seed)),
        per_class={name: share for name, share in zip(names, shares, strict=True) if share or name != WITHOUT_LABEL},
        notes=_notes(len(chosen), count, left_out),
    )


def fair_shares(available: Sequence[int], total: int) -> list[int]:
    """Split `total` over classes as evenly as the available numbers allow."""
    shares = [0] * len(available)
    remaining = min(total, sum(available))
    by_size = sorted(range(len(available)), key=lambda index: available[index])
    for place, index in enumerate(by_size):
        shares[index] = min(available[index], remaining // (len(by_size) - place))
        remaining -= shares[index]
    return shares


def _rank(
    digests: Sequence[str], labels: Sequence[int], class_count: int, seed: int, exclude: set[str]
) -> list[list[int]]:
    """Return each class's images by falling priority, and then those without a label; no excluded ones, no copies."""
    ranked: list[list[int]] = [[] for _ in range(class_count + 1)]
    seen = set(exclude)
    for index in sorted(range(len(digests)), key=lambda index: (_priority(digests[index], seed), labels[index])):
        if digests[index] not in seen:
            seen.add(digests[index])
            ranked[class_count if labels[index] == NO_LABEL else labels[index]].append(index)
    return ranked


def _priority(digest: str, seed: int, purpose: str = "choice") -> str:
    return hashlib.sha256(f"{purpose}:{seed}:{digest}".encode()).hexdigest()


def _mix_classes(indices: Sequence[int], digests: Sequence[str], seed: int) -> list[int]:
    """Return the images in a new order, because the last ones by rank are of few classes."""
    return sorted(indices, key=lambda index: _priority(digests[index], seed, "order"))


def _check_count(count: int, class_count: int) -> None:
    needed = class_count * MEASURED_PER_CLASS
    if count < needed:
        raise UsageError(
            f"images is {count}, and {class_count} classes need at least {needed} calibration images,"
            f" {MEASURED_PER_CLASS} each; raise images under [calibrate]."
        )


def _check_classes(names: Sequence[str], counts: Sequence[int], left_out: int) -> None:
    """Check the counts of the classes, and of the images without a label, which come last."""
    *labelled, unlabelled = counts
    if unlabelled >= NEEDED_PER_CLASS * len(names):
        return
    why = f", without the {left_out} that the student is judged on" if left_out else ""
    if not any(labelled):
        raise DataError(
            f"Calibration needs at least {NEEDED_PER_CLASS} different training images for each of the {len(names)} "
            f"classes, and there are {unlabelled}, which have no labels{why}; add training images."
        )
    short = [f"{name!r} has {count}" for name, count in zip(names, labelled, strict=True) if count < NEEDED_PER_CLASS]
    if short:
        raise DataError(
            f"Calibration needs at least {NEEDED_PER_CLASS} different training images of every class, and"
            f" {', '.join(short)}{why}; add training images of it."
        )


def _notes(chosen: int, wanted: int, left_out: int) -> tuple[str, ...]:
    notes = []
    if chosen < FEW_IMAGES:
        notes.append(
            f"Ranges were measured on {chosen} images; with fewer than {FEW_IMAGES} they depend on which images these "
            "are."
        )
    if chosen > MANY_IMAGES:
        notes.append(
            f"Ranges were measured on {chosen} images; beyond {MANY_IMAGES} they hardly move, and it takes longer."
        )
    if chosen < wanted:
        notes.append(f"{wanted} calibration images were asked for, and the training images allow {chosen}.")
    if left_out:
        notes.append(f"The student is judged on {left_out} of the training images, and these were left out.")
    return tuple(notes)
