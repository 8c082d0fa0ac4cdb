"""The subtask: which of the teacher's classes the expert keeps, alone or in groups, and in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgedistill.subtasks.named import expand_nouns, is_subtask_name
from edgedistill_deploy.classes.groups import ClassGroup, WantedClass, list_members, names_of
from edgedistill_deploy.classes.imagenet import is_synset, labels_of_synsets, synset_in
from edgedistill_deploy.classes.lookup import ClassList, in_one_message
from edgedistill_deploy.classes.spelling import compose_name, fold_name, synonyms_in
from edgedistill_deploy.errors import UsageError

_FEW_UNKNOWN = 3  # so many unknown members of a group get suggestions of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """Some classes of a teacher: class i is logit i of the expert.

    Attributes:
        name: of the subtask.
        class_indices: for each class its logit of the teacher, or the logits of a group's members.
        class_names: as the expert calls them.
        member_names: where there are groups, for each class the names of its members; a class that is no group has its
            own name there. Empty where there are none.
    """

    name: str
    class_indices: tuple[int | tuple[int, ...], ...]
    class_names: tuple[str, ...]
    member_names: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.class_names)

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """For each class the teacher's logits that it is made of: one, or those of a group."""
        return tuple((each,) if isinstance(each, int) else each for each in self.class_indices)

    @property
    def classes(self) -> tuple[WantedClass, ...]:
        """The classes as names and groups, for `split_for_subtask`."""
        if not self.member_names:
            return self.class_names
        kinds = zip(self.class_names, self.class_indices, self.member_names, strict=True)
        return tuple(
            name if isinstance(index, int) else ClassGroup(name=name, members=members) for name, index, members in kinds
        )

    def to_json(self) -> dict[str, object]:
        """Return the manifest's record of the subtask: `class_indices`, or with groups `class_members`."""
        record: dict[str, object] = {"name": self.name, "class_names": list(self.class_names)}
        if not self.member_names:
            return {**record, "class_indices": list(self.class_indices)}
        return {
            **record,
            "class_members": [list(each) for each in self.members],
            "member_names": [list(each) for each in self.member_names],
        }


def find_subtask(
    teacher_classes: Sequence[str], classes: Sequence[WantedClass], *, name: str = "subtask", least: int = 2
) -> Subtask:
    """Look the classes up among the teacher's, as `ClassList` does.

    A class keeps the name that it was given; a synset id ("n01440764") becomes the label of its class. Numbers are
    names too, never positions. A group is a `ClassGroup`, or a text such as "cat=tabby|tiger cat|imagenet/lynx"; a
    named subtask among its members stands for all its classes. A class that a group names twice counts once.

    Args:
        teacher_classes: the teacher's labels.
        classes: names and groups.
        name: of the subtask.
        least: how many classes are needed; fewer than two are of use only where others will be added.

    Raises:
        UsageError: fewer than `least` classes are named, or some names are unknown, ambiguous or of one class, or a
            group cannot be read; the message lists all of these.
    """
    if len(classes) < least:
        raise UsageError(
            f"A subtask needs at least two classes, and {len(classes)} was given: a classifier with one class has"
            " nothing to decide. Name two or more with --classes A,B."
        )
    wanted, known = expand_nouns(classes), ClassList(teacher_classes)
    if problems := class_problems(known, wanted):
        raise UsageError(in_one_message(problems))
    wanted = tuple(_with_label(known, each) for each in wanted)
    found = [_outputs_of(known, each) for each in wanted]
    is_plain = [isinstance(each, str) for each in wanted]
    called = [
        tuple(_label_of(member, known.names[place], keeps=plain) for place, member in each.items())
        for each, plain in zip(found, is_plain, strict=True)
    ]
    return Subtask(
        name=name,
        class_indices=tuple(
            next(iter(each)) if plain else tuple(each) for each, plain in zip(found, is_plain, strict=True)
        ),
        class_names=tuple(
            names[0] if isinstance(each, str) else each.name for each, names in zip(wanted, called, strict=True)
        ),
        member_names=() if all(is_plain) else tuple(called),
    )


def find_outputs(teacher_classes: Sequence[str], classes: Sequence[WantedClass]) -> frozenset[int]:
    """Return the teacher's outputs that any of the classes is made of; names that are not found have none."""
    known = ClassList(teacher_classes)
    return frozenset(place for each in expand_nouns(classes) for place in _outputs_of(known, each))


