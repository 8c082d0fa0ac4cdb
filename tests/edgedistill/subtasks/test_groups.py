"""Groups among a teacher's classes, and the class of all others."""

import pytest

from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill.subtasks.named import named_subtask_classes
from edgedistill.subtasks.rest import find_rest
from edgedistill.subtasks.subtask import find_subtask
from edgedistill_deploy.classes.groups import ClassGroup, claim_folders
from edgedistill_deploy.errors import DataError, UsageError

TEACHER = ("tench, Tinca tinca", "tabby, tabby cat", "tiger cat", "=", "7", "a=b")
IMAGENET = imagenet_labels()


def test_a_group_has_the_outputs_of_its_members_in_the_order_given() -> None:
    subtask = find_subtask(TEACHER, ["cat=tiger cat|Tabby", "tench"])
    assert subtask.class_indices == ((2, 1), 0)
    assert subtask.members == ((2, 1), (0,))
    assert subtask.class_names == ("cat", "tench")
    assert subtask.member_names == (("tiger cat", "Tabby"), ("tench",))
    assert subtask.classes == (ClassGroup(name="cat", members=("tiger cat", "Tabby")), "tench")
    assert subtask.to_json() == {
        "name": "subtask",
        "class_names": ["cat", "tench"],
        "class_members": [[2, 1], [0]],
        "member_names": [["tiger cat", "Tabby"], ["tench"]],
    }
    assert find_subtask(TEACHER, subtask.classes) == subtask


def test_a_plain_subtask_is_recorded_as_before() -> None:
    subtask = find_subtask(TEACHER, ["7", "tench"])
    assert subtask.to_json() == {"name": "subtask", "class_names": ["7", "tench"], "class_indices": [4, 0]}
    assert subtask.classes == ("7", "tench")


def test_signs_of_groups_can_be_names() -> None:
    assert find_subtask(TEACHER, ["=", "7"]).class_indices == (3, 4)
    assert find_subtask(TEACHER, ["equal==", "b of a=a=b"]).class_indices == ((3,), (5,))


def test_nouns_stand_for_all_their_classes_and_count_once_beside_them() -> None:
    subtask = find_subtask(IMAGENET, ["cat=tabby|imagenet/domestic-cat", "dog=imagenet/dog", "n02119789"])
    assert subtask.members[0] == (281, 282, 283, 284, 285)
    assert subtask.members[1] == tuple(range(151, 269))
    assert subtask.class_names == ("cat", "dog", "kit fox, Vulpes macrotis")
    assert len(subtask.member_names[1]) == len(named_subtask_classes("imagenet/dog")) == 118


def test_synset_ids_in_groups_get_words() -> None:
    subtask = find_subtask(IMAGENET, ["cat=n02123045|n02012849", "tench"])
    assert subtask.member_names[0] == ("tabby, tabby cat", "crane, n02012849")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat=tabby|tiger", "tench"], r"In the group 'cat': The teacher has no class 'tiger'. Did you mean tiger cat"),
        (["cat=tabby", "pet=tabby cat|tench"], "The classes 'cat' and 'pet' share tabby cat; each of the teacher's"),
        (["cat=tabby|tench", "tench"], "The classes 'cat' and 'tench' share tench"),
        (["cat=imagenet/dgo", "tench"], "There is no subtask 'imagenet/dgo'"),
        (["dog=imagenet/dog", "tench"], "The teacher lacks 118 of the 118 members of 'dog': .*Name the members"),
        (["cat=", "tench"], "The group 'cat' has no members"),
        (["cat=tabby"], "at least two classes, and 1 was given"),
        (["tabby|tiger cat", "tench"], r"'tabby\|tiger cat'; one class of several has a name of its own, such"),
        (["imagenet/dog", "tench"], "write dog=imagenet/dog, and for a class of each give --subtask imagenet/dog"),
    ],
)
def test_what_makes_no_groups_is_refused(classes: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_subtask(TEACHER, classes)


def test_overlapping_nouns_are_one_sentence() -> None:
    with pytest.raises(UsageError) as caught:
        find_subtask(IMAGENET, ["dog=imagenet/dog", "animal=imagenet/carnivore", "tench"])
    assert str(caught.value).count("\n") == 0
    assert "'dog' and 'animal' share" in str(caught.value)
    assert "(118 in all)" in str(caught.value)


def test_the_rest_are_other_classes_of_the_teacher_that_have_folders() -> None:
    folders = ("cat", "golden_retriever", "zebra", "n02391049x", "Crane", "holiday", "hippopotamus")
    classes = ("cat=imagenet/domestic-cat", "golden retriever", "crane (bird)")
    rest = find_rest(IMAGENET, classes, folders)
    assert rest.name == "something else"
    assert rest.members == ("zebra", "hippopotamus, hippo, river horse, Hippopotamus amphibius")
    subtask = find_subtask(IMAGENET, (*classes, rest))
    assert subtask.class_names == ("cat", "golden retriever", "crane (bird)", "something else")
    assert subtask.members[-1] == (340, 344)


def test_a_member_of_a_group_is_never_the_rest() -> None:
    rest = find_rest(TEACHER, ["cat=tabby|tiger cat"], ("cat", "tiger cat", "tench"))
    assert rest.members == ("tench, Tinca tinca",)


def test_without_other_classes_or_images_of_them_there_is_no_rest() -> None:
    with pytest.raises(DataError, match=r"The teacher has no classes beside those of the subtask.*leave --rest out"):
        find_rest(("a", "b"), ["a", "b"], ("a", "b"))
    with pytest.raises(DataError, match=r"of which there are 4, and the data has none; leave --rest out"):
        find_rest(TEACHER, ["7", "tabby"], ("7", "tabby", "holiday"))


def test_a_folder_called_by_another_synonym_belongs_to_the_group() -> None:
    """By itself a hog need not be ImageNet's; the teacher knows that its hog is the pig that was named."""
    subtask = find_subtask(imagenet_labels(), ["beast=pig|lion", "zebra"])
    claims = claim_folders(["hog", "lion", "zebra"], subtask.classes, "The images have")
    assert claims.problems == ()
    assert claims.owners == ("beast", "beast", "zebra")


def test_a_plain_class_finds_the_folder_of_its_label_as_a_member_of_a_group_does() -> None:
    """By itself "pig" usually is no hog, but the teacher's label says that it is one."""
    subtask = find_subtask(IMAGENET, ["pig", "zebra"])
    assert subtask.class_names == ("pig", "zebra")
    assert subtask.members == ((341,), (340,))
    for folder in ("hog", "pig", "n02395406", "grunter"):
        claims = claim_folders((folder, "zebra"), subtask.classes, "The images have")
        assert (claims.owners, claims.problems) == (("pig", "zebra"), ())
    # What a name means by itself needs no group.
    assert find_subtask(IMAGENET, ["hippo", "zebra"]).class_indices == (344, 340)
    assert find_subtask(IMAGENET, subtask.classes) == subtask
