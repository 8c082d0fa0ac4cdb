"""What the first layer sees of an image: where its pixels come from, and what became of their values and colours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.diagnosis._judged_model import Images

Seen = NDArray[np.float64]  # (N, H, W, 3) in the unit of pixels, 0 to 255

_EQUAL = 1.5  # of 255: how far two pixels may lie apart and be the same; float16 rounds by less
_MOST = 0.8  # share of the pixels that a finding must explain
_PLACES = 64  # pixels whose origin is looked for
_LIVELY = 8.0  # standard deviation over the images of a pixel that can be told from others
_GAMMAS = (0.3, 4.0)
_SAME_CURVE = 3.0  # of 255, on average
_LUMINANCE = 0.05  # largest difference between the three rows of a mixture that makes grey
_VISIBLE = 0.5  # the least share of the brightness that a grey image keeps
_COLOURS = 0.5  # of 255: the least standard deviation of a mixture of the channels
_JUMP = 64.0  # of 255: a fall of a curve that a wrap around makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """A fault of the image on its way to the first layer, with a clause that describes it and its figures."""

    name: str
    clause: str
    figures: dict[str, float | list[float]]


def describe_alteration(images: Images, seen: Seen) -> Alteration | None:
    """Say how what is seen differs from the images; None if nothing known fits.

    A straight line through the values of each channel is another range, and not looked for here.
    """
    return next((found for find in (_mixed_colours, _other_curve, _moved) for found in find(images, seen)), None)


def _share_equal(seen: Seen, images: NDArray[np.floating | np.integer]) -> float:
    return float(np.mean(np.abs(seen - images) <= _EQUAL))


def _mixed_colours(images: Images, seen: Seen) -> Iterator[Alteration]:
    """Fit each channel that is seen as a sum of the image's three; the sum tells grey from another order."""
    pixels = images.reshape(-1, 3).astype(np.float64)
    if np.linalg.svd(pixels - pixels.mean(axis=0), compute_uv=False)[-1] < _COLOURS * np.sqrt(len(pixels)):
        return  # the images have no colours that could be told apart
    mixture, *_ = np.linalg.lstsq(pixels, seen.reshape(-1, 3), rcond=None)
    if _share_equal(seen, (pixels @ mixture).reshape(seen.shape)) < _MOST:
        return
    order = np.argmax(np.abs(mixture), axis=0)
    if sorted(order) == [0, 1, 2] and np.abs(mixture - np.eye(3)[:, order]).max() < _LUMINANCE:
        if list(order) != [0, 1, 2]:
            names = ", ".join(("red", "green", "blue")[place] for place in order)
            clause = f"for red, green and blue it reads {names}; feed RGB, or export again without the change"
            yield Alteration(name="swapped_channels", clause=clause, figures={"order": [float(each) for each in order]})
        return
    weights = mixture.mean(axis=1)
    if np.ptp(mixture, axis=1).max() < _LUMINANCE and weights.sum() > _VISIBLE:
        clause = "it reads the same grey in all three channels; feed the images in colour"
        yield Alteration(name="grey_input", clause=clause, figures={"weights": weights.tolist()})


def _other_curve(images: Images, seen: Seen) -> Iterator[Alteration]:
    """Look at what is seen as a function of the pixel's value: a power is another gamma, a fall is a wrap around."""
    curve = _curve(images, seen)
    if curve is None:
        return
    values, read = curve
    inner = (values > 8) & (values < 247) & (read > 1) & (read < 254)
    if inner.sum() >= 8:
        powers = np.log(read[inner] / 255) / np.log(values[inner] / 255)
        gamma = float(np.median(powers))
        fitted = 255 * (values / 255) ** gamma
        if _GAMMAS[0] < gamma < _GAMMAS[1] and np.abs(fitted - read).mean() < _SAME_CURVE and abs(gamma - 1) > 0.05:
            clause = f"it reads the pixels with a gamma of {gamma:.2g}; leave the gamma out, or train with it"
            yield Alteration(name="other_gamma", clause=clause, figures={"gamma": gamma})
            return
    falls, rises = np.diff(read) < -_JUMP, np.diff(read) > 0
    if falls.any() and rises.mean() > _MOST:
        at = [float(value) for value in values[1:][falls]]
        clause = f"its pixels wrap around at the value {at[0]:.0f}: an 8-bit type overflows; clip in a wider type"
        yield Alteration(name="wrapped_pixels", clause=clause, figures={"wraps_at": at})


