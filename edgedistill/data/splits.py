"""Training, validation and test images of a subtask; no picture is in two of them."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedistill.data.checking import Examined, examine, find_contradictions
from edgedistill.data.groups import gather_groups
from edgedistill.data.unlabelled import Purposes, find_purposes, join, judged_by
from edgedistill_deploy.classes.groups import WantedClass, names_of, read_classes
from edgedistill_deploy.classes.lookup import ClassList, in_one_message
from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.checks.limits import check_limits, describe_losses
from edgedistill_deploy.images.encoded.sets import EncodedImages
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet, ImageSplits, class_of
from edgedistill_deploy.images.skipped import SkippedFile, describe_skipped
from edgedistill_deploy.progress import Progress, silent

VALIDATION_FRACTION = 0.2  # of the training images, as in the paper
TEST_FRACTION = 0.2  # of all images, where the source has no test split
MAX_CONTRADICTING = 0.1  # of a class's images

_BESIDE = "unlabelled"
_Sets = dict[str, ImageSet]  # by the name of the split: training, validation, test; and `_BESIDE`


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtaskImages:
    """The subtask's images; labels are positions in the subtask, `NO_LABEL` for images without one.

    Validation images have labels all, or none of them has; so do test images. `test` is None where the source has a
    validation split but no test split. `notes` say in words how the source was understood and which images were left
    out or moved. `skipped` are the files of the subtask that are not used.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet | None
    notes: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()

    @property
    def evaluation(self) -> ImageSet:
        """The images that judge the finished expert: test images, or validation images where there are none."""
        return self.test if self.test is not None else self.validation


def split_for_subtask(
    source: ImageSplits,
    class_names: Sequence[WantedClass],
    *,
    seed: int = 0,
    max_bad: float | None = None,
    progress: Progress = silent,
    kept: Path | None = None,
    unlabelled: ImageSplits | None = None,
) -> SubtaskImages:
    """Keep the subtask's classes and make the splits that the source does not have.

    Every file is decoded once first, and those that cannot be used are left out. A source with one split is divided
    64 / 16 / 20 into training, validation and test images. A source with train and test gives 20 % of train to
    validation. The split of an image depends on the content of its class's images and the seed alone, not on file names
    or order. An image whose picture is also in a later split (validation, test), as a copy or shrunk or encoded anew,
    is removed from the earlier one. A picture that stands under two labels is removed from all.

    Images without a label are for training. Where no training image has a label, splits are made of them too; see
    `edgedistill.data.unlabelled.find_purposes`. A picture that also stands among labelled images is not used without
    its label.

    Args:
        source: the images.
        class_names: the subtask's classes, in the order of the labels; a group is a `ClassGroup` or a text such as
            "cat=tabby|tiger cat" (`Subtask.classes`), and has the images of the folders that are called like it or
            like one of its members.
        seed: chooses the images that are held out.
        max_bad: the largest share of pictures that cannot be used; None for `MAX_BAD` of the device part's limits.
        progress: is told how many images were read.
        kept: a file for what was found in the images; with the same file, only files that changed are decoded again.
        unlabelled: more images for training, see `edgedistill.data.unlabelled.open_unlabelled`.

    Raises:
        DataError: a class has too few images for the splits, or none; too many pictures cannot be used; too many of a
            class stand under another label too.
    """
    source, class_names = gather_groups(source, class_names), names_of(read_classes(class_names))
    purposes = find_purposes(source, unlabelled, class_names)
    sets = _restrict_all(purposes, source, class_names)
    skipped = [*skipped_of(source, class_names), *(unlabelled.skipped if unlabelled is not None else ())]
    check_limits(skipped, _counts(sets), max_bad)  # by their names alone, before the files are read
    examined = examine(list(sets.values()), progress, kept)
    sets, skipped = _usable(sets, examined, skipped)
    used = _counts(sets)
    check_limits(skipped, used, max_bad)
    sets, contradicting = _without_contradictions(sets, examined)
    beside = sets.pop(_BESIDE)
    _require_classes(sets, purposes, class_names, "After leaving out what cannot be used")
    sets = _hold_out_all(sets, examined, seed)
    sets, leaks = _without_leaks(sets, examined)
    beside, copies = _without_copies(beside, sets, examined)
    notes = (
        *source.notes,
        *(unlabelled.notes if unlabelled is not None else ()),
        *_others(source, class_names),
        *purposes.notes,
        *describe_losses(skipped, used),
        *contradicting,
        *leaks,
        *copies,
        *_describe_judging(sets),
    )
    return SubtaskImages(
        train=join([sets["training"], beside], class_names),
        validation=sets["validation"],
        test=sets.get("test"),
        notes=notes,
        skipped=tuple(skipped),
    )


