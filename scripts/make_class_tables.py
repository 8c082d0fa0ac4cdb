"""Write `wordnet.json`: the words of ImageNet's thousand classes, and every noun above them, out of WordNet 3.0.

The synset ids and their order are those of timm's `imagenet_synsets.txt` (Apache-2.0). A synset id is the place of an
entry in WordNet 3.0's own `data.noun`, which Debian's package `wordnet-base` brings.

    python scripts/make_class_tables.py /usr/share/wordnet deploy/edgedistill_deploy/classes/wordnet.json
"""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

ABOVE = ("@", "@i")  # WordNet's signs for "is a kind of" and "is an instance of"
SOURCE = "WordNet 3.0 (data.noun, index.noun), for the classes of timm's imagenet_synsets.txt"


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, as WordNet spells them, and the synsets that are one step more general."""

    words: list[str]
    above: list[str]


class Nouns:
    """WordNet's files of nouns."""

    def __init__(self, folder: Path) -> None:
        self._data = (folder / "data.noun").read_bytes()
        lines = (folder / "index.noun").read_text(encoding="latin-1").splitlines()
        self._senses = dict(self._read_senses(line) for line in lines if not line.startswith(" "))

    @staticmethod
    def _read_senses(line: str) -> tuple[str, list[str]]:
        fields = line.split()
        return fields[0], [f"n{place}" for place in fields[-int(fields[2]) :]]

    def notice(self) -> str:
        """Return the licence that stands at the head of WordNet's files."""
        head = self._data[: self._data.index(b"\n0000")].decode("latin-1")
        return "\n".join(line.strip().partition(" ")[2].strip() for line in head.splitlines())

    def read(self, synset: str) -> Synset:
        """Return the entry at the place that the synset id names."""
        start = int(synset[1:])
        fields = self._data[start : self._data.index(b"\n", start)].decode("latin-1").partition(" | ")[0].split()
        if fields[0] != synset[1:]:
            raise ValueError(f"{synset} is no entry of this WordNet; its ids are those of WordNet 3.0")
        word_count = int(fields[3], 16)
        words = [fields[4 + 2 * index].replace("_", " ") for index in range(word_count)]
        pointers = fields[5 + 2 * word_count :]
        signs = zip(pointers[0::4], pointers[1::4], strict=False)
        return Synset(words, [f"n{place}" for sign, place in signs if sign in ABOVE])

    def first_meaning(self, word: str) -> str:
        """Return the commonest meaning of a word; the city Hippo is not a meaning of the word hippo."""
        senses = self._senses[word.lower().replace(" ", "_")]
        return next(synset for synset in senses if word in self.read(synset).words)


def make_tables(nouns: Nouns, synsets: list[str]) -> dict[str, object]:
    """Return the tables: `classes` in output order, and `nouns`, all that stands above a class."""
    classes = {synset: nouns.read(synset) for synset in synsets}
    above: dict[str, Synset] = {}
    waiting = [each for entry in classes.values() for each in entry.above]
    while waiting:
        synset = waiting.pop()
        if synset not in above:
            above[synset] = nouns.read(synset)
            waiting += above[synset].above
    return {
        "source": SOURCE,
        "notice": nouns.notice(),
        "classes": {
            synset: {
                "words": entry.words,
                "above": entry.above,
                "elsewhere": [word for word in entry.words if nouns.first_meaning(word) != synset],
            }
            for synset, entry in classes.items()
        },
        "nouns": {synset: vars(entry) for synset, entry in sorted(above.items())},
    }


def read_synsets() -> list[str]:
    """Return the ids of ImageNet's thousand classes in output order, without importing timm."""
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "data" / "_info" / "imagenet_synsets.txt").read_text("ascii").split()


def to_text(tables: dict[str, object]) -> str:
    """Write JSON with one entry on a line, so that a change can be read."""
    parts = []
    for key, value in tables.items():
        if isinstance(value, dict):
            entries = [f"    {json.dumps(synset)}: {json.dumps(entry)}" for synset, entry in value.items()]
            parts.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(entries) + "\n  }")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:3])
    out.write_text(to_text(make_tables(Nouns(folder), read_synsets())), encoding="utf-8")
