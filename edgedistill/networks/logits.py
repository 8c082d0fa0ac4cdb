"""The logits of a subtask among those of all classes."""

from collections.abc import Sequence

from torch import Tensor

from edgedistill_deploy.errors import EdgeDistillError, UsageError


def restrict_logits(outputs: object, class_indices: Sequence[int]) -> Tensor:
    """Keep the subtask's columns, in its order, of a classifier's output (N, all classes): (N, C).

    Raises:
        EdgeDistillError: the output is not one row of logits per image.
        UsageError: an index is outside the outputs or repeated, or there is no index.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise EdgeDistillError(f"The teacher must return logits of shape (N, classes), and it returned {given}.")
    indices = list(class_indices)
    count = outputs.shape[1]
    if not indices or len(set(indices)) != len(indices) or not all(0 <= each < count for each in indices):
        raise UsageError(
            f"Class indices must be one or more different numbers from 0 to {count - 1}, the teacher's outputs;"
            f" given: {indices}."
        )
    return outputs[:, indices]
