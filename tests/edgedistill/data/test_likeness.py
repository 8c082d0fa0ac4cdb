"""Pictures that are alike, against a slow comparison of every pair."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.data.likeness import SIDE, Thumbnails, find_alike, thumbnail
from reference.photographs import encoded_anew, photograph, shrunk


def distance(one: Thumbnails, other: Thumbnails) -> float:
    """Return the root of the mean squared difference, value by value."""
    pairs = zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / one.size)


@settings(max_examples=20, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=8, unique=True),
    copied=st.lists(st.tuples(st.integers(0, 7), st.sampled_from([shrunk, encoded_anew])), max_size=4),
)
def test_copies_are_found_and_nothing_else(seeds: list[int], copied: list[tuple[int, object]]) -> None:
    origins = [*range(len(seeds)), *(place % len(seeds) for place, _ in copied)]
    pictures = [photograph(seed) for seed in seeds]
    pictures += [make(pictures[place % len(seeds)]) for place, make in copied]  # type: ignore[operator]
    small = np.stack([thumbnail(each) for each in pictures])
    same = {(i, j) for i in range(len(small)) for j in range(i + 1, len(small)) if origins[i] == origins[j]}
    found = set(find_alike(small))
    assert found <= same, "different pictures are never taken for one"
    assert all(distance(small[i], small[j]) < 3.5 for i, j in found)
    assert all(pair in found for pair in same if np.array_equal(small[pair[0]], small[pair[1]]))
    assert len(same - found) <= len(same) // 2, "a few copies may be missed"


def test_most_copies_of_many_pictures_are_found() -> None:
    pictures = [photograph(seed) for seed in range(100)]
    small = np.stack([thumbnail(each) for each in (*pictures, *map(shrunk, pictures), *map(encoded_anew, pictures))])
    found = set(find_alike(small))
    wanted = {(place, place + 100) for place in range(100)} | {(place, place + 200) for place in range(100)}
    assert len(found & wanted) >= 190
    assert all(i % 100 == j % 100 for i, j in found)


def test_even_areas_say_nothing() -> None:
    grey = np.full((3, SIDE, SIDE, 3), 127, dtype=np.uint8)
    grey[1] += 1
    assert find_alike(grey) == []


def test_one_shape_in_two_colours_is_two_pictures() -> None:
    red = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    red[3:9, 3:9] = (200, 60, 60)
    assert find_alike(np.stack([red, red[:, :, ::-1]])) == []
    assert find_alike(np.stack([red, red])) == [(0, 1)]
