"""Integrated gradients (Sundararajan et al. 2017), by captum."""

import torch
from torch import Tensor, nn

from edgedistill.explanation.evidence import class_evidence
from edgedistill.networks.logits import ClassIndices
from edgedistill_deploy.errors import MissingDependencyError


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    classes: ClassIndices | None,
    steps: int,
    batch_size: int,
    *,
    baseline: Tensor | None = None,
) -> Tensor:
    """Return the gradient's mean on the straight line from the baseline to the image, times their difference (B, H, W).

    The map's sum is the evidence of the image minus that of the baseline, but for the error of the quadrature.

    Args:
        model: in evaluation mode.
        images: normalised (B, 3, H, W).
        targets: positions of classes in the subtask (B,).
        classes: of the subtask among the outputs.
        steps: points on the line.
        batch_size: images that run at a time.
        baseline: broadcasts to the images; None is zero.

    Raises:
        MissingDependencyError: captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise MissingDependencyError("captum", "explain", "The method integrated-gradients") from error

    def evidence(pixels: Tensor, wanted: Tensor) -> Tensor:
        return class_evidence(model(pixels), wanted, classes)

    start = torch.zeros_like(images[:1]) if baseline is None else baseline.to(images).expand_as(images[:1])
    explainer = IntegratedGradients(evidence)
    maps = [
        explainer.attribute(
            images[place : place + 1],
            baselines=start,
            additional_forward_args=(targets[place : place + 1],),
            n_steps=steps,
            internal_batch_size=batch_size,
        ).sum(dim=1)
        for place in range(len(images))
    ]
    return torch.cat(maps)
