"""Which parts of a picture speak for an answer: each is covered in turn, and the model is asked again.

The method is occlusion (Zeiler and Fergus 2014). It needs the model's answers alone, so it works with every runtime and
every precision. Patches overlap by half. What covers a patch is the same place of the blurred picture, or the picture's
mean colour.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.evaluation.figures import log_softmax
from edgedistill_deploy.prediction.answers import Prediction
from edgedistill_deploy.wording import less_probable

Fill = Literal["blur", "mean"]
FILLS: tuple[Fill, ...] = get_args(Fill)
MOSTACROSS = 64
ACROSS = 7  # patches side by side, without their overlap
_PLACES = (
    ("the upper left", "the top", "the upper right"),
    ("the left", "the centre", "the right"),
    ("the lower left", "the bottom", "the lower right"),
)

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """The patches of one size of picture: their height and width, and where they begin, in pixels."""

    height: int
    width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Yield each patch as its rows and columns, row by row."""
        for top in self.tops:
            for left in self.lefts:
                yield slice(top, top + self.height), slice(left, left + self.width)


def plan_patches(size: tuple[int, int], across: int = ACROSS) -> Patches:
    """Return patches that overlap by half and cover a picture of (H, W) pixels; `across` of them fill each side.

    Raises UsageError for an `across` that is not from 1 to `MOSTACROSS`.
    """
    if not 1 <= across <= MOSTACROSS:
        raise UsageError(f"across is {across}; it must be a whole number from 1 to {MOSTACROSS} patches.")
    (height, tops), (width, lefts) = (_plan_side(side, across) for side in size)
    return Patches(height=height, width=width, tops=tops, lefts=lefts)


