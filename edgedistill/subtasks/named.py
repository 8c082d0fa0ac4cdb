"""Subtasks by name: superclasses that ship with EdgeDistill, and ImageNet's classes below a noun of WordNet."""

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from edgedistill_deploy.classes.groups import ClassGroup, WantedClass, read_classes
from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.classes.nouns import Noun, all_nouns, find_nouns
from edgedistill_deploy.classes.spelling import fold_name, words_of
from edgedistill_deploy.errors import UsageError, first_names, nearest_names

_NOUNS = "imagenet/"
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSubtask:
    """Some classes with a name, such as `cifar100/flowers`; `also` are other names of the same classes."""

    name: str
    classes: tuple[str, ...]
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        return (self.name, *self.also)

    @property
    def short_names(self) -> tuple[str, ...]:
        """All its names without the table."""
        return tuple(name.partition("/")[2] for name in self.names)


def named_subtask_classes(name: str) -> tuple[str, ...]:
    """Return the class names of a named subtask, such as `cifar100/flowers` or `imagenet/wading-bird`.

    `cifar100/` has the twenty superclasses of the data set's author (Krizhevsky 2009), `glyphs100/` the groups of the
    embedded teacher's characters. `imagenet/` has all ImageNet-1k classes below a noun of WordNet 3.0, named by one of
    its words or by its synset id, spelled as timm's teachers spell them.

    Raises:
        UsageError: there is no such name, or the noun has several meanings; the message lists the nearest or all.
    """
    found = _named(name)
    if not found:
        raise UsageError(
            f"There is no subtask {name!r}.{_nearest(name)} Search the others with `edgedistill subtasks TEXT`."
        )
    if len(found) > 1:
        described = "; ".join(f"{each.name} ({_describe_classes(each)})" for each in found)
        raise UsageError(f"{name!r} can mean {len(found)} subtasks: {described}. Name one of these instead.")
    return found[0].classes


def expand_nouns(classes: Sequence[WantedClass]) -> tuple[WantedClass, ...]:
    """Read classes as `read_classes` does, and put the classes of named subtasks in place of their names in groups.

    Raises:
        UsageError: a group cannot be read, or a named subtask in it does not exist or has several meanings.
    """
    return tuple(
        each if isinstance(each, str) else replace(each, members=tuple(dict.fromkeys(_expand(each))))
        for each in read_classes(classes)
    )


def is_subtask_name(name: str) -> bool:
    """Tell whether a name has the form of a named subtask, such as `imagenet/dog`; it need not exist."""
    table, slash, _ = name.partition("/")
    tables = {fold_name(each.name.partition("/")[0]) for each in _shipped()} | {fold_name(_NOUNS)}
    return bool(slash) and fold_name(table) in tables


def _expand(group: ClassGroup) -> Iterator[str]:
    for member in group.members:
        if is_subtask_name(member):
            yield from named_subtask_classes(member)
        else:
            yield member


def _nearest(name: str) -> str:
    names = [each for known in named_subtasks() for each in known.names]
    # "bird" alone lacks the table that it is in.
    in_tables = [each for each in names if fold_name(each.partition("/")[2]) == fold_name(name)]
    return f" Did you mean {', '.join(in_tables)}?" if in_tables else nearest_names(name, names)


@functools.cache
def named_subtasks() -> tuple[NamedSubtask, ...]:
    """Return every named subtask once: two nouns with the same classes are one, called by the more special noun."""
    together: dict[tuple[str, ...], list[Noun]] = {}
    for noun in all_nouns():
        together.setdefault(noun.classes, []).append(noun)
    return (*_shipped(), *sorted(map(_of_nouns, together.values()), key=lambda each: fold_name(each.name)))


def search_subtasks(text: str) -> tuple[NamedSubtask, ...]:
    """Return the subtasks that a text finds, the best first.

    These have all words of the text in a name. If there are none, they have the text inside a name. If there are none
    either, they hold a class that is called so; then the smallest come first.
    """
    wanted, folded = words_of(text), fold_name(text)
    if found := [each for each in named_subtasks() if any(wanted <= words_of(name) for name in each.names)]:
        return tuple(sorted(found, key=lambda each: all(wanted != words_of(name) for name in each.short_names)))
    if found := [each for each in named_subtasks() if any(folded in fold_name(name) for name in each.names)]:
        return tuple(found)
    holding = [each for each in named_subtasks() if ClassList(each.classes).places(text)]
    return tuple(sorted(holding, key=lambda each: len(each.classes)))


def _named(name: str) -> tuple[NamedSubtask, ...]:
    folded = fold_name(name)
    if shipped := [each for each in _shipped() if fold_name(each.name) == folded]:
        return tuple(shipped)
    table, _, noun = name.rpartition("/")
    if fold_name(f"{table}/") != fold_name(_NOUNS):
        return ()
    return tuple(_of_nouns([each]) for each in find_nouns(noun))


@functools.cache
def _shipped() -> tuple[NamedSubtask, ...]:
    return tuple(_read_superclasses())


def _read_superclasses() -> Iterator[NamedSubtask]:
    table_file = resources.files("edgedistill.subtasks").joinpath("superclasses.json")
    for table, superclasses in json.loads(table_file.read_text(encoding="utf-8")).items():
        for superclass, classes in superclasses.items():
            yield NamedSubtask(name=f"{table}/{superclass}", classes=tuple(classes))


def _of_nouns(nouns: Sequence[Noun]) -> NamedSubtask:
    """Make a subtask of nouns that have the same classes."""
    labels = labels_of_synsets()
    special = max(nouns, key=lambda noun: noun.depth)
    names = {f"{_NOUNS}{name}": None for noun in (special, *nouns) for name in (noun.name, *noun.other_names)}
    first, *also = names
    return NamedSubtask(name=first, classes=tuple(labels[each] for each in special.classes), also=tuple(also))


def _describe_classes(subtask: NamedSubtask) -> str:
    names = [label.partition(",")[0] for label in subtask.classes]
    return f"{len(subtask.classes)} classes: {first_names(names, _MOST_SHOWN)}"
