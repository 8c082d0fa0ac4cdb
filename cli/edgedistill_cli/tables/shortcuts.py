"""A search for shortcuts as tables: the places, and what they do to the answers."""

from collections.abc import Mapping
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words

Document = Mapping[str, Any]

_NETWORKS = {"teacher": "teacher", "student": "expert"}


def show_shortcuts(record: Document, console: Console) -> None:
    """Print the places that speak for one class alone, what the answers become without and with them, and words."""
    found = record["findings"]
    if found:
        console.table(
            f"Places that speak for one class alone: {record['method']}, {record['images']} {record['split']} images",
            ["class", "place", "for", "of what speaks for it", "of the next class", "answers rest on it"],
            [_place_row(each, network) for each in found for network in _networks_of(each)],
        )
        right = "right" if record["judged_by"] == "labels" else "as the teacher says"
        console.table(
            f"Images that are {right}, with and without the place; and others with the place copied onto them",
            ["class", "", "its images", "without", "others", "without", "taken for it", "with the place"],
            [_change_row(each, network) for each in found for network in _NETWORKS],
        )
    for sentence in (*record["left_out"], *record["sentences"]):
        console.result(sentence)
    for each in found:
        console.result(f"pictures of {each['class']}: {words.join_words(each['pictures'])}")


def _networks_of(found: Document) -> list[str]:
    return [name for name in _NETWORKS if any(each["network"] == name for each in found["stands_out"])]


def _place_row(found: Document, network: str) -> list[str]:
    most = max((each for each in found["stands_out"] if each["network"] == network), key=lambda each: each["share"])
    next_class = f"{words.percent(most['next_share'])} ({most['next_class']})"
    rests = "yes" if found["answers_rest_on_it"] else "no"
    return [found["class"], found["place"], _NETWORKS[network], words.percent(most["share"]), next_class, rests]


def _change_row(found: Document, network: str) -> list[str]:
    own, others = found["inpainted"][network]["of_class"], found["inpainted"][network]["others"]
    pasted = found["pasted"][network]
    shares = (own["before"], own["after"], others["before"], others["after"], pasted["before"], pasted["after"])
    return [found["class"], _NETWORKS[network], *map(words.percent, shares)]