def _plan_side(side: int, across: int) -> tuple[int, tuple[int, ...]]:
    """Return the length of a patch along a side, and where the patches begin."""
    length = -(-side // across)
    room, step = side - length, -(-length // 2)
    gaps = -(-room // step)
    return length, tuple(room * place // gaps for place in range(gaps + 1)) if gaps else (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The part of a picture whose covering lowers the answer most.

    Attributes:
        box: left, top, right and bottom, as shares of the upright picture from 0 to 1.
        pixels: left, top, right and bottom in what the model sees, in pixels.
        place: the same in words, such as "the upper left".
        fall: how far the log odds of the class fall.
        probability: of the class while this part is covered.
    """

    box: Box
    pixels: tuple[int, int, int, int]
    place: str
    fall: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """Which parts of a picture speak for the answer, and which against it.

    Attributes:
        prediction: the answer to the whole picture.
        map: float32 (H, W), read-only: how far the log odds of the class fall when a pixel is covered, as the mean over
            the patches that cover it. Above 0 a pixel speaks for the class, below 0 against it.
        pixels: uint8 (H, W, 3), what the model sees of the picture.
        region: None where no patch lowers the log odds.
        fill: what covers a patch.
        look_count: how many pictures the model was shown, the whole one included.
        milliseconds: how long all of it took.
    """

    prediction: Prediction
    map: NDArray[np.float32] = field(repr=False)
    pixels: Pixels = field(repr=False)
    region: Region | None
    fill: Fill
    look_count: int
    milliseconds: float

    def __str__(self) -> str:
        return f"{self.prediction}. {describe_region(self)}"

    def to_json(self) -> dict[str, object]:
        """Return what a line of JSON says about it; the map is in the picture that is drawn of it."""
        region = self.region
        return {
            "region": None if region is None else list(region.box),
            "place": None if region is None else region.place,
            "probability_without": None if region is None else region.probability,
            "fall": None if region is None else region.fall,
            "fill": self.fill,
            "look_count": self.look_count,
            "milliseconds": self.milliseconds,
        }


def describe_region(explanation: Explanation) -> str:
    """Return the sentence on the part that counts most."""
    region, answer = explanation.region, explanation.prediction
    if region is None:
        return f"No single part speaks for {answer.class_name}."
    place = region.place[:1].upper() + region.place[1:]
    change = less_probable(answer.probability, region.probability, region.fall)
    return f"{place} speaks most for {answer.class_name}: without it {change}."


def require_fill(fill: str) -> None:
    """Raise UsageError for an unknown fill."""
    if fill not in FILLS:
        raise UsageError(f"fill is {fill!r}, which is unknown.{nearest_names(str(fill), FILLS)}")


def filled(pixels: Pixels, fill: Fill, patches: Patches) -> Pixels:
    """Return the picture (H, W, 3) that shines through where a patch is covered.

    It is blurred so far that nothing of a patch's size is left, or it has one colour, the rounded mean.
    """
    if fill == "mean":
        mean = np.rint(pixels.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
        return np.broadcast_to(mean, pixels.shape)
    blur = ImageFilter.GaussianBlur(max(patches.height, patches.width))
    return np.asarray(Image.fromarray(pixels).filter(blur))


def covered_copies(
    pixels: Pixels, fill: Pixels, patches: Patches, batch_size: int, *, whole: bool = False
) -> Iterator[Pixels]:
    """Yield batches (n, H, W, 3) of the picture: first as it is, then with one patch after the other covered.

    With `whole` the last batch is filled up with the picture as it is, for a model that takes one size of batch alone.
    """
    every: list[tuple[slice, slice] | None] = [None, *patches]
    every += [None] * (-len(every) % batch_size if whole else 0)
    for start in range(0, len(every), batch_size):
        places = every[start : start + batch_size]
        batch = np.repeat(pixels[None], len(places), axis=0)
        for copy, place in zip(batch, places, strict=True):
            if place is not None:
                copy[place] = fill[place]
        yield batch


def log_odds(logits: NDArray[np.floating], target: int) -> NDArray[np.float64]:
    """Return the log odds (n,) of a class against all others from logits (n, C); the logit itself where C is 1."""
    exact = np.asarray(logits, np.float64)
    others = np.delete(exact, target, axis=1)
    if not others.shape[1]:
        return exact[:, target]
    highest = others.max(axis=1)
    against = highest + np.log(np.exp(others - highest[:, None]).sum(axis=1))
    return np.asarray(exact[:, target] - against)


def spread(falls: NDArray[np.float64], patches: Patches, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the map (H, W) of falls (n,), one a patch: for each pixel, the mean of the patches that cover it."""
    total, count = np.zeros(size), np.zeros(size)
    for fall, place in zip(falls, patches, strict=True):
        total[place] += fall
        count[place] += 1
    found = (total / count).astype(np.float32)
    found.setflags(write=False)
    return found


def strongest_region(
    logits: NDArray[np.floating], target: int, patches: Patches, seen: Box, size: tuple[int, int]
) -> Region | None:
    """Return the patch that lowers the log odds of a class most, None where none does.

    Args:
        logits: (n + 1, C), of the whole picture and of each covered patch.
        target: the place of the class.
        patches: the n patches.
        seen: the part of the picture, as shares, that the model sees.
        size: (H, W) of what it sees, in pixels.
    """
    falls = falls_of(logits, target)
    best = int(np.argmax(falls))
    if not falls[best] > 0:
        return None
    rows, columns = list(patches)[best]
    (height, width), (left, top, right, bottom) = size, seen
    box = (
        left + (right - left) * columns.start / width,
        top + (bottom - top) * rows.start / height,
        left + (right - left) * columns.stop / width,
        top + (bottom - top) * rows.stop / height,
    )
    without = float(np.exp(log_softmax(np.asarray(logits[best + 1 : best + 2])))[0, target])
    return Region(
        box=box,
        pixels=(columns.start, rows.start, columns.stop, rows.stop),
        place=place_of(box),
        fall=float(falls[best]),
        probability=without,
    )


def falls_of(logits: NDArray[np.floating], target: int) -> NDArray[np.float64]:
    """Return how far each patch lowers the log odds (n,), from logits (n + 1, C), the whole picture's first."""
    odds = log_odds(logits, target)
    return np.asarray(odds[0] - odds[1:])


def place_of(box: Box) -> str:
    """Return in words where the middle of a box lies, in thirds of the picture."""
    across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return _PLACES[min(2, int(3 * down))][min(2, int(3 * across))]
