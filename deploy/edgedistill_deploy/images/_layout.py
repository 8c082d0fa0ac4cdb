"""What the folders below a source mean: which are splits, which are classes, and what was passed over.

Images without class folders have no label: in a folder that holds nothing else, in a split without class folders, and
in `train` beside its class folders.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images._tree import Tree, count_images

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# "train2017", "val_images", "test-set": a split with what data sets write behind it.
_SPLIT_NAME = re.compile(rf"({'|'.join(_SPLITS)})(?:[-_ ]?(?:\d{{1,4}}|set|split|images|imgs|data))?", re.IGNORECASE)

ClassFolders = Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which folders hold which class in which split ("train", "validation", "test"), and notes on how it was read.

    `loose` are the folders, by split, whose own images have no label. `empty` are the names of folders that stand where
    classes stand, without a picture.
    """

    splits: Mapping[str, ClassFolders]
    loose: Mapping[str, Path]
    notes: tuple[str, ...]
    empty: tuple[str, ...]


def read_layout(root: Path, tree: Tree) -> Layout:
    """Understand the folders below `root`. Raises DataError where they can mean two things."""
    above = _unwrap(root, tree)
    top = above[-1]
    notes = [f"The classes were read from {top}, the only folder with images in {root}."] if top != root else []
    holding = tree.folders_with_pictures(top)
    splits = [each for each in holding if _is_split(each, holding, tree)]
    bare = [each for each in holding if each not in splits] if all(map(_split_of, holding)) else []
    tops = [top]
    found: dict[str, ClassFolders] = {}
    loose: dict[str, Path] = {}
    if splits or bare:
        tops = _unwrap_splits(splits, tree)
        notes += _describe_splits(splits, tops, bare)
        notes += _describe_strays(top, [each for each in holding if each not in (*splits, *bare)], splits, tree)
        found = _below_splits(splits, tops, tree)
        loose = _find_loose(splits, bare, tree)
    elif divided := [each for each in holding if any(map(_split_of, tree.folders_with_pictures(each)))]:
        found = _splits_below_classes(holding, divided[0], tree)
        notes.append(f"The folders {', '.join(sorted(found))} below the classes of {top} were read as splits.")
    elif holding:
        found = {"train": _by_name(holding)}
    else:
        loose = {"train": top}
    outside = list(dict.fromkeys((*above, *splits, *tops)))
    empty = [each for parent in outside for each in tree.listing(parent).folders if not tree.pictures_below(each)]
    return Layout(
        splits=found,
        loose=loose,
        notes=(
            *notes,
            *_describe_loose(loose.values(), tree),
            *_describe_depth(found, tree),
            *_describe_passed_over(root, [each for each in outside if each not in loose.values()], empty, tree),
        ),
        empty=tuple(sorted({compose_name(each.name) for each in empty})),
    )


def _split_of(folder: Path) -> str:
    """Return the split that a folder's name says, "" for none."""
    match = _SPLIT_NAME.fullmatch(folder.name)
    return _SPLITS[match[1].lower()] if match else ""


def _unwrap(root: Path, tree: Tree) -> list[Path]:
    """Return the folders from `root` down to the first with more than one folder of pictures, a split, or a class."""
    above = [root]
    while True:
        holding = tree.folders_with_pictures(above[-1])
        if len(holding) != 1 or _split_of(holding[0]) or tree.listing(holding[0]).pictures:
            return above
        above.append(holding[0])


def _is_split(folder: Path, beside: Sequence[Path], tree: Tree) -> bool:
    """Return whether a folder is a split, which holds class folders; a class named "train" holds images."""
    if not _split_of(folder) or not tree.folders_with_pictures(folder):
        return False
    loose = tree.listing(folder).pictures
    classes = [each for each in beside if not _split_of(each) and tree.listing(each).pictures]
    if loose and classes:
        raise DataError(
            f"{folder} can be a split or a class: it holds both images and folders of images, and {classes[0].name} "
            "beside it is a class. Rename it, or put its images into class folders."
        )
    return True


def _below_splits(splits: Sequence[Path], tops: Sequence[Path], tree: Tree) -> dict[str, ClassFolders]:
    _require_one_of_each(splits)
    for folder, top in zip(splits, tops, strict=True):
        _refuse_other_splits(folder, top, tree)
    return {
        _split_of(folder): _by_name(tree.folders_with_pictures(top)) for folder, top in zip(splits, tops, strict=True)
    }


def _refuse_other_splits(split: Path, top: Path, tree: Tree) -> None:
    """Refuse train/cat/test: its images may be held out, and held-out images must not be trained on."""
    classes = tree.folders_with_pictures(top)
    below = [inner for each in classes for inner in tree.folders_with_pictures(each)]
    for inner in below if top == split else (*classes, *below):
        if _split_of(inner) not in ("", _split_of(split)):
            raise DataError(
                f"{inner} is called like a split and lies in another, {split.name}: its images could be held out or "
                f"not. Move them to a split of their own beside {split.name}, or rename the folder."
            )


def _find_loose(splits: Sequence[Path], bare: Sequence[Path], tree: Tree) -> dict[str, Path]:
    """Return the splits without class folders, and `train` where it holds images beside class folders."""
    _require_one_of_each((*splits, *bare))
    beside = [each for each in splits if _split_of(each) == "train" and tree.listing(each).pictures]
    return {_split_of(each): each for each in (*bare, *beside)}


