"""The logits of a subtask among those of all classes: single outputs, and groups of outputs that are one class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgedistill_deploy.errors import EdgeDistillError, UsageError

ClassIndices = Sequence[int | Sequence[int]]


def restrict_logits(outputs: object, class_indices: ClassIndices) -> Tensor:
    """Keep the subtask's classes, in its order, of a classifier's output (N, all classes): (N, C).

    A class is an output of the classifier, or a group of them, its members. The logit of a group is the logarithm of
    the sum of the exponentials of its members' logits. Then its probability is the sum of theirs: with z the logits of
    all members of all kept classes, p = softmax(z) over these, and y_g = log sum_{i in g} exp(z_i) for each class g,

        softmax(y)_g = exp(y_g) / sum_h exp(y_h) = sum_{i in g} exp(z_i) / sum_j exp(z_j) = sum_{i in g} p_i,

    since each z_j is in exactly one class h. A class of one output keeps its logit as it is.

    Args:
        outputs: logits of all classes.
        class_indices: for each class of the subtask its output, or the outputs of its members.

    Raises:
        EdgeDistillError: the output is not one row of logits per image.
        UsageError: an index is outside the outputs or repeated, a group is empty, or there is no index.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise EdgeDistillError(f"The teacher must return logits of shape (N, classes), and it returned {given}.")
    indices, sizes = flatten_indices(class_indices)
    count = outputs.shape[1]
    different = len(set(indices)) == len(indices)
    if not indices or not all(sizes) or not different or not all(0 <= each < count for each in indices):
        raise UsageError(
            f"Class indices must be one or more different numbers from 0 to {count - 1}, the teacher's outputs;"
            f" given: {list(class_indices)}."
        )
    # A GPU gets the indices when it comes to them; made there, they would make the host wait for it.
    return combine_logits(outputs, torch.tensor(indices).to(outputs.device, non_blocking=True), sizes)


def flatten_indices(class_indices: ClassIndices) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the outputs of all classes one after another, and how many of them each class has."""
    members = [(each,) if isinstance(each, int) else tuple(each) for each in class_indices]
    return tuple(index for each in members for index in each), tuple(map(len, members))


def combine_logits(outputs: Tensor, indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """Do the arithmetic of `restrict_logits` for what `flatten_indices` returns, unchecked: (N, all) to (N, C)."""
    kept = outputs.index_select(1, indices)
    if all(size == 1 for size in sizes):
        return kept
    # In half precision a sum over many members would lose the small ones.
    kept = kept.to(torch.promote_types(kept.dtype, torch.float32))
    parts = torch.split(kept, list(sizes), dim=1)
    return torch.cat([part if part.shape[1] == 1 else part.logsumexp(dim=1, keepdim=True) for part in parts], dim=1)
