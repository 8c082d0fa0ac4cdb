"""What the first layer sees of an image, from numbers alone."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedistill_deploy.diagnosis._read_pixels import Alteration, describe_alteration

Seen = NDArray[np.float64]
SIDE = 16


def photos(seed: int = 0) -> NDArray[np.uint8]:
    """Return colourful images with soft structure, uint8 (8, 16, 16, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (8, SIDE // 4, SIDE // 4, 3)).repeat(4, 1).repeat(4, 2)
    return np.clip(coarse + random.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)


def described(change: Callable[[Seen], Seen], seed: int = 0) -> Alteration | None:
    images = photos(seed)
    return describe_alteration(images, np.ascontiguousarray(change(images.astype(np.float64))))


FAULTS: dict[str, tuple[Callable[[Seen], Seen], str]] = {
    "gamma 2.2": (lambda x: 255 * (x / 255) ** 2.2, "gamma of 2.2"),
    "gamma 0.5": (lambda x: 255 * (x / 255) ** 0.5, "gamma of 0.5"),
    "overflow": (lambda x: (x * 2) % 256, "wrap around at the value 128"),
    "signed": (lambda x: (x + 128) % 256, "wrap around at the value 128"),
    "blue first": (lambda x: x[..., ::-1], "reads blue, green, red"),
    "grey": (lambda x: np.repeat((x @ [0.299, 0.587, 0.114])[..., None], 3, axis=3), "same grey"),
    "mirrored": (lambda x: x[:, :, ::-1], "a mirrored image"),
    "upside down": (lambda x: x[:, ::-1], "upside down"),
    "turned": (lambda x: np.rot90(x, 1, (1, 2)), "turned by a quarter"),
    "transposed": (lambda x: x.swapaxes(1, 2), "rows and columns interchanged"),
    "shifted": (lambda x: np.roll(x, (2, 3), (1, 2)), "shifted by 2 rows and 3 columns"),
    "cut": (lambda x: x[:, np.arange(16) * 12 // 16 + 2][:, :, np.arange(16) * 12 // 16 + 2], "other places"),
}
NAMES = {
    "gamma 2.2": "other_gamma",
    "gamma 0.5": "other_gamma",
    "overflow": "wrapped_pixels",
    "signed": "wrapped_pixels",
    "blue first": "swapped_channels",
    "grey": "grey_input",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_alteration_is_named_and_described(fault: str) -> None:
    change, words = FAULTS[fault]
    found = described(change)
    assert found is not None
    assert found.name == NAMES.get(fault, "moved_pixels")
    assert words in found.clause


@given(st.sampled_from([*FAULTS]), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_name_does_not_depend_on_the_images(fault: str, seed: int) -> None:
    found = described(FAULTS[fault][0], seed)
    assert found is not None
    assert found.name == NAMES.get(fault, "moved_pixels")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + np.random.default_rng(0).normal(0, 20, x.shape),
        lambda x: (x + np.roll(x, 1, 1) + np.roll(x, 1, 2)) / 3,
        lambda x: np.zeros_like(x),
        lambda x: np.full_like(x, np.nan),
    ],
    ids=["noise", "blurred", "black", "not a number"],
)
def test_what_is_not_known_gets_no_name(change: Callable[[Seen], Seen]) -> None:
    assert described(change) is None


def test_grey_images_tell_nothing_about_colours() -> None:
    images = np.repeat(photos()[..., :1], 3, axis=3)
    assert describe_alteration(images, images[..., ::-1].astype(np.float64)) is None
