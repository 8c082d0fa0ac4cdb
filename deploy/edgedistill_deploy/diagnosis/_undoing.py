"""Faults of the input that are recognised by images that undo them: the answers come back.

This is for graphs whose first layer cannot be read, and for images that were prepared wrongly before the model. Eight
bits undo a second normalisation coarsely, and a missing one only for pixels whose normalised value lies between 0 and
1. They cannot undo a missing or repeated division by 255, which shows as constant answers.

Several changes bring something back: a second normalisation and a gamma both darken. So all are tried on a few images,
and the best is named only if it beats the best of every other fault clearly.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.diagnosis._input_faults import SENTENCES
from edgedistill_deploy.diagnosis._judged_model import Change, Images, JudgedModel, percentages, repair_by
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.logits import raw_logits

_IMAGES = 64
_LEAST_RECOVERED = 0.6
_RUNNER_UP = 0.7  # share of the winner's gain that the best change of another fault may bring at most
_REMAINS = 1 / 3  # share of what the runner-up leaves that the winner may leave
_SHIFTS = (1, 2, 3, 4)
_EVERY_VALUE = np.arange(256)  # of a pixel: looking a change of values up is faster than computing it for each pixel

# Usual means and standard deviations of pixels from 0 to 1.
_CUSTOMARY: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_WORDS = {
    **SENTENCES,
    "swapped_channels": "Red and blue are swapped",
    "other_gamma": "The pixels have another gamma",
    "wrapped_pixels": "The pixels are signed where unsigned ones belong",
    "moved_pixels": "The images are turned, mirrored or shifted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A change of the images that undoes a fault: `how` tells it from others of the same fault."""

    name: str
    how: str
    change: Change


def find_undoable_fault(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the fault whose undoing in the images recovers most, if no other recovers nearly as much."""
    images = judged.evaluation.images(judged.evaluation.spread(_IMAGES))
    wanted = judged.answers.teacher[judged.evaluation.spread(_IMAGES)]
    likeness = {
        attempt: _likeness(raw_logits(judged.session, attempt.change(images)), wanted) for attempt in _attempts()
    }
    winner = _find_winner(likeness, _likeness(raw_logits(judged.session, images), wanted))
    if winner is None:
        return
    repair = repair_by(judged, judged.session, winner.change)
    if repair.convinces(judged.confidence, _LEAST_RECOVERED):
        how = f" ({winner.how})" if winner.how else ""
        detail = (
            f"{_WORDS[winner.name]}{how}, it seems. With images that undo this, as far as eight bits can, "
            f"{percentages(repair)}; look at what prepares the images, or export the model again."
        )
        evidence = {**repair.evidence, "recovered": repair.recovered, "figures": winner.how}
        yield Diagnosis(name=winner.name, detail=detail, evidence=evidence)


def _find_winner(likeness: Mapping[Attempt, float], before: float) -> Attempt | None:
    """Return the best attempt if it beats every other fault's: by what it brings back, or by what then still lacks."""
    winner = max(likeness, key=lambda each: likeness[each])
    best, rival = likeness[winner], max(value for each, value in likeness.items() if each.name != winner.name)
    is_clear = rival - before <= _RUNNER_UP * (best - before) or 1 - best <= _REMAINS * (1 - rival)
    return winner if best > before and is_clear else None


def _likeness(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Return the mean cosine of the logits (n, C), each row around its own mean; 0 for rows that are not finite."""
    rows = [each - each.mean(axis=1, keepdims=True) for each in (given.astype(np.float64), wanted.astype(np.float64))]
    norms = np.linalg.norm(rows[0], axis=1) * np.linalg.norm(rows[1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (rows[0] * rows[1]).sum(axis=1) / norms
    return float(np.where(np.isfinite(cosines), cosines, 0.0).mean())


def _attempts() -> Iterator[Attempt]:
    yield Attempt(name="swapped_channels", how="", change=lambda images: np.ascontiguousarray(images[..., ::-1]))
    yield Attempt(name="inverted_pixels", how="", change=lambda images: 255 - images)
    yield Attempt(name="wrapped_pixels", how="", change=lambda images: images ^ np.uint8(128))
    for usual, (mean, std) in _CUSTOMARY.items():
        centre, spread = 255 * np.asarray(mean), np.asarray(std)
        how = f"with the figures of {usual}"
        yield Attempt(name="double_normalisation", how=how, change=_affine(spread, centre))
        yield Attempt(name="missing_normalisation", how=how, change=_affine(1 / spread, -centre / spread))
    for gamma in (2.2, 1.8, 1 / 1.8, 1 / 2.2):
        yield Attempt(name="other_gamma", how=f"a gamma of {gamma:.2g}", change=_curve(1 / gamma))
    for how, change in _moves().items():
        yield Attempt(name="moved_pixels", how=how, change=change)


def _moves() -> Mapping[str, Change]:
    moves: dict[str, Change] = {
        "mirrored": lambda images: np.ascontiguousarray(images[:, :, ::-1]),
        "upside down": lambda images: np.ascontiguousarray(images[:, ::-1]),
        "turned by half": lambda images: np.ascontiguousarray(images[:, ::-1, ::-1]),
        "turned by a quarter": _if_square(lambda images: np.rot90(images, 1, (1, 2))),
        "turned by three quarters": _if_square(lambda images: np.rot90(images, 3, (1, 2))),
        "rows and columns interchanged": _if_square(lambda images: images.swapaxes(1, 2)),
    }
    for axis, name in ((1, "rows"), (2, "columns")):
        for steps in _SHIFTS:
            moves[f"shifted by {steps} {name}"] = _rolled(axis, -steps)
            moves[f"shifted back by {steps} {name}"] = _rolled(axis, steps)
    return moves


def _if_square(turn: Change) -> Change:
    return lambda images: np.ascontiguousarray(turn(images)) if images.shape[1] == images.shape[2] else images


def _rolled(axis: int, steps: int) -> Change:
    return lambda images: np.roll(images, steps, axis=axis)


def _affine(factor: NDArray[np.float64], shift: NDArray[np.float64]) -> Change:
    columns = _as_pixels(_EVERY_VALUE[:, None] * factor + shift).T
    return lambda images: np.stack([column[images[..., place]] for place, column in enumerate(columns)], axis=-1)


def _curve(power: float) -> Change:
    table = _as_pixels(255 * (_EVERY_VALUE / 255.0) ** power)
    return lambda images: table[images]


def _as_pixels(values: NDArray[np.float64]) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
