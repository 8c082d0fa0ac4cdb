"""Which split a word means, for sources that name splits."""

import re

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def split_named(word: str) -> str:
    """Return "train", "validation" or "test" for a word of whatever spelling, "" for any other."""
    return _SPLITS.get(word.strip().lower(), "")


def split_in(place: str) -> str:
    """Return the split that the name of a file says, or its folder's; "train" where neither says one.

    "imagenet-val-003.tar" and "test/0000.parquet" say one.
    """
    *_, folder, name = ["", "", *re.split(r"[/\\]", place.lower())]
    words = [*re.split(r"[^a-z]+", name), folder]
    return next((found for word in words if (found := split_named(word))), "train")
