"""One way to find a class, whatever the list is: a teacher's labels in their many forms, or folders."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.classes.imagenet import classes_called, labels_of_synsets, words_of_class
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import UsageError

SYNSETS = list(labels_of_synsets())
LABELS = list(labels_of_synsets().values())
# What teachers of ImageNet carry: timm's words with and without ids, the first word alone, ids, and the lines of
# LOC_synset_mapping.txt.
FORMS = {
    "told apart": LABELS,
    "words": [", ".join(words_of_class(synset)) for synset in SYNSETS],
    "short": [words_of_class(synset)[0] for synset in SYNSETS],
    "ids": SYNSETS,
    "id and words": [f"{synset} {', '.join(words_of_class(synset))}" for synset in SYNSETS],
}
TEACHERS = {form: ClassList(labels) for form, labels in FORMS.items()}
CRANE_BIRD, CRANE_MACHINE, TENCH, HIPPO = 134, 517, 0, 344

_VARIANTS: tuple[Callable[[str], str], ...] = (
    str,
    str.upper,
    str.lower,
    str.title,
    str.swapcase,
    lambda name: name.replace(" ", "_"),
    lambda name: name.replace(" ", "-").replace("'", "\N{RIGHT SINGLE QUOTATION MARK}"),
    lambda name: name.replace("-", " "),
    lambda name: name.replace("'", ""),
    lambda name: unicodedata.normalize("NFD", name),
    lambda name: f" {name} ",
)


@given(st.sampled_from(range(1000)), st.sampled_from(_VARIANTS), st.sampled_from(_VARIANTS))
def test_every_label_of_imagenet_finds_itself_however_it_is_spelled(
    place: int, first: Callable[[str], str], second: Callable[[str], str]
) -> None:
    """ "Cardigan" alone means a dog too, so a label may be ambiguous in capitals, but it never means another class."""
    name = second(first(LABELS[place]))
    places = TEACHERS["told apart"].places(name)
    assert place in places
    assert len(places) == 1 or len(classes_called(LABELS[place])) > 1


@pytest.mark.parametrize("form", FORMS)
@given(place=st.sampled_from(range(1000)), data=st.data())
def test_a_synonym_of_one_class_finds_it_in_every_form_of_labels(form: str, place: int, data: st.DataObject) -> None:
    synset = SYNSETS[place]
    own = [word for word in words_of_class(synset) if len(classes_called(word)) == 1]
    name = data.draw(st.sampled_from([synset, *own]))
    assert TEACHERS[form].find(name) == place
    assert TEACHERS[form].find(TEACHERS[form].call(place)) == place, "the short name that messages offer"


@pytest.mark.parametrize("form", FORMS)
def test_two_classes_of_one_name_are_offered_by_reading_and_by_id(form: str) -> None:
    teacher = TEACHERS[form]
    assert teacher.places("crane") == (CRANE_BIRD, CRANE_MACHINE)
    assert teacher.find("crane (bird)") == teacher.find("n02012849") == teacher.find("Crane, n02012849") == CRANE_BIRD
    assert teacher.find("crane (machine)") is None, "WordNet calls it a device"
    assert teacher.find("crane (device)") == teacher.find("n03126707") == CRANE_MACHINE
    with pytest.raises(UsageError) as caught:
        teacher.find_all(["crane", "tench"], "The teacher has")
    assert str(caught.value) == (
        "'crane' can mean 2 classes: crane (bird), n02012849; crane (device), n03126707. Name one of these instead."
    )


def test_every_name_of_several_classes_is_offered_by_names_that_work() -> None:
    shared = {word for synset in SYNSETS for word in words_of_class(synset) if len(classes_called(word)) > 1}
    assert {"crane", "maillot", "panther", "grass snake"} <= shared
    for teacher in TEACHERS.values():
        for word in shared:
            places = teacher.places(word)
            assert {SYNSETS[place] for place in places} <= set(classes_called(word))
            assert [teacher.find(teacher.call(place)) for place in places] == list(places)


def test_the_exact_label_wins_over_a_synonym_and_other_spellings() -> None:
    assert TEACHERS["told apart"].find("maillot") == 638
    assert TEACHERS["short"].places("maillot") == (638, 639)
    assert TEACHERS["told apart"].find("cardigan") == 474
    assert TEACHERS["told apart"].places("Cardigan") == (264, 474)
    assert ClassList(["a", "A"]).find("A") == 1
    assert ClassList(["crane", "crane, construction"]).find("crane") == 0


FOLDERS = ClassList(["hippopotamus", "tabby_cat", "n02012849", "Labrador-Retriever", "mouse", "n02099601-golden"])


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("hippo", 0), ("n02398521", 0), ("Hippopotamus amphibius", 0), ("hippopotamus, hippo, river horse", 0),
        ("tabby, tabby cat", 1), ("tabby", 1), ("n02123045", 1),
        ("crane", 2), ("crane (bird)", 2), ("crane, n02012849", 2),
        ("labrador retriever", 3), ("n02099712", 3),
        ("mouse", 4), ("Mouse", 4), ("mouse, computer mouse", 4),
        ("golden retriever", 5), ("n02099601", 5),
    ],
)  # fmt: skip
def test_folders_are_found_by_synonym_and_by_synset_from_either_side(name: str, place: int) -> None:
    assert FOLDERS.find(name) == place


@pytest.mark.parametrize(
    "name", ["crane (device)", "n03126707", "tiger cat", "n03793489", "computer mouse", "2", "Labrador"]
)
def test_nothing_is_mapped_to_a_class_that_is_not_there(name: str) -> None:
    """A folder "mouse" holds animals as likely as pointing devices: ImageNet's id does not find it."""
    assert FOLDERS.places(name) == ()


