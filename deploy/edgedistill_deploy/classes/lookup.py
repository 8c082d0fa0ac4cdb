"""Finds names in a list of classes, and says which of them it cannot find and why."""

import functools
from collections.abc import Iterable, Sequence

from edgedistill_deploy.classes._meaning import read_meaning, read_meanings
from edgedistill_deploy.classes._suggestions import known_names, suggest
from edgedistill_deploy.classes.imagenet import readings, words_of_class
from edgedistill_deploy.classes.spelling import compose_name, fold_name, synonyms_in
from edgedistill_deploy.errors import UsageError

_MOST_PROBLEMS = 50  # written out in one message


class ClassList:
    """The classes of a teacher or of a set of images, in order, and which of them a name means."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._meanings = read_meanings(self.names)
        self._exact = _places((compose_name(name),) for name in self.names)
        self._folded = _places((fold_name(name),) for name in self.names)
        self._parts = _places(map(compose_name, synonyms_in(name)) for name in self.names)
        self._synonyms = _places(each.names for each in self._meanings)
        self._synsets = _places((each.synset,) if each.synset else () for each in self._meanings)

    def __len__(self) -> int:
        return len(self.names)

    def places(self, name: str) -> tuple[int, ...]:
        """Return the positions of the classes that a name can mean; several when it is ambiguous.

        The first of these that finds any decides: the exact name; the name in another spelling (together with a class
        that has it as a synonym letter for letter: "Cardigan" is a dog, "cardigan" is not); a synonym, or the class of
        ImageNet that both mean. A synset id and a reading ("crane (bird)") mean that class and no other.
        """
        if exact := self._exact.get(compose_name(name)):
            return exact
        if spelled := self._folded.get(fold_name(name)):
            return tuple(sorted({*spelled, *self._parts.get(compose_name(name), ())}))
        meaning = read_meaning(name)
        sharing = {place for each in meaning.names for place in self._synonyms.get(each, ())}
        possible = tuple(sorted(place for place in sharing if meaning.may_be(self._meanings[place])))
        same = self._synsets.get(meaning.synset, ())
        return (same or possible) if meaning.stated else (possible or same)

    def find(self, name: str) -> int | None:
        """Return the position of the one class that a name means; None when there is none or more than one."""
        places = self.places(name)
        return places[0] if len(places) == 1 else None

    def find_all(self, names: Sequence[str], owner: str, *, subtasks: bool = False) -> tuple[int, ...]:
        """Return the positions of several classes.

        Args:
            names: the names to find.
            owner: who has these classes, in the plural or singular of its verb: "The teacher has".
            subtasks: suggest named subtasks too.

        Raises:
            UsageError: it lists every name that is unknown, ambiguous or names a class again, with suggestions.
        """
        if problems := self.problems(names, owner, subtasks=subtasks):
            raise UsageError(in_one_message(problems))
        return tuple(self.places(name)[0] for name in names)

    def problems(self, names: Sequence[str], owner: str, *, subtasks: bool = False) -> tuple[str, ...]:
        """Return a sentence for each name that is unknown, ambiguous or names a class again.

        Unknown names with nothing close to them share one sentence, which lists some of the known names.
        """
        found: list[str] = []
        strange: list[str] = []
        first: dict[int, str] = {}
        for name in names:
            places = self.places(name)
            if len(places) > 1:
                found.append(self._describe_ambiguous(name, places))
            elif places and places[0] in first:
                found.append(self._describe_repeated(first[places[0]], name, places[0]))
            elif places:
                first[places[0]] = name
            elif meant := suggest(name, self._spellings, self.find, subtasks=subtasks):
                found.append(f"{owner} no class {name!r}.{meant}")
            else:
                strange.append(name)
        if strange:
            found.append(f"{owner} no class {', '.join(map(repr, strange))}.{known_names(self._spellings)}")
        return tuple(found)

    @functools.cached_property
    def _spellings(self) -> dict[str, int]:
        """Every name that finds a class, with its place."""
        return {
            word if self.places(word) == (place,) else self.call(place): place
            for place, label in enumerate(self.names)
            for word in (*self._imagenet_words(place), *synonyms_in(label))
        }

    def call(self, place: int) -> str:
        """Return a short name that means the class at this place and no other."""
        synset = self._meanings[place].synset
        names = [self.names[place]] if "," not in self.names[place] else []
        choices = [*(readings(synset) if synset else []), *names]
        return next((name for name in choices if self.places(name) == (place,)), self.names[place])

    def _imagenet_words(self, place: int) -> tuple[str, ...]:
        meaning = self._meanings[place]
        return words_of_class(meaning.synset) if meaning.stated else ()

    def _describe_ambiguous(self, name: str, places: tuple[int, ...]) -> str:
        described = [self._describe(place) for place in places]
        if len(set(described)) < len(places):
            return (
                f"{name!r} is the name of {len(places)} classes, and nothing tells them apart; give each its own label."
            )
        return f"{name!r} can mean {len(places)} classes: {'; '.join(described)}. Name one of these instead."

    def _describe(self, place: int) -> str:
        name, synset = self.call(place), self._meanings[place].synset
        return f"{name}, {synset}" if synset not in name and self.find(synset) == place else name

    def _describe_repeated(self, earlier: str, name: str, place: int) -> str:
        if earlier == name:
            return f"The class {name!r} is named twice; name each class once."
        return f"{earlier!r} and {name!r} are one class, {self.names[place]!r}; name it once."


def in_one_message(problems: Sequence[str]) -> str:
    """Return one problem as it is, and several with a line for each."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"  {each}" for each in problems[:_MOST_PROBLEMS]]
    more = [f"  ... and {len(problems) - _MOST_PROBLEMS} more."] if len(problems) > _MOST_PROBLEMS else []
    return "\n".join(["These names of classes cannot be used:", *lines, *more])


def _places(keys: Iterable[Iterable[str]]) -> dict[str, tuple[int, ...]]:
    """Return for each key the positions that have it, in order."""
    found: dict[str, list[int]] = {}
    for place, each in enumerate(keys):
        for key in each:
            found.setdefault(key, []).append(place)
    return {key: tuple(dict.fromkeys(places)) for key, places in found.items()}