def images_key(images: ImageSet) -> str:
    """Return a hash of the images' content and labels, in their order."""
    digest = hashlib.sha256()
    for index, label in enumerate(images.labels.tolist()):
        digest.update(f"{images.digest(index)} {label}\n".encode())
    return digest.hexdigest()


def _restrict_all(purposes: Purposes, source: ImageSplits, class_names: Sequence[str]) -> _Sets:
    if not purposes.sets["training"]:
        _restrict(source.train, class_names, "training", source)  # says what the source has instead
    restricted = {
        split: _restrict(images, class_names, split, source) if purposes.has_labels(split) else images
        for split, images in purposes.sets.items()
    }
    return {**restricted, _BESIDE: purposes.beside}


def _restrict(images: ImageSet, class_names: Sequence[str], split: str, source: ImageSplits) -> ImageSet:
    if problems := ClassList(images.class_names).problems(class_names, f"The {split} images have"):
        raise DataError(
            in_one_message(problems) + hint_at_empty(source, class_names) + hint_at_unlabelled(source, class_names)
        )
    kept = images.with_classes(class_names)
    counts = np.bincount(kept.labels, minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"The {split} images hold none of class {', '.join(map(repr, empty))}; add images or leave the class out of"
            f" the subtask.{hint_at_unread(source, class_names, empty)}"
        )
    return kept


def hint_at_empty(source: ImageSplits, class_names: Sequence[str]) -> str:
    """Return the end of an error that names the folders of these classes that hold no images; "" for none."""
    empty = [name for name in class_names if ClassList(source.empty).find(name) is not None]
    return f" The folder {', '.join(map(repr, empty))} holds no images." if empty else ""


def hint_at_unlabelled(source: ImageSplits, class_names: Sequence[str]) -> str:
    """Return the end of an error that says how folders of which none is one of these classes can be used; else ""."""
    known = ClassList(source.class_names)
    if not source.in_folders or any(known.find(name) is not None for name in class_names):
        return ""
    return " Images that are sorted in another way can be trained on without labels: --unlabelled FOLDER."


def hint_at_unread(source: ImageSplits, class_names: Sequence[str], empty: Sequence[str]) -> str:
    """Return the end of an error that says which files of empty classes of the subtask are not read; "" for none."""
    lost = [each for each in skipped_of(source, class_names) if each.class_name in empty and each.lost]
    return f" Not read: {describe_skipped(lost)}." if lost else ""


def _own_names(source: ImageSplits, class_names: Sequence[str]) -> dict[str, str]:
    """Return {the source's name of a class: the subtask's}."""
    places = ClassList(source.class_names).find_all(class_names, "The images have")
    return {source.class_names[place]: name for place, name in zip(places, class_names, strict=True)}


def skipped_of(source: ImageSplits, class_names: Sequence[str]) -> list[SkippedFile]:
    """Return the files of these classes that are of no use by their names alone, under these names of the classes."""
    if not source.skipped:
        return []
    names = {**(_own_names(source, class_names) if source.class_names else {}), "": ""}
    return [replace(each, class_name=names[each.class_name]) for each in source.skipped if each.class_name in names]


def _others(source: ImageSplits, class_names: Sequence[str]) -> list[str]:
    """Name the class folders that the subtask leaves out; a folder of something else looks like one."""
    own = _own_names(source, class_names) if source.class_names else {}
    others = [name for name in source.class_names if name not in own]
    if not others or not source.in_folders:
        return []
    listed = ", ".join(others[:5]) + (f", ... ({len(others)} in all)" if len(others) > 5 else "")
    return [f"Folders that are no class of the subtask: {listed}.{_hint_at_unsorted(source, others)}"]


