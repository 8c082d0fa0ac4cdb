"""Layer losses of other methods, in the two parts of `LayerLoss`.

They take (student_width, teacher_width) and maps (N, K, H', W') and (N, D, H, W). Those that compare positions average
the larger map down to the smaller one. The teacher gets no gradient.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.losses.subspace_loss import LayerLoss, LearnedRotation, pool_to, smaller_size

VARIANCE_START = 5.0
SMALLEST_VARIANCE = 1e-5


class AttentionTransferLoss(LayerLoss):
    """Squared difference of attention maps, mean over images and positions (Zagoruyko & Komodakis 2017).

    An attention map is the channels' mean square at each position, normalised per image. The loss of maps with a single
    position is 0.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()

    @torch.no_grad()
    def target(self, teacher_map: Tensor, student_size: tuple[int, int]) -> Tensor:
        """Return the teacher's attention map (N, h, w)."""
        return _attention(pool_to(teacher_map, smaller_size(teacher_map.shape[2:], student_size)))

    def compare(self, student_map: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        return F.mse_loss(_attention(pool_to(student_map, target.shape[1:])), target)


def _attention(values: Tensor) -> Tensor:
    squares = values.square().mean(1)
    return F.normalize(squares.flatten(1), dim=1).view_as(squares)


class FitNetLoss(LayerLoss):
    """Squared error of a 1x1 convolution from the student's features to the teacher's (Romero et al. 2015).

    Summed over channels, mean over images and positions.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(student_width, teacher_width, 1)

    @torch.no_grad()
    def target(self, teacher_map: Tensor, student_size: tuple[int, int]) -> Tensor:
        """Return the teacher's features (N, D, h, w)."""
        return pool_to(teacher_map, smaller_size(teacher_map.shape[2:], student_size))

    def compare(self, student_map: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        error: Tensor = self.regressor(pool_to(student_map, target.shape[2:])) - target
        return error.square().sum(1).mean()


class VIDLoss(LayerLoss):
    """Negative log-likelihood of the teacher's features under a Gaussian (Ahn et al. 2019).

    Its mean comes from the student's features by three 1x1 convolutions with ReLU between; its variance is learned per
    channel and starts at 5. The constant log(2 pi) / 2 is left out.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Conv2d(student_width, teacher_width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_width, teacher_width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_width, teacher_width, 1, bias=False),
        )
        # The inverse of softplus, so that the variance starts at VARIANCE_START.
        start = math.log(math.expm1(VARIANCE_START - SMALLEST_VARIANCE))
        self.log_scale = nn.Parameter(torch.full((teacher_width,), start))

    @torch.no_grad()
    def target(self, teacher_map: Tensor, student_size: tuple[int, int]) -> Tensor:
        """Return the teacher's features (N, D, h, w)."""
        return pool_to(teacher_map, smaller_size(teacher_map.shape[2:], student_size))

    def compare(self, student_map: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        variance = (F.softplus(self.log_scale) + SMALLEST_VARIANCE).view(1, -1, 1, 1)
        error: Tensor = self.regressor(pool_to(student_map, target.shape[2:])) - target
        return 0.5 * (error.square() / variance + variance.log()).mean()


class VkDLoss(LayerLoss):
    """Smooth L1 of orthogonally projected student and layer-normalised teacher, space means (Miles et al. 2024)."""

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.projection = LearnedRotation(student_width, teacher_width)

    @torch.no_grad()
    def target(self, teacher_map: Tensor, student_size: tuple[int, int]) -> Tensor:
        """Return the layer-normalised means over space (N, D)."""
        teacher = teacher_map.mean((2, 3))
        return F.layer_norm(teacher, teacher.shape[1:])

    def compare(self, student_map: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        means = student_map.mean((2, 3))
        return F.smooth_l1_loss(means @ self.projection(means, target).T, target)


class SimilarityPreservingLoss(LayerLoss):
    """Mean squared difference of the batch's Gram matrices, rows normalised (Tung & Mori 2019)."""

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()

    @torch.no_grad()
    def target(self, teacher_map: Tensor, student_size: tuple[int, int]) -> Tensor:
        """Return the whole map (N, D, H, W), because the batch of an image is not known yet."""
        return teacher_map

    def compare(self, student_map: Tensor, target: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        return F.mse_loss(_similarity(student_map), _similarity(target))


def _similarity(values: Tensor) -> Tensor:
    rows = values.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)


BASELINES: dict[str, Callable[[int, int], LayerLoss]] = {
    "attention-transfer": AttentionTransferLoss,
    "fitnet": FitNetLoss,
    "vid": VIDLoss,
    "vkd": VkDLoss,
    "similarity": SimilarityPreservingLoss,
}
