"""The evidence of a decision: the scalar whose gradient is the context of a layer."""

from torch import Tensor


def evidence(logits: Tensor) -> Tensor:
    """Return the largest minus the second largest of subtask logits (N, C), as (N,) (Chormai et al. 2026).

    With a single class it is that class's logit itself.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    largest = logits.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]
