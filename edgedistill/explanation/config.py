"""Settings of an explanation, without torch, so that they can be refused before anything heavy is loaded."""

from dataclasses import dataclass
from typing import Literal

from edgedistill.checks import check_at_least, check_choice
from edgedistill.config import COMPUTES, check_workers

INTEGRATED_GRADIENTS, LRP, ATTENTION, AUTO = "integrated-gradients", "lrp", "attention", "auto"
METHODS = (INTEGRATED_GRADIENTS, LRP, ATTENTION)
# Of a search for shortcuts, by default: it needs several of each class.
SHORTCUT_IMAGES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainConfig:
    """Settings of an explanation.

    Attributes:
        method: one of `METHODS`, or auto: the first of lrp, attention and integrated-gradients that explains both
            networks.
        images: largest number of validation images, a seeded sample with as many of each class as of the others.
        steps: of integrated gradients, see `attribution.Path`.
        pictures: of the images, how many are drawn beside their maps.
        batch_size: images at a time; what a batch gave is kept if the work is interrupted.
        seed: fixes the sample and the random orders.
        workers: processes that decode images; `auto` chooses, as in a training.
        compute: where the networks run: auto, cpu, cuda or mps.
    """

    method: str = AUTO
    images: int = 64
    steps: int = 32
    pictures: int = 12
    batch_size: int = 8
    seed: int = 0
    workers: int | Literal["auto"] = "auto"
    compute: str = "auto"

    def __post_init__(self) -> None:
        check_choice("method", self.method, (AUTO, *METHODS))
        for key in ("images", "steps", "batch_size"):
            check_at_least(key, getattr(self, key), 1)
        for key in ("pictures", "seed"):
            check_at_least(key, getattr(self, key), 0)
        check_workers(self.workers)
        check_choice("compute", self.compute, COMPUTES)