def _hint_at_unsorted(source: ImageSplits, others: Sequence[str]) -> str:
    """Say how to use the first of some folders whose images lie deeper: photographs by day, say, and no class."""
    images = source.train
    if not isinstance(images, EncodedImages):
        return ""
    names, labels = images.class_names, images.labels.tolist()
    first = {label: row for row, label in reversed(list(enumerate(labels)))}
    for name in others:
        row = first.get(names.index(name))
        file = None if row is None else images.file(row)
        if file is None or compose_name(file.parent.name) == name:
            continue
        if own := next((each for each in file.parents if compose_name(each.name) == name), None):
            return (
                f" Those of {name} lie in folders below it; if they show the subtask's classes, --unlabelled {own} "
                "trains on them without labels."
            )
    return ""


def _usable(sets: _Sets, examined: Examined, skipped: list[SkippedFile]) -> tuple[_Sets, list[SkippedFile]]:
    usable: _Sets = {}
    for split, images in sets.items():
        usable[split], unusable = examined.usable(images)
        skipped = [*skipped, *unusable]
    return usable, skipped


def _counts(sets: _Sets) -> Counter[str]:
    return Counter(class_of(images, label) for images in sets.values() for label in images.labels.tolist())


def _require_classes(sets: _Sets, purposes: Purposes, class_names: Sequence[str], when: str) -> None:
    for split, images in sets.items():
        absent = set(range(len(class_names))) - set(images.labels.tolist()) if purposes.has_labels(split) else set()
        if absent or not images:
            of_class = f" of class {class_names[min(absent)]!r}" if absent else ""
            raise DataError(f"{when}, no {split} image{of_class} is left; add images.")


def _without_contradictions(sets: _Sets, examined: Examined) -> tuple[_Sets, list[str]]:
    """Remove the pictures with several labels from all splits: nobody knows which label is right."""
    found = find_contradictions(list(sets.values()), examined)
    if not found.pictures:
        return sets, []
    whole = _counts(sets)
    for name, count in found.counts.items():
        if count > max(1.0, MAX_CONTRADICTING * whole[name]):
            raise DataError(
                f"{count} of the {whole[name]} images of class {name!r} stand under another label too, such as "
                f"{found.example}. Keep each picture under its right label only."
            )
    kept = {
        split: images.select([row for row, each in enumerate(pictures) if each not in found.pictures])
        for split, images in sets.items()
        for pictures in (examined.pictures_of(images),)
    }
    total = sum(found.counts.values())
    return kept, [f"{total} images left out: the same picture stands under two labels, such as {found.example}."]


def _hold_out_all(sets: _Sets, examined: Examined, seed: int) -> _Sets:
    """Make the validation split, and the test split where there is neither, out of the training images."""
    if "validation" in sets:
        return sets
    missing = ["validation"] if "test" in sets else ["test", "validation"]
    train = sets["training"]
    _require_enough(train, examined, missing)
    made: _Sets = {}
    for place, split in enumerate(missing):
        fraction = TEST_FRACTION if split == "test" else VALIDATION_FRACTION
        left = len(missing) - place  # pictures that training, and a split still to make, need
        train, made[split] = _hold_out(train, examined, fraction, f"{split}|{seed}", left)
    return {**sets, **made, "training": train}


def _require_enough(train: ImageSet, examined: Examined, missing: Sequence[str]) -> None:
    pictures = examined.pictures_of(train)
    for label in sorted(set(train.labels.tolist())):
        own = [pictures[row] for row in np.flatnonzero(train.labels == label)]
        if len(set(own)) <= len(missing):
            copies = f", but only {len(set(own))} different" if len(set(own)) < len(own) else ""
            counted = f"{len(own)} image{'s' if len(own) != 1 else ''}"
            if label == NO_LABEL:
                told = f"{counted} {'have' if len(own) != 1 else 'has'} no label"
            else:
                told = f"Class {train.class_names[label]!r} has {counted}"
            wanted = " and ".join(sorted(missing, reverse=True))
            raise DataError(
                f"{told}{copies}; training, {wanted} need at least {len(missing) + 1}, one each. Add images or give "
                "the data as train/, val/ and test/ folders."
            )


