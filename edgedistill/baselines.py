"""Layer losses of other methods, with the shape of `SubspaceLoss`: loss(student_map, teacher_map) -> scalar.

All are made from (student_width, teacher_width), take maps (N, K, H', W') and (N, D, H, W), average the larger map down to
the smaller, and leave the teacher without a gradient.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.losses import LearnedRotation, pool_to_smaller

VARIANCE_START = 5.0
SMALLEST_VARIANCE = 1e-5


class AttentionTransferLoss(nn.Module):
    """Distance of attention maps: channels' mean square at each position, normalised per image (Zagoruyko & Komodakis 2017).

    Mean over images and positions of the squared difference; 0 where maps have a single position.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        student, teacher = pool_to_smaller(student_map, teacher_map.detach())
        return F.mse_loss(_attention(student), _attention(teacher))


def _attention(values: Tensor) -> Tensor:
    return F.normalize(values.square().mean(1).flatten(1), dim=1)


class FitNetLoss(nn.Module):
    """Squared error of the teacher's features regressed from the student's by a 1x1 convolution (Romero et al. 2015).

    Summed over channels, mean over images and positions.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(student_width, teacher_width, 1)

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        student, teacher = pool_to_smaller(student_map, teacher_map.detach())
        error: Tensor = self.regressor(student) - teacher
        return error.square().sum(1).mean()


class VIDLoss(nn.Module):
    """Negative log-likelihood of the teacher's features under a Gaussian around a regression from the student's (Ahn et al. 2019).

    Three 1x1 convolutions with ReLU between give the mean; the variance is learned per channel and starts at 5. The constant
    log(2 pi) / 2 is left out.
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
        # The inverse of softplus, so that the first variance is VARIANCE_START.
        start = math.log(math.expm1(VARIANCE_START - SMALLEST_VARIANCE))
        self.log_scale = nn.Parameter(torch.full((teacher_width,), start))

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        student, teacher = pool_to_smaller(student_map, teacher_map.detach())
        variance = (F.softplus(self.log_scale) + SMALLEST_VARIANCE).view(1, -1, 1, 1)
        error: Tensor = self.regressor(student) - teacher
        return 0.5 * (error.square() / variance + variance.log()).mean()


class VkDLoss(nn.Module):
    """Smooth L1 between the orthogonally projected student and the layer-normalised teacher, both averaged over space (Miles et al. 2024)."""

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.projection = LearnedRotation(student_width, teacher_width)

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        teacher = teacher_map.detach().mean((2, 3))
        target = F.layer_norm(teacher, teacher.shape[1:])
        return F.smooth_l1_loss(self.projection(student_map.mean((2, 3)), target), target)


class SimilarityPreservingLoss(nn.Module):
    """Mean squared difference of the batch's Gram matrices, rows normalised (Tung & Mori 2019)."""

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss as a scalar."""
        return F.mse_loss(_similarity(student_map), _similarity(teacher_map.detach()))


def _similarity(values: Tensor) -> Tensor:
    rows = values.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)


BASELINES: dict[str, Callable[[int, int], nn.Module]] = {
    "attention-transfer": AttentionTransferLoss,
    "fitnet": FitNetLoss,
    "vid": VIDLoss,
    "vkd": VkDLoss,
    "similarity": SimilarityPreservingLoss,
}
