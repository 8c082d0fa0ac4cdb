"""ImageNet's thousand classes: their labels, as timm's teachers spell them, and the synset ids of its folders."""

import functools
import re
from collections import Counter
from collections.abc import Mapping

from edgedistill_deploy.classes._wordnet import nouns_above, read_tables
from edgedistill_deploy.classes.spelling import fold_name

_SYNSET = re.compile(r"n[0-9]{8}")  # "n" for noun, and the place in WordNet 3.0's file of nouns
_INSIDE = re.compile(r"(?<![^\W_])n[0-9]{8}(?![^\W_])")
_READING = re.compile(r"(.+?)\s*\((.+)\)\s*")


def is_synset(name: str) -> bool:
    """Tell whether a name has the form of a synset id, such as n02099601."""
    return _SYNSET.fullmatch(name) is not None


def synset_in(name: str) -> str:
    """Return the one synset id in a name such as "crane, n02012849"; empty where there is none or several."""
    found = set(_INSIDE.findall(name))
    return found.pop() if len(found) == 1 else ""


@functools.cache
def labels_of_synsets() -> dict[str, str]:
    """Return each synset id's label, in output order; two classes of one label get their ids ("crane, n02012849")."""
    return tell_apart({synset: ", ".join(entry.words) for synset, entry in read_tables().classes.items()})


def tell_apart(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels by their synset ids, with the id added to a label that several have ("crane, n02012849")."""
    repeated = {label for label, count in Counter(labels.values()).items() if count > 1}
    return {synset: f"{label}, {synset}" if label in repeated else label for synset, label in labels.items()}


def words_of_class(synset: str) -> tuple[str, ...]:
    """Return ImageNet's synonyms for a class; none where the id is not one of its thousand."""
    entry = read_tables().classes.get(synset)
    return entry.words if entry is not None else ()


@functools.cache
def folded_words(synset: str) -> frozenset[str]:
    """Return the synonyms of a class, folded for comparison."""
    return frozenset(map(fold_name, words_of_class(synset)))


@functools.cache
def _owners() -> dict[str, tuple[str, ...]]:
    owners: dict[str, tuple[str, ...]] = {}
    for synset in read_tables().classes:
        for word in folded_words(synset):
            owners[word] = (*owners.get(word, ()), synset)
    return owners


def classes_called(name: str) -> tuple[str, ...]:
    """Return the synset ids of the classes that have this name among their synonyms, however it is spelled."""
    return _owners().get(fold_name(name), ())


def usual_class(name: str) -> str:
    """Return the class that a name by itself usually means; empty where it is none, several, or something else first.

    "hippo" is n02398521. "mouse" is nothing here, because most mice are no pointing devices.
    """
    owners = classes_called(name)
    if len(owners) != 1:
        return ""
    elsewhere = map(fold_name, read_tables().classes[owners[0]].elsewhere)
    return "" if fold_name(name) in elsewhere else owners[0]


def class_of_reading(name: str) -> str:
    """Return the class that "crane (bird)" means: the one crane below a noun "bird". Empty where it is not one."""
    found = _READING.fullmatch(name)
    if found is None:
        return ""
    word, noun = found.groups()
    owners = [synset for synset in classes_called(word) if fold_name(noun) in _folded_nouns(synset)]
    return owners[0] if len(owners) == 1 else ""


def readings(synset: str) -> list[str]:
    """Return ways to name a class and no other: its own synonyms first, then such as "crane (bird)", then its id."""
    words = words_of_class(synset)
    own = [word for word in words if len(classes_called(word)) == 1]
    nouns = [read_tables().nouns[above].words[0] for above in nouns_above(synset)] if words else []
    nouns.sort(key=lambda noun: " " in noun)  # "device" is easier to type than "lifting device"
    made = [f"{words[0]} ({noun})" for noun in nouns]
    return [*own, *(name for name in made if class_of_reading(name)), synset]


@functools.cache
def _folded_nouns(synset: str) -> frozenset[str]:
    return frozenset(fold_name(word) for above in nouns_above(synset) for word in read_tables().nouns[above].words)
