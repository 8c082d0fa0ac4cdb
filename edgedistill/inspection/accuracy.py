"""The teacher's accuracy with one layer projected, at several ranks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from edgedistill.inspection.projecting import project, projecting, run_midway
from edgedistill.inspection.records import ProjectedAccuracy
from edgedistill.networks.logits import ClassIndices, restrict_logits
from edgedistill.subspaces.directions import Subspace
from edgedistill_deploy.images.sets import NO_LABEL
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.statistics.paired import drop_interval, wilson_interval

Batch = tuple[Tensor, Tensor]
Ranks = Mapping[tuple[str, str], Sequence[int]]  # {(layer, method): K, ...}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of `size` images: right, answered as the teacher does, and lost or gained against the teacher."""

    size: int = 0
    right: int = 0
    agreeing: int = 0
    lost: int = 0
    gained: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{key: count + getattr(other, key) for key, count in asdict(self).items()})

    def at(self, k: int) -> ProjectedAccuracy:
        """Return the shares at K = `k` with their intervals."""
        return ProjectedAccuracy(
            k=k,
            accuracy=self.right / self.size,
            interval=wilson_interval(self.right, self.size),
            agreement=self.agreeing / self.size,
            drop_interval=drop_interval(self.lost, self.gained, self.size),
        )

    def misses(self, target: float, teacher: "Tally") -> bool:
        """Tell whether the whole interval of the drop lies beyond what `target` allows, on the same images.

        One image more or less decides nothing here, as it would for `meets`.
        """
        low, _ = drop_interval(self.lost, self.gained, self.size)
        return low > (1 - target) * teacher.right / self.size + 1e-9

    def meets(self, target: float, teacher: "Tally") -> bool:
        """Tell whether the accuracy is at least `target` times the teacher's on the same images."""
        return self.right >= target * teacher.right - 1e-9


def tally(predicted: Tensor, unprojected: Tensor, labels: Tensor) -> Tally:
    """Compare the predictions (N,) of one batch with the teacher's own (N,) and with the labels (N,).

    For images without a label, the teacher's own prediction is the right one.
    """
    truth = torch.where(labels == NO_LABEL, unprojected, labels)
    right, before = predicted == truth, unprojected == truth
    return Tally(
        size=len(labels),
        right=int(right.sum()),
        agreeing=int((predicted == unprojected).sum()),
        lost=int((before & ~right).sum()),
        gained=int((right & ~before).sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """A teacher, the images it answers, and the subspaces of its layers.

    Attributes:
        model: in evaluation mode.
        class_indices: the subtask's columns of its logits, as for `restrict_logits`.
        batches: called for a pass over normalised images (n, 3, H, W) and labels (n,), on the model's device.
        subspaces: {(layer, method): all D directions}.
    """

    model: nn.Module
    class_indices: ClassIndices
    batches: Callable[[], Iterator[Batch]]
    subspaces: Mapping[tuple[str, str], Subspace]

    def measure_teacher(self) -> Tally:
        """Return the teacher's own tally."""
        predicted, labels = self.ask_teacher()
        return tally(predicted, predicted, labels)

    def ask_teacher(self) -> Batch:
        """Return the teacher's answers (N,) and the labels (N,)."""
        answered = [(self._answers(self.model(images)), labels) for images, labels in self.batches()]
        predicted, labels = zip(*answered, strict=True)
        return torch.cat(predicted), torch.cat(labels)

    def measure_projected(self, ranks: Ranks, progress: Progress = silent) -> dict[tuple[str, str], dict[int, Tally]]:
        """Return {(layer, method): {K: tally}}; gradients must be off.

        The network up to a layer runs once a batch for all projections of that layer. `progress` is called with the
        number of images so far; an image counts once for each projection.
        """
        totals = {key: dict.fromkeys(each, Tally()) for key, each in ranks.items()}
        done = 0
        for images, labels in self.batches():
            for layer in dict.fromkeys(layer for layer, _ in ranks):
                midway = run_midway(self.model, layer, images)
                unprojected = self._answers(midway.logits)
                for method, k in [(m, k) for (of, m), each in ranks.items() if of == layer for k in each]:
                    subspace = self.subspaces[layer, method]
                    predicted = unprojected
                    if k < len(subspace.mean):  # all D directions change nothing, except by rounding
                        output = project(midway.output, subspace, k, self.model, layer)
                        predicted = self._answers(midway.resume(output))
                    totals[layer, method][k] += tally(predicted, unprojected, labels)
                    done += len(labels)
                    progress(done, 0)
        return totals

    def together(self, method: str, ranks: Mapping[str, int]) -> Tally:
        """Return the tally with several layers projected at the same time: {layer: K}."""
        total = Tally()
        subspaces = {layer: (self.subspaces[layer, method], k) for layer, k in ranks.items()}
        for images, labels in self.batches():
            unprojected = self._answers(self.model(images))
            with projecting(self.model, subspaces):
                predicted = self._answers(self.model(images))
            total += tally(predicted, unprojected, labels)
        return total

    def _answers(self, logits: Tensor) -> Tensor:
        return restrict_logits(logits, self.class_indices).argmax(dim=1)
