"""Is a classifier better than chance on some labelled images?

The chance level is the accuracy that the same answers would have on the same labels in random order: the sum over the
classes of the share of their labels times the share of their answers. Source: Cohen, Educational and Psychological
Measurement 20 (1960) 37-46. It is 1 / C where the C classes are even, and it is the whole accuracy of a classifier that
always gives one answer. One over C would let such a classifier pass where a class is common; the share of the commonest
class would fail a good one there.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.statistics.paired import Interval, wilson_interval

Classes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstChance:
    """The accuracy on `size` images, its interval and the chance level, as shares.

    "better": the whole interval lies above chance. "at_chance": chance is not excluded, but an accuracy half way from
    chance to perfect is. "undecided": neither is excluded, because the images are too few or of one class.
    """

    size: int
    accuracy: float
    interval: Interval
    chance: float
    standing: Literal["better", "at_chance", "undecided"]


def compare_with_chance(labels: Classes, answers: Classes, confidence: float = 0.95) -> AgainstChance:
    """Compare answers (n,) with labels (n,), both positions of classes; a negative answer is no class and is wrong.

    Raises DataError without images.
    """
    size = len(labels)
    if not size or size != len(answers):
        raise DataError(f"{len(answers)} answers cannot be compared with {size} labels; there must be one for each.")
    count = int(max(labels.max(), answers.max(), 0)) + 1
    given, wanted = (np.bincount(each[each >= 0], minlength=count) for each in (answers, labels))
    right = int(np.sum(labels == answers))
    chance = float(np.dot(wanted / size, given / size))
    interval = wilson_interval(right, size, confidence)
    return AgainstChance(
        size=size,
        accuracy=right / size,
        interval=interval,
        chance=chance,
        standing=_standing(interval, chance, varied=int(np.sum(wanted > 0)) > 1),
    )


def _standing(interval: Interval, chance: float, *, varied: bool) -> Literal["better", "at_chance", "undecided"]:
    low, high = interval
    if varied and low > chance:
        return "better"
    return "at_chance" if varied and high < (1 + chance) / 2 else "undecided"