def _require_one_of_each(splits: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for folder in splits:
        split = _split_of(folder)
        if split in first:
            raise DataError(
                f"{folder.parent} holds two folders for the {split} split; keep one, {first[split].name} or "
                f"{folder.name}."
            )
        first[split] = folder


def _describe_splits(splits: Sequence[Path], tops: Sequence[Path], bare: Sequence[Path]) -> list[str]:
    renamed = [f"{each.name} as {_split_of(each)}" for each in (*splits, *bare) if each.name.lower() not in _SPLITS]
    notes = [f"Splits: {', '.join(renamed)}."] if renamed else []
    if list(tops) != list(splits):
        notes.append(f"The classes were read from the folder {tops[0].name} in each of the splits.")
    return notes


def _unwrap_splits(splits: Sequence[Path], tree: Tree) -> list[Path]:
    """Return the folders that hold the classes: the splits, or in each the one folder, everywhere of the same name."""
    inner = [tree.folders_with_pictures(each) for each in splits]
    wrapped = all(len(each) == 1 and not tree.listing(each[0]).pictures for each in inner)
    names = {each[0].name for each in inner}
    return [each[0] for each in inner] if wrapped and len(names) == 1 else list(splits)


def _splits_below_classes(holding: Sequence[Path], divided: Path, tree: Tree) -> dict[str, ClassFolders]:
    """Read cat/train, cat/test, dog/train, ...: every class must be divided, else held-out images are trained on."""
    found: dict[str, dict[str, tuple[Path, ...]]] = {}
    for each in holding:
        inner = tree.folders_with_pictures(each)
        whole = [path.name for path in inner if not _split_of(path)]
        if not inner or whole or tree.listing(each).pictures:
            part = next(path.name for path in tree.folders_with_pictures(divided) if _split_of(path))
            raise DataError(
                f"{divided} is divided into splits ({part}), and {each} holds images outside of splits"
                f"{f' ({whole[0]})' if whole else ''}. Divide every class folder into splits, or none."
            )
        for path in inner:
            classes = found.setdefault(_split_of(path), {})
            name = compose_name(each.name)
            classes[name] = (*classes.get(name, ()), path)
    return dict(found)


def _by_name(folders: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    """Return the folders of each class; two spellings of one name are one class."""
    found: dict[str, tuple[Path, ...]] = {}
    for each in folders:
        name = compose_name(each.name)
        found[name] = (*found.get(name, ()), each)
    return found


def _describe_strays(top: Path, strays: Sequence[Path], splits: Sequence[Path], tree: Tree) -> list[str]:
    if strays and len(splits) == 1:  # a class named "train" that has folders inside looks the same
        raise DataError(
            f"{top} holds split folders ({splits[0].name}) beside a folder of images ({strays[0].name}); move "
            "it into one of the splits or out of the way."
        )
    listed = [f"{each.name} ({_images(tree.pictures_below(each))})" for each in strays]
    return [f"Passed over beside the splits: {_some(listed)}."] if strays else []


def _describe_loose(loose: Iterable[Path], tree: Tree) -> list[str]:
    counts = {each: len(tree.listing(each).images) for each in loose}
    listed = [f"{each.absolute().name} ({_images(count)})" for each, count in counts.items() if count]
    return [f"In no class folder, and so without a label: {_some(listed)}."] if listed else []


def _describe_depth(splits: Mapping[str, ClassFolders], tree: Tree) -> list[str]:
    """Say where images lie in folders below a class, because these could have been meant as classes."""
    folders = [path for classes in splits.values() for paths in classes.values() for path in paths]
    inner = [f"{each.name}/{below.name}" for each in folders for below in tree.folders_with_pictures(each)]
    return [f"Images in folders below a class count as images of that class: {_some(inner)}."] if inner else []


def _describe_passed_over(root: Path, outside: Sequence[Path], empty: Sequence[Path], tree: Tree) -> list[str]:
    """Say which folders and images belong to no class; `outside` are the folders that are no class or part of one."""
    notes = [f"Folders without images passed over: {_some(_relative(empty, root))}."] if empty else []
    notes += describe_system_folders(root, tree)
    loose = [path for each in outside for path in tree.listing(each).images]
    if loose:
        notes.append(f"Beside the class folders, {_images(len(loose))} passed over: {_some(_relative(loose, root))}.")
    return notes


def describe_system_folders(root: Path, tree: Tree) -> tuple[str, ...]:
    """Say which folders of systems and programs were met below `root`, and left out."""
    notes: list[str] = []
    system, runs = tree.passed_over(root)
    counts = {each: count_images(each) for each in system}
    if number := sum(counts.values()):
        with_images = [each for each in system if counts[each]]
        notes.append(
            f"Folders of the system passed over, with {_images(number)}: {_some(_relative(with_images, root))}."
        )
    if runs:
        notes.append(f"Run folders passed over: {_some(_relative(runs, root))}.")
    return tuple(notes)


def _relative(paths: Iterable[Path], root: Path) -> list[str]:
    return [str(each.relative_to(root)) for each in paths]


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
