"""What a name says by itself: its synonyms, and the class of ImageNet that it means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgedistill_deploy.classes.imagenet import (
    class_of_reading,
    classes_called,
    folded_words,
    labels_of_synsets,
    synset_in,
    usual_class,
    words_of_class,
)
from edgedistill_deploy.classes.spelling import fold_name, synonyms_in, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The folded synonyms in a name, and the synset that it means (empty: none that is known).

    `stated` tells a synset that the name itself states ("n02012849", "crane (bird)", "tench, Tinca tinca") from one
    that a single word usually means ("hippo").
    """

    names: frozenset[str]
    synset: str = ""
    stated: bool = False

    def may_be(self, other: "Meaning") -> bool:
        """Tell whether two names can be one class: they do not mean two different ones."""
        return not self.synset or not other.synset or self.synset == other.synset

    def with_synonyms(self) -> "Meaning":
        """Add all synonyms of the class whose synset is stated."""
        return replace(self, names=self.names | folded_words(self.synset)) if self.stated else self


def read_meaning(name: str) -> Meaning:
    """Read a name without knowing the list that it stands in."""
    synset = synset_in(name)
    parts = [part.strip(" _-:") for part in synonyms_in(name.replace(synset, ",") if synset else name)]
    names = frozenset(fold_name(part) for part in parts if part)
    if synset:
        return Meaning(names=names, synset=synset, stated=True)
    if synset := class_of_reading(name):
        word = name.rpartition("(")[0]
        return Meaning(names=frozenset({fold_name(word), fold_name(name)}), synset=synset, stated=True)
    if len(parts) > 1:
        owners = [synset for synset in classes_called(parts[0]) if names <= folded_words(synset)]
        synset = owners[0] if len(owners) == 1 else ""
        return Meaning(names=names, synset=synset, stated=bool(synset))
    return Meaning(names=names, synset=usual_class(name))


def read_meanings(names: Sequence[str]) -> tuple[Meaning, ...]:
    """Read the names of a list of classes, each with the synonyms of what it states.

    A list of a thousand names of which at least half can be ImageNet's class in the same place is ImageNet's. Then the
    place too states which class a name means: "crane" in place 134 is the bird.
    """
    meanings = [read_meaning(name) for name in names]
    known = list(labels_of_synsets())
    if len(names) == len(known):
        in_place = [place for place, synset in enumerate(known) if _can_be(names[place], meanings[place], synset)]
        for place in in_place if 2 * len(in_place) >= len(known) else ():
            meanings[place] = replace(meanings[place], synset=known[place], stated=True)
    return tuple(each.with_synonyms() for each in meanings)


def _can_be(name: str, meaning: Meaning, synset: str) -> bool:
    """Tell whether a name is a synonym of a class, or one with another word ("crane bird" in torchvision's list)."""
    if meaning.names & folded_words(synset):
        return True
    return not classes_called(name) and any(words_of(word) <= words_of(name) for word in words_of_class(synset))