def _hold_out(
    images: ImageSet, examined: Examined, fraction: float, salt: str, leave: int
) -> tuple[ImageSet, ImageSet]:
    """Divide each class by the order of its pictures' salted digests: the first `fraction` is held out.

    All copies of a picture go the same way. At least `leave` pictures of each class are not held out.
    """
    order = [hashlib.sha256(f"{salt}|{each}".encode()).digest() for each in examined.pictures_of(images)]
    held: list[int] = []
    for label in sorted(set(images.labels.tolist())):
        members = sorted(np.flatnonzero(images.labels == label).tolist(), key=lambda index: order[index])
        groups = [list(group) for _, group in itertools.groupby(members, key=lambda index: order[index])]
        held.extend(_first_groups(groups[: len(groups) - leave], max(1, round(fraction * len(members)))))
    chosen = np.zeros(len(images), dtype=bool)
    chosen[held] = True
    return images.select(np.flatnonzero(~chosen)), images.select(np.flatnonzero(chosen))


def _first_groups(groups: Sequence[list[int]], count: int) -> list[int]:
    """Return the members of the first groups until there are `count` or more."""
    taken: list[int] = []
    for group in groups:
        if len(taken) >= count:
            break
        taken.extend(group)
    return taken


def _without_leaks(sets: _Sets, examined: Examined) -> tuple[_Sets, list[str]]:
    tested = _names_by_picture(sets["test"], examined) if "test" in sets else {}
    validation, of_validation = _excluding(sets["validation"], examined, tested, "validation", "test")
    held = {**_names_by_picture(validation, examined), **tested}
    train, of_train = _excluding(sets["training"], examined, held, "training", "validation or test")
    return {**sets, "validation": validation, "training": train}, [*of_validation, *of_train]


def _without_copies(beside: ImageSet, sets: _Sets, examined: Examined) -> tuple[ImageSet, list[str]]:
    """Remove the images without a label whose picture is in a split: it would leak, or count twice."""
    taken = {picture: name for split in sets.values() for picture, name in _names_by_picture(split, examined).items()}
    pictures = examined.pictures_of(beside)
    removed = [row for row, picture in enumerate(pictures) if picture in taken]
    if not removed:
        return beside, []
    kept = beside.select([row for row, picture in enumerate(pictures) if picture not in taken])
    plural = "images" if len(removed) > 1 else "image"
    example = _pair(beside, removed, pictures, taken)
    return kept, [
        f"{len(removed)} {plural} without a label left out: the same picture is in a split, such as {example}."
    ]


def _describe_judging(sets: _Sets) -> list[str]:
    """Say where the teacher's answers stand in for labels."""
    by_teacher = [split for split in ("validation", "test") if split in sets and judged_by(sets[split]) == "teacher"]
    if not by_teacher:
        return []
    judged = "test" if "test" in sets else "validation"
    what = ["the best epoch is chosen"] if "validation" in by_teacher else []
    what += ["the verdict is given"] if judged in by_teacher else []
    splits = " or ".join(by_teacher)
    return [f"No {splits} image has a label: {' and '.join(what)} by the agreement with the teacher."]


def _names_by_picture(images: ImageSet, examined: Examined) -> dict[str, str]:
    return {picture: images.name(row) for row, picture in enumerate(examined.pictures_of(images))}


def _excluding(
    images: ImageSet, examined: Examined, forbidden: Mapping[str, str], split: str, other: str
) -> tuple[ImageSet, list[str]]:
    """Remove the images with forbidden pictures, and say so in a note."""
    pictures = examined.pictures_of(images)
    removed = [row for row, picture in enumerate(pictures) if picture in forbidden]
    if not removed:
        return images, []
    kept = images.select([row for row, picture in enumerate(pictures) if picture not in forbidden])
    for label in sorted(set(images.labels.tolist()) - set(kept.labels.tolist())):
        own = np.flatnonzero(images.labels == label).tolist()
        of_class = "" if label == NO_LABEL else f" of class {images.class_names[label]!r}"
        raise DataError(
            f"No {split} image{of_class} is left: the pictures of all {len(own)} stand in {other} too, such as "
            f"{_pair(images, own, pictures, forbidden)}. Give each split images of its own."
        )
    plural = "images" if len(removed) > 1 else "image"
    example = _pair(images, removed, pictures, forbidden)
    return kept, [f"{len(removed)} {split} {plural} left out: the same picture stands in {other}, such as {example}."]


def _pair(images: ImageSet, rows: Sequence[int], pictures: Sequence[str], others: Mapping[str, str]) -> str:
    return f"{images.name(rows[0])} and {others[pictures[rows[0]]]}"
