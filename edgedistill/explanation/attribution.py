"""Maps of relevance: how much each pixel speaks for a class, and how much against it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedistill.checks import check_choice
from edgedistill.explanation._attention import attention_map
from edgedistill.explanation._gradients import integrated_gradients
from edgedistill.explanation._layerwise import layerwise_relevance
from edgedistill.explanation.config import ATTENTION, AUTO, INTEGRATED_GRADIENTS, LRP, METHODS
from edgedistill.networks.logits import ClassIndices
from edgedistill.networks.modes import evaluating, frozen
from edgedistill_deploy.errors import MissingDependencyError, UsageError

# Integrated gradients need no rules, so they are the last resort. The others take a thirtieth of the time.
_BY_PREFERENCE = (LRP, ATTENTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """How integrated gradients go from a picture without content to the image.

    Attributes:
        steps: points of the Gauss-Legendre quadrature; more make the map more exact.
        batch_size: images that run at a time; memory grows with it.
        baseline: the normalised picture without content, which broadcasts to (B, 3, H, W); None is zero, the mean
            colour of the images that the network was trained on.
    """

    steps: int = 32
    batch_size: int = 32
    baseline: Tensor | None = None


def attribute(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    method: str = INTEGRATED_GRADIENTS,
    classes: ClassIndices | None = None,
    path: Path | None = None,
) -> Tensor:
    """Return how much each pixel adds to `class_evidence` (B, H, W), summed over the colours; negative: against it.

    Args:
        model: takes the images and returns logits; it is the same afterwards.
        images: normalised (B, 3, H, W), on the model's device.
        targets: for each image the position of a class in the subtask (B,).
        method: `integrated-gradients` (Sundararajan et al. 2017) for any network; `lrp`, layer-wise relevance
            propagation (Bach et al. 2015), for convolutional networks with ReLU; `attention`, attention-aware gradients
            (Chefer et al. 2021), for plain vision transformers, where no pixel speaks against a class.
        classes: of the subtask among the model's outputs; None where its outputs are the subtask's.
        path: of integrated gradients.

    Raises:
        UsageError: an unknown method, or the network has parts that the method has no rule for.
        MissingDependencyError: the library behind the method is not installed.
    """
    check_choice("method", method, METHODS)
    targets, path = targets.to(images.device), path or Path()
    with evaluating(model), frozen(model), torch.enable_grad():
        if method == LRP:
            found = layerwise_relevance(model, images, targets, classes)
        elif method == ATTENTION:
            found = attention_map(model, images, targets, classes)
        else:
            found = integrated_gradients(
                model, images, targets, classes, path.steps, path.batch_size, baseline=path.baseline
            )
    return found.detach()


def why_not(model: nn.Module, images: Tensor, method: str, classes: ClassIndices | None = None) -> str:
    """Return a sentence on why a method cannot explain this network here; empty where it can.

    Args:
        model: the network.
        images: a few that it is tried on, normalised (B, 3, H, W).
        method: one of those of `attribute`.
        classes: of the subtask among the model's outputs.
    """
    try:
        _try(model, images, method, classes)
    except (UsageError, MissingDependencyError) as error:
        return str(error)
    return ""


def choose_method(wanted: str, networks: Sequence[tuple[nn.Module, Tensor, ClassIndices | None]]) -> str:
    """Return the method for several networks, each with a few images of its own and the subtask's classes.

    `auto` is layer-wise relevance where it can explain all of them, else attention-aware gradients, else integrated
    gradients, which explain every network.

    Raises:
        UsageError: the wanted method is unknown, or cannot explain one of the networks.
        MissingDependencyError: the library behind the wanted method is not installed.
    """
    check_choice("method", wanted, (AUTO, *METHODS))
    if wanted != AUTO:
        for model, images, classes in networks:
            _try(model, images, wanted, classes)
        return wanted
    possible = (
        method
        for method in _BY_PREFERENCE
        if not any(why_not(model, images, method, classes) for model, images, classes in networks)
    )
    return next(possible, INTEGRATED_GRADIENTS)


def _try(model: nn.Module, images: Tensor, method: str, classes: ClassIndices | None) -> None:
    attribute(model, images, torch.zeros(len(images), dtype=torch.int64), method, classes, Path(steps=1))
