"""Classes of an expert that are made of several of the teacher's, and the folders that their images are in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgedistill_deploy.classes._suggestions import known_names
from edgedistill_deploy.classes.imagenet import synset_in
from edgedistill_deploy.classes.lookup import ClassList, in_one_message
from edgedistill_deploy.classes.spelling import compose_name, fold_name
from edgedistill_deploy.errors import UsageError

REST_NAME = "something else"  # the class of all that is none of the others
_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassGroup:
    """One class of the expert, made of several of the teacher's: its name, and the names of these, the members."""

    name: str
    members: tuple[str, ...]


WantedClass = str | ClassGroup


def read_classes(given: Iterable[WantedClass]) -> tuple[WantedClass, ...]:
    """Read classes as a person writes them: a name, or a group as NAME=MEMBER|MEMBER.

    The first `=` ends the name of a group, so a class whose own name has one can be had as a group of one: `x=a=b`.
    The name `=` alone is no group.

    Raises:
        UsageError: a group has no name or no members, or two classes have one name; it lists all of these.
    """
    classes, problems = [], []
    for each in given:
        try:
            classes.append(_read_class(each) if isinstance(each, str) else _with_members(each))
        except UsageError as error:
            problems.append(str(error))
    problems.extend(_repeated_names(classes))
    if problems:
        raise UsageError(in_one_message(problems))
    return tuple(classes)


def names_of(classes: Iterable[WantedClass]) -> tuple[str, ...]:
    """Return the names that classes have in the expert."""
    return tuple(each if isinstance(each, str) else each.name for each in classes)


def member_names_of(classes: Iterable[WantedClass]) -> tuple[str, ...]:
    """Return all names by which folders of the classes can be called: their own, and those of the members."""
    return tuple(
        name for each in classes for name in ((each,) if isinstance(each, str) else (each.name, *each.members))
    )


def group_of_member(name: str, classes: Iterable[WantedClass]) -> str:
    """Return the name of the group that a class of the teacher is part of, "" for none."""
    groups = [each for each in classes if isinstance(each, ClassGroup)]
    return next((each.name for each in groups if ClassList(each.members).places(name)), "")


def describe_groups(classes: Iterable[WantedClass]) -> tuple[str, ...]:
    """Say for each group what it is made of: "cat: tabby, tiger cat"."""
    return tuple(f"{each.name}: {list_members(each.members)}" for each in classes if isinstance(each, ClassGroup))


def _read_class(text: str) -> WantedClass:
    name, sign, members = (part.strip() for part in text.partition("="))
    if not sign or text.strip() == "=":
        return text
    if not name:
        raise UsageError(f"The group {text!r} has no name; write NAME=MEMBER|MEMBER, such as cat=tabby|tiger cat.")
    found = (part.strip() for part in members.split("|"))
    return _with_members(ClassGroup(name=name, members=tuple(dict.fromkeys(part for part in found if part))))


def _with_members(group: ClassGroup) -> ClassGroup:
    """Return a group that has members, called by a name that every output can show."""
    name = compose_name(group.name)
    if not group.members:
        raise UsageError(f"The group {name!r} has no members; write {name}=MEMBER|MEMBER, such as cat=tabby|tiger cat.")
    return ClassGroup(name=name, members=group.members)


def _repeated_names(classes: Sequence[WantedClass]) -> Iterator[str]:
    """Describe names that two classes share, if one of them is a group; `ClassList` tells of plain names."""
    seen: dict[str, WantedClass] = {}
    for each, name in zip(classes, names_of(classes), strict=True):
        folded = fold_name(name)
        if folded in seen and not (isinstance(seen[folded], str) and isinstance(each, str)):
            yield f"Two classes are called {name!r}; give each class a name of its own."
        seen.setdefault(folded, each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Which folders belong to which class.

    Attributes:
        folders: the names of the folders.
        owners: for each folder the name of its class; None for a folder of no class.
        problems: a sentence for each class without a folder, and for each folder that two classes claim.
    """

    folders: tuple[str, ...]
    owners: tuple[str | None, ...]
    problems: tuple[str, ...]

    @property
    def renamed(self) -> tuple[str, ...]:
        """The names of the folders, with the name of the class where they have one."""
        return tuple(owner or folder for owner, folder in zip(self.owners, self.folders, strict=True))


def claim_folders(folders: Sequence[str], classes: Sequence[WantedClass], owner: str) -> Claims:
    """Find the folders of each class.

    A folder belongs to a group if it is called like the group, in any spelling, or if it is the class of a member. All
    else is as `ClassList` finds names. `owner` begins messages: "The training images have".
    """
    known = ClassList(folders)
    problems = list(known.problems([each for each in classes if isinstance(each, str)], owner))
    owners: dict[int, WantedClass] = {}
    for each in classes:
        places, unclear = ((known.find(each),), ()) if isinstance(each, str) else _find_folders(each, known, owner)
        problems.extend(unclear)
        for place in (place for place in places if place is not None):
            other = owners.setdefault(place, each)
            if other != each and not (isinstance(other, str) and isinstance(each, str)):  # else told above
                first, second = names_of((other, each))
                problems.append(
                    f"The images of {folders[place]!r} belong to two classes, {first!r} and {second!r}; name the "
                    "members so that each folder has one class."
                )
    named = dict(zip(owners, names_of(owners.values()), strict=True))
    return Claims(
        folders=tuple(folders),
        owners=tuple(named.get(place) for place in range(len(folders))),
        problems=tuple(problems),
    )


def _find_folders(group: ClassGroup, known: ClassList, owner: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the places of a group's folders, and what is wrong with them."""
    named = [place for place, name in enumerate(known.names) if fold_name(name) == fold_name(group.name)]
    found = {member: known.places(member) for member in group.members}
    unclear = known.problems([member for member, places in found.items() if len(places) > 1], owner)
    places = (*named, *(places[0] for places in found.values() if len(places) == 1))
    if places or unclear:
        return tuple(dict.fromkeys(places)), unclear
    spellings = {compose_name(name): place for place, name in enumerate(known.names)}
    members = f"none of its {len(group.members)} members" if len(group.members) > 1 else "not its one member"
    lacking = f"no class {group.name!r} and {members} ({list_members(group.members)})"
    return (), (f"{owner} {lacking}.{known_names(spellings)}",)


def list_members(names: Sequence[str]) -> str:
    """Return the first of some labels, each by its first synonym ("tabby" for "tabby, tabby cat")."""
    return list_some([name if synset_in(name) else name.partition(",")[0] for name in names])


def list_some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many there are if there are more."""
    more = f", ... ({len(names)} in all)" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