def _curve(images: Images, seen: Seen) -> tuple[Seen, Seen] | None:
    """Return the pixel values that occur and what is seen for each; None if one value is seen as several."""
    flat, read = images.ravel().astype(np.int64), seen.ravel()
    counts = np.bincount(flat, minlength=256)
    sums = np.bincount(flat, read, 256)
    common = counts >= 4
    means = np.divide(sums, counts, out=np.zeros(256), where=counts > 0)
    if not np.isfinite(read).all() or common.sum() < 16:
        return None
    explained = np.abs(read - means[flat]) <= _EQUAL
    return (np.flatnonzero(common).astype(np.float64), means[common]) if explained.mean() >= _MOST else None


def _moved(images: Images, seen: Seen) -> Iterator[Alteration]:
    """Find for a sample of pixels seen the place in the image that they come from."""
    count, height, width, _ = images.shape
    sources = images.transpose(1, 2, 0, 3).reshape(height * width, -1).astype(np.float64)
    targets = seen.transpose(1, 2, 0, 3).reshape(height * width, -1)
    lively = np.flatnonzero(targets.std(axis=1) > _LIVELY)
    if count < 2 or len(lively) < _PLACES // 4:
        return
    sample = lively[np.unique(np.linspace(0, len(lively) - 1, _PLACES).round().astype(np.int64))]
    found = np.array([_origin(sources, targets[place], int(place)) for place in sample])
    known = found >= 0
    if known.mean() < _MOST or np.mean(found[known] == sample[known]) > 1 - _MOST:
        return
    to, origin = (np.stack(np.divmod(each[known], width), axis=1).astype(np.float64) for each in (sample, found))
    clause = f"it reads {_describe_move(to, origin)}; look at how the images are turned, cut and laid out in memory"
    yield Alteration(name="moved_pixels", clause=clause, figures={"moved_share": float(np.mean(found != sample))})


def _origin(sources: Seen, target: Seen, place: int) -> int:
    """Return the place of the image whose pixels equal those seen, the same place first; -1 if there is none."""
    if np.abs(sources[place] - target).max() <= _EQUAL:
        return place
    best = int(np.abs(sources - target).sum(axis=1).argmin())
    return best if np.abs(sources[best] - target).max() <= _EQUAL else -1


def _describe_move(to: Seen, origin: Seen) -> str:
    """Put a straight line from place to origin into words; edges and rounding leave the most common step."""
    steps = np.round(origin - to)
    uniform, counts = np.unique(steps, axis=0, return_counts=True)
    if counts.max() > 0.5 * len(steps):
        down, across = (int(each) for each in uniform[counts.argmax()])
        return f"pixels shifted by {abs(down)} rows and {abs(across)} columns"
    matrix, *_ = np.linalg.lstsq(np.column_stack([to, np.ones(len(to))]), origin, rcond=None)
    (a, b), (c, d) = np.round(matrix[:2]).astype(int).tolist()
    known = {
        ((1, 0), (0, -1)): "a mirrored image",
        ((-1, 0), (0, 1)): "an image upside down",
        ((-1, 0), (0, -1)): "an image turned by half",
        ((0, 1), (1, 0)): "an image with rows and columns interchanged",
        ((0, -1), (1, 0)): "an image turned by a quarter",
        ((0, 1), (-1, 0)): "an image turned by a quarter",
    }
    return known.get(((a, b), (c, d)), "pixels from other places of the image")
