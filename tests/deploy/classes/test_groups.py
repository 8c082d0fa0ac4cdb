"""Groups as a person writes them, and which folders hold their images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.classes.groups import ClassGroup, claim_folders, describe_groups, names_of, read_classes
from edgedistill_deploy.errors import UsageError

CAT = ClassGroup(name="cat", members=("tabby, tabby cat", "tiger cat"))
words = st.text("abcxyz ÄΩ-_'(),.", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(name=words, members=st.lists(words, min_size=1, max_size=5, unique=True), space=st.sampled_from(["", " ", "  "]))
def test_a_group_is_read_as_it_is_written(name: str, members: list[str], space: str) -> None:
    text = f"{name}{space}={space}{f'{space}|{space}'.join(members)}{space}"
    assert read_classes([text]) == (ClassGroup(name=name, members=tuple(members)),)
    assert read_classes(read_classes([text])) == read_classes([text])


@given(st.text(max_size=20))
def test_every_text_is_a_name_or_a_group_or_refused_in_a_sentence(text: str) -> None:
    name, sign, members = text.partition("=")
    if not sign or text.strip() == "=":
        assert read_classes([text]) == (text,)
    elif name.strip() and any(part.strip() for part in members.split("|")):
        assert read_classes([text])[0] != text
    else:
        with pytest.raises(UsageError, match=r"(?s)The group .* has no (name|members); write .*=MEMBER\|MEMBER"):
            read_classes([text])


def test_names_without_groups_stay_as_they_are() -> None:
    assert read_classes(["tabby", " odd ", "=", "a|b"]) == ("tabby", " odd ", "=", "a|b")
    assert names_of(read_classes(["tabby", "cat=tiger cat"])) == ("tabby", "cat")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat="], r"The group 'cat' has no members; write cat=MEMBER\|MEMBER"),
        (["cat= | "], "The group 'cat' has no members"),
        (["=tabby"], "The group '=tabby' has no name; write NAME=MEMBER"),
        (["cat=tabby", "Cat=tiger cat"], "Two classes are called 'Cat'"),
        (["cat", "cat=tiger cat"], "Two classes are called 'cat'"),
    ],
)
def test_what_is_no_group_is_refused(classes: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_classes(classes)


def test_the_name_of_a_group_can_be_shown_and_compared_everywhere() -> None:
    assert names_of(read_classes(["cafe\u0301\x1b[2J=tabby"])) == ("café\\x1b[2J",)
    with pytest.raises(UsageError, match="'x' has no members"):
        read_classes([ClassGroup(name="x", members=())])


def test_all_wrong_groups_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"(?s)'a' has no members.*'=b' has no name"):
        read_classes(["a=", "=b", "c"])


def test_a_group_has_the_folders_of_its_name_and_of_its_members() -> None:
    folders = ("Cat", "n02123045", "Tiger_Cat", "tiger", "golden retriever", "holiday")
    found = claim_folders(folders, (CAT, "Golden-Retriever"), "The images have")
    assert found.owners == ("cat", "cat", "cat", None, "Golden-Retriever", None)
    assert found.renamed == ("cat", "cat", "cat", "tiger", "Golden-Retriever", "holiday")
    assert found.problems == ()


def test_the_name_of_a_group_is_no_synonym_of_another_class() -> None:
    """ImageNet calls the cougar a panther too; a group of that name must not take its images."""
    panther = ClassGroup(name="panther", members=("leopard", "snow leopard"))
    assert claim_folders(("cougar", "leopard"), (panther,), "The images have").owners == (None, "panther")


def test_classes_without_folders_and_folders_of_two_classes_are_told() -> None:
    both = ClassGroup(name="pet", members=("tabby",))
    found = claim_folders(("tabby", "zebra"), (CAT, both, "hippo"), "The training images have")
    assert any("'tabby' belong to two classes, 'cat' and 'pet'" in each for each in found.problems)
    assert any("The training images have no class 'hippo'" in each for each in found.problems)
    (lacking,) = claim_folders(("zebra",), (CAT,), "The training images have").problems
    assert lacking == (
        "The training images have no class 'cat' and none of its 2 members (tabby, tiger cat). Known: zebra."
    )


def test_an_ambiguous_member_is_told_and_not_guessed() -> None:
    crane = ClassGroup(name="machines", members=("crane",))
    found = claim_folders(("crane (bird)", "crane (device)"), (crane,), "The images have")
    assert "'crane' can mean 2 classes" in found.problems[0]
    assert found.owners == (None, None)


def test_a_group_is_described_by_its_first_members() -> None:
    many = ClassGroup(name="x", members=tuple("abcdefgh"))
    assert describe_groups(["plain", many]) == ("x: a, b, c, d, e, ... (8 in all)",)
