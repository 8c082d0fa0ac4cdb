"""Many places in one word: braces as shells expand them, and options behind a question mark."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.files.places import is_url

MOST_PLACES = 100_000
IMAGENET = "imagenet"  # stands for the file of class names in the option `classes`
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(pattern: str) -> list[str]:
    """Return all places of a pattern: "a-{000..002}.tar" and "{train,val}.tar" as shells read them, also nested.

    Raises UsageError for braces that do not match, and for more than `MOST_PLACES` places.
    """
    found: list[str] = []
    for place in _expand(pattern, pattern):
        found.append(place)
        if len(found) > MOST_PLACES:
            raise UsageError(f"{pattern} names more than {MOST_PLACES} files; name fewer.")
    return found


def split_options(text: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Divide "REST?name=value&..." into the rest and the options.

    What stands behind the question mark of a URL is its own where none of the names is known. Raises UsageError for an
    option that is not known or has no value.
    """
    rest, mark, query = text.rpartition("?")
    parts = [each.partition("=") for each in query.split("&")]
    wrong = [name for name, _, _ in parts if name not in known]
    if not mark or not all(equals for _, equals, _ in parts) or (len(wrong) == len(parts) and is_url(rest)):
        return text, {}
    if wrong:
        raise UsageError(f"{text} has the option {wrong[0]!r}, which is none.{nearest_names(wrong[0], known)}")
    if empty := [name for name, _, value in parts if not value]:
        raise UsageError(f"{text} gives {empty[0]!r} no value; write {empty[0]}=VALUE, or leave it out.")
    return rest, {name: value for name, _, value in parts}


def absolute_name(text: str, known: Sequence[str]) -> str:
    """Return "PLACE?name=value&..." with its path, and that of the file of classes, made absolute."""
    rest, options = split_options(text, known)
    if options.get("classes", IMAGENET) != IMAGENET:
        options["classes"] = _absolute(options["classes"])
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{_absolute(rest)}?{query}" if query else _absolute(rest)


def _absolute(place: str) -> str:
    return place if is_url(place) else str(Path(place).expanduser().absolute())


def _expand(text: str, pattern: str) -> Iterator[str]:
    start = text.find("{")
    if start < 0:
        if "}" in text:
            raise UsageError(f"{pattern} closes a brace that it does not open.")
        yield text
        return
    end = _closing(text, start, pattern)
    for choice in _choices(text[start + 1 : end], pattern):
        for rest in _expand(text[end + 1 :], pattern):
            yield text[:start] + choice + rest


def _closing(text: str, start: int, pattern: str) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    raise UsageError(f"{pattern} opens a brace that it does not close; write {{000..146}} or {{train,val}}.")


def _choices(inside: str, pattern: str) -> Iterator[str]:
    if numbers := _RANGE.fullmatch(inside):
        first, last = numbers.groups()
        if len(first) > 9 or len(last) > 9:
            raise UsageError(f"{pattern} names more than {MOST_PLACES} files; name fewer.")
        width = max(len(first), len(last)) if "0" in (first[0], last[0]) and max(len(first), len(last)) > 1 else 0
        step = 1 if int(first) <= int(last) else -1
        yield from (f"{number:0{width}}" for number in range(int(first), int(last) + step, step))
        return
    parts = _divide(inside)
    if len(parts) < 2:
        raise UsageError(f"{pattern} has {{{inside}}}; braces hold a range, {{000..146}}, or several words, {{a,b}}.")
    for part in parts:
        yield from _expand(part, pattern)


def _divide(inside: str) -> list[str]:
    """Divide at the commas that are in no inner braces."""
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