def test_labels_that_are_only_partly_imagenets_in_their_places_are_read_one_by_one() -> None:
    turned = [*FORMS["short"][1:], FORMS["short"][0]]
    assert ClassList(turned).find("n01440764") == 999
    assert ClassList(turned).find("hippo") == HIPPO - 1
    assert ClassList(turned).find("crane (bird)") is None, "two labels 'crane', and nothing tells which is the bird"


def test_torchvisions_labels_of_two_words_are_known_by_their_places() -> None:
    labels = list(FORMS["short"])
    labels[CRANE_BIRD], labels[639] = "crane bird", "maillot tank suit"
    teacher = ClassList(labels)
    assert teacher.find("n02012849") == teacher.find("crane (bird)") == CRANE_BIRD
    assert teacher.find("crane") == CRANE_MACHINE, "the exact label"
    assert teacher.find("tank suit") == 639


def test_two_folders_of_one_class_are_ambiguous() -> None:
    folders = ClassList(["Golden Retriever", "golden_retriever", "tench"])
    assert folders.places("golden-retriever") == (0, 1)
    with pytest.raises(UsageError, match="can mean 2 classes: Golden Retriever; golden_retriever"):
        folders.find_all(["golden-retriever"], "The images have")


def test_every_wrong_name_is_told_with_what_it_may_mean() -> None:
    names = ["cat", "tench", "dog", "crane", "tensh", "Tinca tinca", "tench"]
    with pytest.raises(UsageError) as caught:
        TEACHERS["told apart"].find_all(names, "The teacher has", subtasks=True)
    first, cat, dog, crane, tensh, repeated, twice = str(caught.value).splitlines()
    assert first == "These names of classes cannot be used:"
    assert cat.startswith(
        "  The teacher has no class 'cat'. Did you mean tabby cat, tiger cat, Persian cat, Siamese cat,"
    )
    assert "imagenet/domestic-cat (5 classes)" in cat
    assert "imagenet/dog (118 classes)" in dog
    assert "crane (bird), n02012849" in crane
    assert "'tensh'. Did you mean tench" in tensh
    assert "'tench' and 'Tinca tinca' are one class, 'tench, Tinca tinca'" in repeated
    assert "The class 'tench' is named twice" in twice


def test_names_with_nothing_close_share_a_sentence() -> None:
    problems = ClassList(["tabby", "tiger cat", "tench"]).problems(["zebra", "cat", "ox"], "The images have")
    assert problems == (
        "The images have no class 'cat'. Did you mean tiger cat?",
        "The images have no class 'zebra', 'ox'. Known: tabby, tiger cat, tench.",
    )


def test_a_subtask_is_suggested_only_where_all_its_classes_are() -> None:
    some, every = ClassList(["tabby", "tiger cat", "tench"]), TEACHERS["ids"]
    assert some.problems(["cat"], "x has", subtasks=True) == ("x has no class 'cat'. Did you mean tiger cat?",)
    assert "--subtask" not in every.problems(["cat"], "x has")[0]
    assert "imagenet/bird (59 classes)" in every.problems(["imagenet/bird"], "x has", subtasks=True)[0]


def test_what_is_suggested_can_be_used() -> None:
    for teacher in TEACHERS.values():
        (problem,) = teacher.problems(["fox"], "x has")
        told = problem.removeprefix("x has no class 'fox'. Did you mean ").removesuffix("?").split(", ")
        assert told[:4] == ["red fox", "kit fox", "Arctic fox", "grey fox"]
        assert all(teacher.find(name) is not None for name in told)
