"""A classifier as it runs on a device."""

import contextlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgedistill.compute.parts import answer_in_parts
from edgedistill.models.normalise import Normalise
from edgedistill.networks.folding import Fold, find_folds, folded
from edgedistill.networks.logits import ClassIndices, combine_logits, flatten_indices
from edgedistill.networks.modes import evaluating
from edgedistill.rejection.rejector import Rejector

# Largest difference between two orders of the same computation that is rounding, relative to the size of a logit.
ROUNDING = 1e-4


class Deployed(nn.Module):
    """A classifier as it runs on a device: uint8 images (N, H, W, 3) in, logits (N, C) of the subtask out.

    With a rejector there is a second output: whether each image belongs to the subtask, bool (N,).
    """

    chosen: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        normalise: Normalise,
        class_indices: ClassIndices | None = None,
        rejector: Rejector | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.model = model
        self.rejector = rejector
        chosen, self.sizes = flatten_indices(class_indices or ())
        self.register_buffer("chosen", torch.tensor(chosen) if chosen else None, persistent=False)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs in the ONNX file."""
        return ("logits",) if self.rejector is None else ("logits", "in_domain")

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify; with `class_indices`, return the logits of `restrict_logits`."""
        logits: Tensor = self.model(self.normalise(image))
        if self.chosen is not None:
            logits = combine_logits(logits, self.chosen, self.sizes)
        return logits if self.rejector is None else (logits, self.rejector.accepts(logits))


def logits_in_torch(model: Deployed, samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the logits (N, C) of prepared images, uint8 (N, H, W, 3)."""

    def answer(images: Tensor) -> Tensor:
        given = model(images)
        return given if isinstance(given, Tensor) else given[0]

    with evaluating(model), torch.no_grad():
        logits: npt.NDArray[np.float32] = answer_in_parts(answer, torch.from_numpy(samples)).numpy()
    return logits


def answers_alike(
    model: Deployed,
    samples: npt.NDArray[np.uint8],
    change: contextlib.AbstractContextManager[None],
    tolerance: float = ROUNDING,
) -> bool:
    """Return whether a model answers prepared images inside a change as without it, but for rounding.

    Each logit is held to its own size, or to that of a usual one, so that a large one hides nothing.
    """
    usual = logits_in_torch(model, samples)
    with change:
        difference = np.abs(logits_in_torch(model, samples) - usual)
    sizes = np.maximum(np.abs(usual).max(axis=0), np.median(np.abs(usual)))
    return bool((difference <= tolerance * sizes).all())


def harmless_folds(model: Deployed, samples: npt.NDArray[np.uint8]) -> list[Fold]:
    """Return what `folded` can fold without changing the answers to these prepared images beyond rounding."""
    with evaluating(model):
        folds = find_folds(model, torch.from_numpy(samples))
    return folds if folds and answers_alike(model, samples, folded(model, folds)) else []
