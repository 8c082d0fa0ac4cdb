"""When two spellings are one name: case, spaces, `_`, `-` and apostrophes do not matter."""

import re
import unicodedata
from collections.abc import Iterator

from edgedistill_deploy.files.names import printable

# Dashes, apostrophes and quotes in their many forms, and what a file system or a habit puts between words.
_SEPARATORS = r"[\s_\-\u2010-\u2015\u2212'`´\u02bc\u2018\u2019\u201c\u201d\".()/\\]+"
_BETWEEN_DIGITS = re.compile(rf"(?<=\d){_SEPARATORS}(?=\d)")
_SEPARATOR = re.compile(_SEPARATORS)


def compose_name(name: str) -> str:
    """Return a class name in Unicode's composed form, to compare it. macOS stores "é" as two characters.

    What no output can show becomes an escape, as in `printable`.
    """
    return printable(unicodedata.normalize("NFC", name))


def fold_name(name: str) -> str:
    """Return what all spellings of a name share: "Golden_Retriever" and "golden retriever" give "goldenretriever".

    Digits stay apart ("1.5" is not "15"). A name that is nothing but signs ("-") keeps them.
    """
    plain = _plain(name).strip()
    return _SEPARATOR.sub("", _BETWEEN_DIGITS.sub("|", plain)) or plain


def words_of(name: str) -> frozenset[str]:
    """Return the words of a name in lower case and in the singular, to look for a word inside a label."""
    return frozenset(_singular(word) for word in _SEPARATOR.split(_plain(name)) if word)


def synonyms_in(label: str) -> Iterator[str]:
    """Yield the names in a label that lists several with commas between them ("tench, Tinca tinca")."""
    yield from (part.strip() for part in label.split(",") if part.strip())


def _plain(name: str) -> str:
    composed = unicodedata.normalize("NFKC", name)
    return unicodedata.normalize("NFKC", composed.casefold())


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
