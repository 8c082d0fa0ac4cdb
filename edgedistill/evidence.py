"""The evidence of a decision: the scalar whose gradient is the context of a layer."""

from collections.abc import Sequence

from torch import Tensor

from edgedistill_deploy.errors import EdgeDistillError, UsageError


def evidence(logits: Tensor) -> Tensor:
    """Return how clearly each image's decision was taken, from subtask logits (N, C), as (N,).

    Chormai et al. 2026: the largest minus the second largest logit. With a single class it is that class's logit itself.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    largest = logits.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]


def restrict_logits(outputs: object, class_indices: Sequence[int]) -> Tensor:
    """Keep the subtask's columns, in its order, of a classifier's output (N, all classes): (N, C).

    Raises:
        EdgeDistillError: the output is not one row of logits per image.
        UsageError: an index is outside the outputs, repeated, or there is none.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise EdgeDistillError(
            f"The teacher must return logits of shape (N, classes), and it returned {given}."
        )
    indices = list(class_indices)
    count = outputs.shape[1]
    if not indices or len(set(indices)) != len(indices) or not all(0 <= each < count for each in indices):
        raise UsageError(
            f"Class indices must be one or more different numbers from 0 to {count - 1}, the teacher's outputs;"
            f" given: {indices}."
        )
    return outputs[:, indices]
