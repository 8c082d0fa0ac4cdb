"""Settings of an inspection, without torch, so that they can be refused before anything heavy is loaded."""

from dataclasses import dataclass
from typing import Literal

from edgedistill.checks import check_at_least, check_choice
from edgedistill.config import COMPUTES, SUBSPACE_METHODS, check_workers
from edgedistill_deploy.errors import UsageError

# Methods without a matrix, so without eigenvalues.
WITHOUT_SPECTRUM = ("random", "identity")


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectConfig:
    """Settings of an inspection.

    Attributes:
        layers: dotted names in the teacher; by default those that would be paired with a student.
        methods: as `find_subspaces` names them; the first one gives the suggested student.
        ks: ranks K to measure; by default 1, 2, 4, ... and the layer's width, then bisection for the suggested widths.
            A K above a layer's width D means all D directions.
        target: the part of the teacher's accuracy that a suggested width must keep.
        images: largest number of validation images, a seeded sample with the classes in proportion.
        training_images: largest number of training images for the subspaces, sampled in the same way.
        positions: drawn from each image's map for the subspaces; 0 uses all.
        batch_size: images at a time; memory grows with it.
        seed: fixes both samples, the positions, and the directions of `random`.
        workers: processes that decode images; `auto` chooses, as in a training.
        compute: where the teacher runs: auto, cpu, cuda or mps.
    """

    layers: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("prca", "pca", "gradient", "random")
    ks: tuple[int, ...] = ()
    target: float = 0.99
    images: int = 1000
    training_images: int = 4000
    positions: int = 20
    batch_size: int = 32
    seed: int = 0
    workers: int | Literal["auto"] = "auto"
    compute: str = "auto"

    def __post_init__(self) -> None:
        if not self.methods:
            raise UsageError("No method was given; name at least one, such as prca.")
        for method in self.methods:
            check_choice("method", method, SUBSPACE_METHODS)
        for k in self.ks:
            check_at_least("k", k, 1)
        if not 0 < self.target <= 1:
            raise UsageError(
                f"target is the part of the teacher's accuracy to keep, above 0 and at most 1, such as 0.99, and"
                f" {self.target} was given."
            )
        for key in ("images", "training_images", "batch_size"):
            check_at_least(key, getattr(self, key), 1)
        for key in ("positions", "seed"):
            check_at_least(key, getattr(self, key), 0)
        check_workers(self.workers)
        check_choice("compute", self.compute, COMPUTES)
