"""What a person may have meant by a name that is not there."""

import difflib
from collections.abc import Callable

from edgedistill_deploy.classes.imagenet import classes_called
from edgedistill_deploy.classes.nouns import Noun, nouns_with_words
from edgedistill_deploy.classes.spelling import fold_name, words_of
from edgedistill_deploy.errors import first_names

_MOST_NAMES = 8
_MOST_NOUNS = 3
_MOST_KNOWN = 10

Finder = Callable[[str], int | None]


def suggest(name: str, spellings: dict[str, int], find: Finder, *, subtasks: bool) -> str:
    """Return the end of a message about an unknown name: " Did you mean a, b?"; empty when nothing is close.

    Args:
        name: what was given.
        spellings: every name of every class, with the position of the class.
        find: returns the position of the one class that a name means.
        subtasks: suggest also the nouns of WordNet that have all their classes in the list.
    """
    close = _synonyms(name, spellings) or names_with_words(name, spellings) or _alike(name, spellings)
    noun_given = name.rpartition("/")[2]  # "imagenet/bird" was meant for --subtask
    nouns = [noun for noun in nouns_with_words(noun_given) if _has_all(noun, find)] if subtasks else []
    described = [f"imagenet/{noun.name} ({len(noun.classes)} classes)" for noun in nouns[:_MOST_NOUNS]]
    meant = f" Did you mean {first_names(close, _MOST_NAMES)}?" if close else ""
    if not described:
        return meant
    as_one = "" if "/" in name else f" As one class: {name}=imagenet/{nouns[0].name}."
    return f"{meant} Named with --subtask: {', '.join(described)}.{as_one}"


def names_with_words(name: str, spellings: dict[str, int]) -> list[str]:
    """Return a name of each class that has the words of a name in it: for "fox" the red fox, then the fox terrier."""
    wanted = words_of(name)
    found: dict[int, str] = {}
    for spelling, place in spellings.items():
        if wanted and wanted <= words_of(spelling):
            found.setdefault(place, spelling)
    return sorted(found.values(), key=lambda each: not fold_name(each).endswith(fold_name(name)))


def _synonyms(name: str, spellings: dict[str, int]) -> list[str]:
    """Return names that ImageNet uses for the same class, and that usually mean something else: for "pig" a "hog"."""
    meant = set(classes_called(name))
    return [each for each in spellings if meant & set(classes_called(each))] if meant else []


def _alike(name: str, spellings: dict[str, int]) -> list[str]:
    folded = {fold_name(spelling): spelling for spelling in reversed(spellings)}
    return [folded[each] for each in difflib.get_close_matches(fold_name(name), folded)]


def _has_all(noun: Noun, find: Finder) -> bool:
    return all(find(synset) is not None for synset in noun.classes)


def known_names(spellings: dict[str, int]) -> str:
    """Return the end of a message about a name with nothing close: " Known: a, b, c and 7 more."."""
    first = {place: spelling for spelling, place in reversed(spellings.items())}
    return f" Known: {first_names([first[place] for place in sorted(first)], _MOST_KNOWN)}." if first else ""