def class_problems(known: ClassList, classes: Sequence[WantedClass]) -> tuple[str, ...]:
    """Return a sentence for each name that the teacher does not know, and for each class that stands in two classes."""
    plain = [each for each in classes if isinstance(each, str)]
    groups = [each for each in classes if isinstance(each, ClassGroup)]
    almost = {each: hint for each in plain if not known.places(each) and (hint := _hint_at_group(each))}
    return (
        *known.problems([each for each in plain if each not in almost], "The teacher has", subtasks=True),
        *(f"The teacher has no class {each!r}; {hint}" for each, hint in almost.items()),
        *(problem for each in groups for problem in _member_problems(known, each)),
        *_shared(known, classes),
    )


def _hint_at_group(name: str) -> str:
    """Say how to write what looks like several classes; "" for what does not."""
    if "|" in name.strip("|"):
        return f"one class of several has a name of its own, such as NAME={name}."
    if not is_subtask_name(name):
        return ""
    own = name.partition("/")[2]
    return f"for one class of all of them write {own}={name}, and for a class of each give --subtask {name}."


def is_known(known: ClassList, wanted: WantedClass) -> bool:
    """Tell whether the teacher has a class, or all members of a group."""
    return all(known.find(member) is not None for member in _members_of(wanted))


def _members_of(wanted: WantedClass) -> tuple[str, ...]:
    return (wanted,) if isinstance(wanted, str) else wanted.members


def _member_problems(known: ClassList, group: ClassGroup) -> Iterator[str]:
    unknown = [member for member in group.members if not known.places(member)]
    unclear = [member for member in group.members if len(known.places(member)) > 1]
    if len(unknown) > _FEW_UNKNOWN:
        yield (
            f"The teacher lacks {len(unknown)} of the {len(group.members)} members of {group.name!r}: "
            f"{list_members(unknown)}. Name the members that it has."
        )
    for problem in known.problems([*(() if len(unknown) > _FEW_UNKNOWN else unknown), *unclear], "The teacher has"):
        yield f"In the group {group.name!r}: {problem}"


def _shared(known: ClassList, classes: Sequence[WantedClass]) -> Iterator[str]:
    """Describe the classes of the teacher that a group shares with another class."""
    if all(isinstance(each, str) for each in classes):
        return  # two names of one class are told by `ClassList`
    outputs, names = [_outputs_of(known, each) for each in classes], names_of(classes)
    for late, own in enumerate(outputs):
        for early in range(late):
            both = [member for place, member in own.items() if place in outputs[early]]
            if both and not (isinstance(classes[late], str) and isinstance(classes[early], str)):
                yield (
                    f"The classes {names[early]!r} and {names[late]!r} share {list_members(both)}; each of the "
                    "teacher's classes can be in one class of the expert alone."
                )


def _outputs_of(known: ClassList, wanted: WantedClass) -> dict[int, str]:
    """Return {output: the first name that was given for it} of the members that are known."""
    found: dict[int, str] = {}
    for member in _members_of(wanted):
        if (place := known.find(member)) is not None:
            found.setdefault(place, member)
    return found


def _with_label(known: ClassList, wanted: WantedClass) -> WantedClass:
    """Return a class as a group of one where its name alone does not find a folder that is called by its label.

    "pig" usually is no hog, so by itself it does not find the folder "hog". The teacher's label says that it is one.
    """
    if not isinstance(wanted, str) or is_synset(wanted):
        return wanted
    label = known.names[known.places(wanted)[0]]
    is_found = bool(ClassList((next(synonyms_in(label), label),)).places(wanted))
    return wanted if is_found else ClassGroup(name=compose_name(wanted), members=(wanted,))


def _label_of(name: str, label: str, *, keeps: bool) -> str:
    """Return a name as the expert's class carries it: words instead of a synset id.

    A member of a group is called by the teacher's label where that lists synonyms, so that all of them find its folder.
    """
    if not is_synset(name):
        return name if keeps or fold_name(name) == fold_name(label.partition(",")[0]) else label
    known = labels_of_synsets().get(name, label)
    # A label that several classes share ("crane") says less than ImageNet's own.
    return known if is_synset(label) or synset_in(known) else label
