"""The tables of `wordnet.json`, against timm's own, known counts, and WordNet's files by a slow walk."""

import json
import subprocess
import sys
from importlib import resources, util
from pathlib import Path

import pytest

from edgedistill_deploy.classes.imagenet import (
    class_of_reading,
    is_synset,
    labels_of_synsets,
    synset_in,
    usual_class,
    words_of_class,
)
from edgedistill_deploy.classes.nouns import all_nouns, find_nouns

WORDNET = Path("/usr/share/wordnet")  # where Debian's `wordnet-base` puts its files


def timm_file(name: str) -> list[str]:
    spec = util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "data" / "_info" / name).read_text(encoding="utf-8").splitlines()


def test_ids_order_and_words_are_those_of_timm() -> None:
    described = dict(line.split("\t") for line in timm_file("imagenet_synset_to_lemma.txt"))
    synsets = timm_file("imagenet_synsets.txt")
    assert list(labels_of_synsets()) == synsets
    assert [", ".join(words_of_class(synset)) for synset in synsets] == [described[each] for each in synsets]


# ImageNet is known for its 118 breeds of dogs and 59 birds; the other counts are of the paper's subtasks.
@pytest.mark.parametrize(
    ("name", "synset", "count", "holds"),
    [
        ("dog", "n02084071", 118, "n02085620"),
        ("bird", "n01503061", 59, "n01514668"),
        ("wading bird", "n02000954", 16, "n02012849"),
        ("retriever", "n02099029", 5, "n02099601"),
        ("working-dog", "n02103406", 30, "n02106662"),
        ("domestic_cat", "n02121808", 5, "n02123045"),
        ("bag", "n02773037", 5, "n02769748"),
        ("bottle", "n02876657", 7, "n04557648"),
        ("box", "n02883344", 6, "n03710193"),
        ("TRUCK", "n04490091", 8, "n03345487"),
        ("vehicle", "n04524313", 67, "n04467665"),
        ("entity", "n00001740", 1000, "n15075141"),
    ],
)
def test_a_noun_has_the_classes_below_it(name: str, synset: str, count: int, holds: str) -> None:
    (noun,) = find_nouns(name)
    assert (noun.synset, len(noun.classes)) == (synset, count)
    assert holds in noun.classes
    assert find_nouns(synset) == find_nouns(noun.name) == (noun,)


def test_dogs_are_the_run_of_breeds_and_three_wild_ones() -> None:
    """ImageNet's breeds stand at 151 to 268 in the order of outputs; the wild dogs follow, and are none here."""
    (dogs,) = find_nouns("dog")
    order = list(labels_of_synsets())
    assert sorted(order.index(each) for each in dogs.classes) == list(range(151, 269))


def test_a_noun_of_several_meanings_has_names_for_each() -> None:
    big, true = sorted(find_nouns("cat"), key=lambda noun: noun.name)
    assert (big.name, true.name) == ("big-cat", "true-cat")
    assert {noun.name for noun in find_nouns("vessel")} == {"watercraft", "vessel-n04531098"}
    assert find_nouns("vessel-n04531098") == find_nouns("n04531098")
    for noun in all_nouns():
        assert all(find_nouns(name) == (noun,) for name in (noun.name, *noun.other_names)), noun.name


@pytest.mark.parametrize("name", ["n0209960", "N02099601", "n02099601x", "n0209960١x", "retriever"])
def test_what_is_no_synset_is_not_taken_for_one(name: str) -> None:
    assert is_synset("n02099601")
    assert not is_synset(name)
    assert synset_in(f"a {name}") == ""


@pytest.mark.parametrize(
    ("name", "synset"),
    [("hippo", "n02398521"), ("tench", "n01440764"), ("mouse", ""), ("crane", ""), ("dog", ""), ("tank", "n04389033")],
)
def test_a_word_by_itself_means_what_it_means_first(name: str, synset: str) -> None:
    assert usual_class(name) == synset


@pytest.mark.parametrize(
    ("name", "synset"),
    [
        ("crane (bird)", "n02012849"), ("Crane (wading_bird)", "n02012849"), ("crane(device)", "n03126707"),
        ("crane (fruit)", ""), ("crane", ""), ("mouse (device)", "n03793489"), ("mouse (animal)", ""),
        ("crane (entity)", ""),
    ],
)  # fmt: skip
def test_a_reading_names_the_noun_above(name: str, synset: str) -> None:
    assert class_of_reading(name) == synset


def test_the_licence_of_wordnet_travels_with_its_words() -> None:
    file = resources.files("edgedistill_deploy.classes").joinpath("wordnet.json")
    notice = json.loads(file.read_text(encoding="utf-8"))["notice"]
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice
    assert notice in (Path(__file__).resolve().parents[3] / "LICENSE.wordnet").read_text(encoding="utf-8")


@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="needs Debian's wordnet-base")
def test_the_tables_are_wordnets_by_a_walk_over_its_lines() -> None:
    """Read every noun of WordNet and follow each class upwards step by step, the slow and obvious way."""
    above: dict[str, list[str]] = {}
    words: dict[str, list[str]] = {}
    for line in (WORDNET / "data.noun").read_text(encoding="latin-1").splitlines():
        if line.startswith(" "):
            continue
        fields = line.split(" | ")[0].split(" ")
        count = int(fields[3], 16)
        words[f"n{fields[0]}"] = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
        signs = [place for place, field in enumerate(fields) if place > 3 + 2 * count and field in ("@", "@i")]
        above[f"n{fields[0]}"] = [f"n{fields[place + 1]}" for place in signs]

    def walk(synset: str) -> set[str]:
        return {synset}.union(*(walk(each) for each in above[synset]))

    below: dict[str, set[str]] = {}
    for synset in labels_of_synsets():
        assert words[synset] == list(words_of_class(synset))
        for noun in walk(synset):
            below.setdefault(noun, set()).add(synset)
    expected = {noun: classes for noun, classes in below.items() if len(classes) > 1}
    assert {noun.synset: set(noun.classes) for noun in all_nouns()} == expected
    assert all(words[noun.synset] == list(noun.words) for noun in all_nouns())


@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="needs Debian's wordnet-base")
def test_the_script_makes_the_file_that_ships(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[3] / "scripts" / "make_class_tables.py"
    subprocess.run([sys.executable, str(script), str(WORDNET), str(tmp_path / "made.json")], check=True)
    file = resources.files("edgedistill_deploy.classes").joinpath("wordnet.json")
    assert (tmp_path / "made.json").read_bytes() == file.read_bytes()
