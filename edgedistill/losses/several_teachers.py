"""Several teachers as one: their answers weighed image by image, by how sure or how right each is.

The idea of choosing for each image whom to believe is that of Yuan et al. 2020 (arXiv 2012.06048), who learn the choice
by reinforcement. Here the weights have a closed form: a teacher counts the more, the less its answer is off the label.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def weigh_teachers(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return each teacher's share in each image (teachers, N); the shares in an image add up to 1.

    With p a teacher's probabilities, its error is the cross-entropy -sum_c q_c log p_c. Here q is the label. Where an
    image has none, q is p itself, so that the error is the entropy of the answer. A share is the softmax, over the
    teachers, of the negative error: without label a sure teacher outweighs an unsure one; with a label, two teachers
    have the proportion of the probabilities that they give to it.

    Args:
        logits: of the subtask (N, C), for each teacher.
        labels: positions (N,), `NO_LABEL` for images without one; or shares of the classes (N, C), where images are
            mixed. What a mixed image has of images without a label is filled up with p.
    """
    scores = torch.stack([each.float() for each in logits]).log_softmax(dim=2)
    shares = _shares_of(labels.to(scores.device), scores.shape[2])
    wanted = shares + (1 - shares.sum(dim=1, keepdim=True)) * scores.exp()
    return (wanted * scores).sum(dim=2).softmax(dim=0)


def mix_teachers(logits: Sequence[Tensor], labels: Tensor, temperature: float) -> Tensor:
    """Return logits (N, C) whose softmax at the temperature is the teachers' weighed mean probability there.

    The gradient of the student's divergence from this mean is the weighed mean of its gradients from each teacher. The
    arguments are those of `weigh_teachers`.
    """
    shares = weigh_teachers(logits, labels)
    softened = torch.stack([each.float() / temperature for each in logits]).log_softmax(dim=2)
    return temperature * (shares.log().unsqueeze(2) + softened).logsumexp(dim=0)


def _shares_of(labels: Tensor, class_count: int) -> Tensor:
    """Return labels as shares of the classes (N, C); an image without a label has none."""
    if labels.dim() > 1:
        return labels.float()
    # `NO_LABEL` is no class. Choosing the labelled rows instead would make the host wait for a GPU.
    return (labels.unsqueeze(1) == torch.arange(class_count, device=labels.device)).float()
