"""What a model confuses, and what its probabilities are worth: counts, curves and bins over judged images.

`truth` (n,) is the right class of each image, none below 0. Logits are (n, C).
"""

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.evaluation.figures import CALIBRATION_BINS, Classes, Logits, log_softmax, predicted_classes
from edgedistill_deploy.records.answers import ConfusedPair, ProbabilityFigures, RejectPoint, ReliabilityBin

Counts = NDArray[np.int64]

REJECT_STEPS = 20  # points of a reject curve, at most
MOST_PAIRS = 50


def count_answers(predicted: Classes, truth: Classes, class_count: int) -> Counts:
    """Return how many images of each true class (rows) get each answer (columns), int64 (C, C).

    Answers below 0 are in no column.
    """
    known = predicted >= 0
    places = truth[known] * class_count + predicted[known]
    return np.bincount(places, minlength=class_count * class_count).reshape(class_count, class_count)


def find_confusions(
    names: tuple[str, ...], truth: Classes, teacher: Counts, candidate: Counts, most: int = MOST_PAIRS
) -> tuple[ConfusedPair, ...]:
    """Return the pairs of classes that the candidate confuses most often, the most frequent first.

    Of equal ones, those that the teacher confuses less often are first, then those of the first classes.
    """
    support = np.bincount(truth, minlength=len(names))
    wrong = candidate.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)
    order = np.lexsort((columns, rows, teacher[rows, columns], -wrong[rows, columns]))[:most]
    return tuple(
        ConfusedPair(
            truth=names[row],
            answer=names[column],
            support=int(support[row]),
            teacher_count=int(teacher[row, column]),
            candidate_count=int(candidate[row, column]),
        )
        for row, column in zip(rows[order], columns[order], strict=True)
    )


def measure_probabilities(logits: Logits, truth: Classes) -> ProbabilityFigures:
    """Return the reject curve and the bins of the reliability diagram; empty if a logit is not finite."""
    if not len(truth) or not np.isfinite(logits).all():
        return ProbabilityFigures()
    confidences = np.exp(log_softmax(logits).max(axis=1))
    right = predicted_classes(logits) == truth
    return ProbabilityFigures(reject=_reject_curve(confidences, right), reliability=_bins(confidences, right))


def _reject_curve(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[RejectPoint, ...]:
    """Return points from "all are answered" to a twentieth of them.

    Images of equal probability stay together, so a point is what a threshold on the probability really gives.
    """
    order = np.argsort(-confidences, kind="stable")
    ranked, correct = confidences[order], np.cumsum(right[order])
    points: dict[int, RejectPoint] = {}
    for step in range(REJECT_STEPS, 0, -1):
        threshold = ranked[-(-len(ranked) * step // REJECT_STEPS) - 1]
        count = int(np.searchsorted(-ranked, -threshold, side="right"))
        points[count] = RejectPoint(
            threshold=min(1.0, float(threshold)), answered=count / len(ranked), accuracy=int(correct[count - 1]) / count
        )
    return tuple(points.values())


def _bins(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """Return the bins that hold images: (0, 1/15], ..., (14/15, 1], as for the expected calibration error."""
    places = np.clip(np.ceil(confidences * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    return tuple(
        ReliabilityBin(
            low=place / CALIBRATION_BINS,
            high=(place + 1) / CALIBRATION_BINS,
            count=int(inside.sum()),
            confidence=min(1.0, float(confidences[inside].mean())),
            accuracy=float(right[inside].mean()),
        )
        for place in range(CALIBRATION_BINS)
        if (inside := places == place).any()
    )
