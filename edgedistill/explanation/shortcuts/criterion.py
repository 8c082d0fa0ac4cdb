"""Which places stand out: they carry much of the relevance for one class, and little for every other class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.statistics.paired import holm

LEAST_IMAGES = 4  # of a class; of fewer, chance is not told from a habit
LEVEL = 0.05  # of the adjusted p-values
LEAST_EXCESS = 0.1  # of the positive relevance, above the class that comes next
LEAST_RATIO = 3.0  # to the class that comes next

Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A place that stands out for a network and a class.

    Attributes:
        network: its name.
        label: position of the class.
        region: position of the place among the regions.
        share: mean share of the positive relevance in this place, over the images of the class.
        next_label, next_share: the other class with the largest mean share there.
        p_adjusted: of the rank test, after Holm's correction for all networks, classes and places.
    """

    network: str
    label: int
    region: int
    share: float
    next_label: int
    next_share: float
    p_adjusted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The places that stand out, of how many that were tested; `labels` are the classes with enough images."""

    suspicions: tuple[Suspicion, ...]
    tests: int
    labels: tuple[int, ...]


def judge_places(shares: Mapping[str, Shares], seen: NDArray[np.int64]) -> Judged:
    """Find the places that stand out for one class.

    A place stands out where three things hold. The images of the class have larger shares there than the other images:
    the one-sided rank test of Mann and Whitney, with Holm's correction for all networks, classes and places. The mean
    share is larger by `LEAST_EXCESS` of the relevance than that of any other class. And it is `LEAST_RATIO` times as
    large. The test alone would accuse every class whose shapes lie elsewhere than those of others.

    Args:
        shares: of each network (N, regions).
        seen: the class of each image (N,).
    """
    labels = tuple(label for label in np.unique(seen).tolist() if np.sum(seen == label) >= LEAST_IMAGES)
    if len(labels) < 2:
        return Judged(suspicions=(), tests=0, labels=labels)
    keys = [(network, label) for network in shares for label in labels]
    p_values = np.stack([_rank_test(shares[network], seen == label) for network, label in keys])
    adjusted = np.array(holm(p_values.ravel().tolist())).reshape(p_values.shape)
    means = {
        network: {label: found[seen == label].mean(axis=0) for label in labels} for network, found in shares.items()
    }
    found = [
        _suspicion(network, label, region, means[network], float(adjusted[place, region]))
        for place, (network, label) in enumerate(keys)
        for region in np.flatnonzero(adjusted[place] < LEVEL).tolist()
    ]
    return Judged(suspicions=tuple(filter(_is_large, found)), tests=p_values.size, labels=labels)


def _rank_test(shares: Shares, own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the one-sided p-values (regions,) that images of a class have no larger shares than the others."""
    from scipy.stats import mannwhitneyu

    found: NDArray[np.float64] = np.asarray(
        mannwhitneyu(shares[own], shares[~own], alternative="greater", axis=0).pvalue, dtype=np.float64
    )
    return np.where(np.isfinite(found), found, 1.0)


def _suspicion(
    network: str, label: int, region: int, means: Mapping[int, NDArray[np.float64]], p_adjusted: float
) -> Suspicion:
    other = max((each for each in means if each != label), key=lambda each: float(means[each][region]))
    return Suspicion(
        network=network,
        label=label,
        region=region,
        share=float(means[label][region]),
        next_label=other,
        next_share=float(means[other][region]),
        p_adjusted=p_adjusted,
    )


def _is_large(found: Suspicion) -> bool:
    return found.share - found.next_share >= LEAST_EXCESS and found.share >= LEAST_RATIO * found.next_share
