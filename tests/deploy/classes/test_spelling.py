"""When two spellings are one name."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.classes.spelling import fold_name, synonyms_in, words_of


@pytest.mark.parametrize(
    "other",
    [
        "Golden Retriever", "golden_retriever", "golden-retriever", "GOLDEN  RETRIEVER", " goldenretriever ",
        "golden\N{NON-BREAKING HYPHEN}retriever", "golden\N{NO-BREAK SPACE}retriever",
    ],
)  # fmt: skip
def test_case_spaces_and_hyphens_do_not_matter(other: str) -> None:
    assert fold_name(other) == fold_name("golden retriever")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("jack-o'-lantern", "jack-o\N{RIGHT SINGLE QUOTATION MARK}-lantern"),
        ("St. Bernard", "st bernard"),
        ("T-shirt/top", "t_shirt_top"),
        ("Straße", "STRASSE"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"),
        ("crane (bird)", "crane_bird"),
    ],
)
def test_signs_between_words_and_forms_of_unicode_do_not_matter(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1.5", "15"), ("1-2", "12"), ("0", "O"), ("C++", "C"), ("-", "_"), ("", "a")]
)
def test_what_differs_stays_apart(one: str, other: str) -> None:
    assert fold_name(one) != fold_name(other)


@given(st.text(min_size=1))
def test_folding_keeps_composed_and_decomposed_together_and_loses_no_name(name: str) -> None:
    decomposed = unicodedata.normalize("NFD", name)
    assert fold_name(name) == fold_name(decomposed) == fold_name(unicodedata.normalize("NFC", name))
    assert fold_name(name) or not name.strip()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Tabby_Cats", {"tabby", "cat"}),
        ("red foxes", {"red", "fox"}),
        ("butterflies", {"butterfly"}),
        ("glass", {"glass"}),
        ("bus", {"bus"}),
    ],
)
def test_words_are_compared_in_the_singular(name: str, words: set[str]) -> None:
    assert words_of(name) == words


def test_a_label_lists_synonyms_with_commas() -> None:
    assert list(synonyms_in("tench, Tinca tinca,")) == ["tench", "Tinca tinca"]
