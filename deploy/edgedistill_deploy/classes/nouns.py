"""WordNet's nouns above ImageNet's classes, such as "bird" and "wading bird", and the classes below each."""

import functools
from collections import Counter
from dataclasses import dataclass

from edgedistill_deploy.classes._wordnet import nouns_above, read_tables
from edgedistill_deploy.classes.imagenet import synset_in
from edgedistill_deploy.classes.spelling import fold_name, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """A noun with at least two classes below it.

    `name` means this noun alone, with `-` for spaces; `other_names` do too. `words` are its synonyms, `classes` the
    synset ids of its classes in output order. `depth` counts the nouns above it: a larger one is more special.
    """

    synset: str
    name: str
    other_names: tuple[str, ...]
    words: tuple[str, ...]
    classes: tuple[str, ...]
    depth: int


@functools.cache
def all_nouns() -> tuple[Noun, ...]:
    """Return every noun with at least two classes below it, by name."""
    below: dict[str, list[str]] = {}
    for synset in read_tables().classes:
        for noun in nouns_above(synset):
            below.setdefault(noun, []).append(synset)
    kept = {noun: tuple(classes) for noun, classes in below.items() if len(classes) > 1}
    words = {noun: read_tables().nouns[noun].words for noun in kept}
    names = _name_all(words)
    nouns = (
        Noun(
            synset=noun,
            name=names[noun][0],
            other_names=tuple(names[noun][1:]),
            words=words[noun],
            classes=classes,
            depth=len(nouns_above(noun)),
        )
        for noun, classes in kept.items()
    )
    return tuple(sorted(nouns, key=lambda noun: fold_name(noun.name)))


def find_nouns(name: str) -> tuple[Noun, ...]:
    """Return the nouns that a name can mean: by its own name, a synset id in it, or one of its words.

    Several are returned where they hold different classes.
    """
    synset = synset_in(name)
    if synset:
        return tuple(noun for noun in all_nouns() if noun.synset == synset)
    folded = fold_name(name)
    found = _nouns_named().get(folded) or _nouns_with_synonym().get(folded, ())
    return tuple({noun.classes: noun for noun in found}.values())


@functools.cache
def _nouns_named() -> dict[str, tuple[Noun, ...]]:
    return {fold_name(name): (noun,) for noun in all_nouns() for name in (noun.name, *noun.other_names)}


@functools.cache
def _nouns_with_synonym() -> dict[str, tuple[Noun, ...]]:
    found: dict[str, tuple[Noun, ...]] = {}
    for noun in all_nouns():
        for word in {fold_name(word) for word in noun.words}:
            found[word] = (*found.get(word, ()), noun)
    return found


def nouns_with_words(name: str) -> tuple[Noun, ...]:
    """Return the nouns that have the words of a name in one of theirs; first those that are the name, then by size."""
    wanted = words_of(name)
    found = [noun for noun in all_nouns() if wanted and any(wanted <= words_of(word) for word in noun.words)]
    return tuple(sorted(found, key=lambda noun: (wanted not in map(words_of, noun.words), -len(noun.classes))))


def _name_all(words: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Name each noun by its words that no other noun has; one without such a word by a word and its synset id."""
    owners = Counter(name for each in words.values() for name in {fold_name(word) for word in each})
    own = {noun: [word for word in each if owners[fold_name(word)] == 1] for noun, each in words.items()}
    return {noun: [_hyphenate(word) for word in own[noun] or [f"{each[0]}-{noun}"]] for noun, each in words.items()}


def _hyphenate(word: str) -> str:
    return word.replace(" ", "-")
