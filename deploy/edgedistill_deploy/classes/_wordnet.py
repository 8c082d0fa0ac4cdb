"""The tables of `wordnet.json`: ImageNet's classes, and the nouns above them."""

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One meaning in WordNet.

    `words` are its synonyms, the commonest first. `above` are the synsets one step more general. `elsewhere` are those
    of its words that mean something else first: a mouse is an animal before it is a pointing device.
    """

    words: tuple[str, ...]
    above: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Both tables, by synset id; the classes stand in the order of a teacher's outputs."""

    classes: dict[str, Entry]
    nouns: dict[str, Entry]


@functools.cache
def read_tables() -> Tables:
    """Read the tables once."""
    file = resources.files("edgedistill_deploy.classes").joinpath("wordnet.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    return Tables(classes=_entries(content["classes"]), nouns=_entries(content["nouns"]))


def _entries(table: dict[str, dict[str, Any]]) -> dict[str, Entry]:
    return {synset: Entry(**{key: tuple(words) for key, words in values.items()}) for synset, values in table.items()}


@functools.cache
def nouns_above(synset: str) -> tuple[str, ...]:
    """Return the synsets of all nouns above a class or a noun, the nearest first."""
    tables = read_tables()
    found = dict.fromkeys((tables.classes.get(synset) or tables.nouns[synset]).above)
    waiting = list(found)
    while waiting:
        more = [each for each in tables.nouns[waiting.pop(0)].above if each not in found]
        found |= dict.fromkeys(more)
        waiting += more
    return tuple(found)
