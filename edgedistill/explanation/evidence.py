"""The number that an explanation is about: what speaks for one class of the subtask and against the others."""

import torch
from torch import Tensor

from edgedistill.networks.logits import ClassIndices, restrict_logits


def class_evidence(outputs: Tensor, targets: Tensor, classes: ClassIndices | None = None) -> Tensor:
    """Return for each image the logit of its class minus the mean logit of the subtask's other classes (N,).

    Adding a number to all logits of an image changes no probability, and distillation does not teach it. The difference
    does not depend on it, so teacher and student are asked the same question. Of two classes it is the first logit
    minus the second, as in Chormai et al. 2026. With a single class it is that class's logit itself.

    Args:
        outputs: what the network returns (N, all classes).
        targets: the position of a class in the subtask, for each image (N,).
        classes: of the subtask among the outputs, as for `restrict_logits`; None where the outputs are the subtask's.

    Raises:
        EdgeDistillError: the output is not one row of logits per image.
        UsageError: the classes are not different outputs.
    """
    logits = outputs if classes is None else restrict_logits(outputs, classes)
    own = logits.gather(1, targets[:, None])[:, 0]
    others = logits.shape[1] - 1
    return own - (logits.sum(dim=1) - own) / others if others else own


def first_order_parts(outputs: Tensor, targets: Tensor, classes: ClassIndices | None = None) -> Tensor:
    """Return the part of each output in the evidence: the output times its derivative (N, all classes).

    Without groups the evidence is linear in the outputs, and the parts add up to it.
    """
    with torch.enable_grad():
        free = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(class_evidence(free, targets, classes).sum(), free)
    return slope * outputs.detach()
