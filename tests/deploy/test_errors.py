"""How messages list names."""

import pytest

from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import first_names, nearest_names
from edgedistill_deploy.images.skipped import SkippedFile, describe_skipped


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c"], "a, b and 1 more"), (range(9), "0, 1 and 7 more")],
)
def test_a_long_list_says_how_many_more_there_are(names: list[str], expected: str) -> None:
    assert first_names(names, 2) == expected


def test_a_sentence_that_ends_in_a_list_ends_in_one_full_stop() -> None:
    digits = [str(number) for number in range(30)]
    files = [SkippedFile(path=f"{number}.heic", reason="HEIC", class_name="cat") for number in range(9)]
    sentences = [
        nearest_names("zebra", digits),
        *ClassList(digits).problems(["zebra"], "The teacher has"),
        f"{describe_skipped(files)}.",
    ]
    assert sentences[0] == " Known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more."
    assert sentences[1] == f"The teacher has no class 'zebra'.{sentences[0]}"
    assert sentences[2] == "9 HEIC: 0.heic, 1.heic, 2.heic and 6 more."
