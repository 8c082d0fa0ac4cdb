"""How alike two maps of relevance are."""

import numpy as np
from numpy.typing import NDArray

COSINE, SPEARMAN, TOP_DECILE = "cosine", "spearman", "top_decile"
MEASURES = (COSINE, SPEARMAN, TOP_DECILE)
_DECILE = 0.1

Map = NDArray[np.float64]


def compare_maps(one: Map, other: Map) -> dict[str, float]:
    """Return three measures of two maps (H, W), each from -1 to 1; 1 for maps that are multiples of each other.

    - cosine: of the two maps as vectors; it rests on the pixels of much relevance.
    - spearman: the correlation of the pixels' ranks; it rests on all pixels alike.
    - top_decile: of the tenth of the pixels with the most relevance of either sign, the share that both maps have with
      the same sign, minus the share that they have with different signs.

    A map that is the same everywhere is like no other: each measure is 0.
    """
    first, second = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return {
        COSINE: _cosine(first, second),
        SPEARMAN: _cosine(_centred_ranks(first), _centred_ranks(second)),
        TOP_DECILE: _signed_overlap(first, second),
    }


def _cosine(one: Map, other: Map) -> float:
    # Scaled first: relevance can be so small that its squares are zero.
    largest = np.abs(one).max(), np.abs(other).max()
    if not all(largest):
        return 0.0
    one, other = one / largest[0], other / largest[1]
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def _centred_ranks(values: Map) -> Map:
    """Return the ranks around 0; equal values share the mean of their ranks."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    ranks: Map = middle[group.ravel()] - (len(values) - 1) / 2
    return ranks


def _top(values: Map, count: int) -> NDArray[np.int64]:
    return np.argsort(-np.abs(values), kind="stable")[:count].astype(np.int64)


def _signed_overlap(one: Map, other: Map) -> float:
    count = max(1, round(_DECILE * len(one)))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    both = np.intersect1d(_top(one, count), _top(other, count))
    return float(np.sum(np.sign(one[both]) * np.sign(other[both])) / count)
