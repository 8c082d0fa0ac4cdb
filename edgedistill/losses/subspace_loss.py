"""Losses between a student and its teacher: in the relevant subspace of a layer, and between logits."""

import abc
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal

from edgedistill.checks import check_choice
from edgedistill.compute.processes import mean_over_processes
from edgedistill.config import ALIGNMENTS, DIRECTION_WEIGHTS, NORMALISATIONS
from edgedistill.losses.polar import polar_factor
from edgedistill.subspaces.directions import Subspace
from edgedistill_deploy.errors import UsageError

MOMENTUM = 0.1
EPSILON = 1e-5
REFRESH_STEPS = 8
# The least variance of a direction, relative to the largest, for its gain; so no gain is too large.
SMALLEST_VARIANCE = 1e-6


class LayerLoss(nn.Module, abc.ABC):
    """The distance of a student's map from a teacher's, in two parts; the teacher's, `target`, can be stored."""

    @abc.abstractmethod
    def target(self, teacher_map: Tensor, student_size: tuple[int, int]) -> Tensor:
        """Return the target of student maps (N, K, H', W') for a teacher's (N, D, H, W): N first, without gradient."""

    @abc.abstractmethod
    def compare(self, student_map: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a student's map (N, K, H', W') against `target` as a scalar."""

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss of student (N, K, H', W') against teacher (N, D, H, W) as a scalar."""
        height, width = student_map.shape[2:]
        return self.compare(student_map, self.target(teacher_map.detach(), (height, width)))


class SubspaceLoss(LayerLoss):
    """Squared distance of the rotated student to the teacher inside a subspace (Chormai et al. 2026, section 4).

    The teacher's side is t = U^T (a - mu). The student's is r = R h', with h' the student's features less their mean
    per channel and R orthogonal (K, K), or with orthonormal rows (D, K) where the student is wider than the teacher.
    The loss is the mean over images and positions of |r - t|^2 / V; r = 0 gives 1 in expectation.

    Args:
        subspace: of the teacher's layer; its rank is the student's width, or the teacher's where that is smaller.
        student_width: K, channels of the student's layer.
        student_normalisation: `center` subtracts the channels' means, as in the paper: the batch's in training, and in
            evaluation a running mean with momentum 0.1. `standardize` also divides by the batch's standard deviations
            in training, as the authors' published code does.
        alignment: `learned` makes R a parameter that stays orthogonal. `procrustes` computes it: the polar factor of
            the running cross-covariance of t and h', refreshed every few steps. With as many student channels as
            directions, no other R has a smaller loss.
        direction_weights: each direction's share of V. `variance` takes t as it is, as the paper does. `equal` and
            `relevance` (not in the paper) scale t_k so that its variance is 1, or K times the direction's share of the
            eigenvalues: the weight of a direction then does not depend on its variance.

    Raises:
        UsageError: an unknown option, or a subspace whose rank does not fit the student's width.
    """

    basis: Tensor
    mean: Tensor
    scale: Tensor
    running_mean: Tensor

    def __init__(
        self,
        subspace: Subspace,
        student_width: int,
        student_normalisation: str = "center",
        alignment: str = "learned",
        direction_weights: str = "variance",
    ) -> None:
        super().__init__()
        check_choice("student_normalisation", student_normalisation, NORMALISATIONS)
        check_choice("alignment", alignment, ALIGNMENTS)
        check_choice("direction_weights", direction_weights, DIRECTION_WEIGHTS)
        width, rank = subspace.basis.shape
        if rank != min(width, student_width):
            raise UsageError(
                f"The subspace of layer {subspace.layer!r} has rank {rank}, and a student of {student_width} channels "
                f"needs {min(width, student_width)}; find the subspaces with the student's widths as ranks."
            )
        self._standardize = student_normalisation == "standardize"
        gains = direction_gains(subspace, direction_weights)
        self.register_buffer("basis", (subspace.basis * gains).float())
        self.register_buffer("mean", subspace.mean.float().view(1, -1, 1, 1))
        self.register_buffer("scale", (subspace.variance * gains.square()).sum().float())
        self.register_buffer("running_mean", torch.zeros(student_width))
        rotations = {"learned": LearnedRotation, "procrustes": ProcrustesRotation}
        self.rotation = rotations[alignment](student_width, rank)

    @torch.no_grad()
    def target(self, teacher_map: Tensor, student_size: tuple[int, int]) -> Tensor:
        """Return t at every position of the smaller map: (N, H'', W'', rank)."""
        pooled = pool_to(teacher_map, smaller_size(teacher_map.shape[2:], student_size))
        return (pooled - self.mean).permute(0, 2, 3, 1) @ self.basis

    def compare(self, student_map: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a student's map (N, K, H', W') against t as a scalar."""
        student = self._normalise(positions_of(pool_to(student_map, target.shape[1:3])))
        target = target.flatten(0, 2)
        return mean_squared_distance(student, self.rotation(student, target), target) / self.scale

    def _normalise(self, student: Tensor) -> Tensor:
        if not self.training:
            return student - self.running_mean
        normalised, mean = normalise_channels(student, self._standardize)
        self.running_mean.lerp_(mean, MOMENTUM)
        return normalised


def direction_gains(subspace: Subspace, direction_weights: str) -> Tensor:
    """Return the factors (rank,) of the directions' targets; a tiny variance counts as `SMALLEST_VARIANCE`."""
    variance = subspace.variance
    if direction_weights == "variance" or subspace.scale == 0:
        return torch.ones_like(variance)
    rank = len(variance)
    shares = torch.full_like(variance, 1 / rank)
    if direction_weights == "relevance":
        relevance = subspace.eigenvalues[:rank].clamp_min(0)
        shares = relevance / relevance.sum() if relevance.sum() > 0 else shares
    return (rank * shares / variance.clamp_min(float(variance.max()) * SMALLEST_VARIANCE)).sqrt()


class LearnedRotation(nn.Module):
    """R (rank, K) as a parameter with orthonormal rows, or columns where rank > K; starts as the identity."""

    def __init__(self, student_width: int, rank: int) -> None:
        super().__init__()
        # Made without random numbers, so that another layer pair does not change the student's initial weights.
        linear = nn.Linear(student_width, rank, bias=False, device="meta").to_empty(device="cpu")
        nn.init.eye_(linear.weight)
        # torch's defaults are matrix_exp, ten times slower (0.9 s a step at K = 512 on one core), and householder,
        # which does not stay orthogonal under weight decay.
        self.linear = orthogonal(linear, orthogonal_map="cayley")

    def forward(self, student: Tensor, target: Tensor) -> Tensor:
        """Return R, which does not depend on the student's vectors (n, K) and the target's (n, rank)."""
        assert isinstance(self.linear.weight, Tensor)
        return self.linear.weight


class ProcrustesRotation(nn.Module):
    """R (rank, K) in closed form from a running cross-covariance: the polar factor of E[t h'^T] (Schoenemann 1966)."""

    cross_covariance: Tensor
    weight: Tensor
    step: Tensor

    def __init__(self, student_width: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("cross_covariance", torch.zeros(rank, student_width))
        self.register_buffer("weight", torch.eye(rank, student_width))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        # The same number on the host, which must not ask a GPU for it at every step.
        self._steps: int | None = 0

    def forward(self, student: Tensor, target: Tensor) -> Tensor:
        """Return R; in training, update it first with the student's vectors (n, K) and the target's (n, rank)."""
        if self.training:
            self._observe(student.detach(), target)
        return self.weight

    @torch.no_grad()
    def _observe(self, student: Tensor, target: Tensor) -> None:
        self.cross_covariance.lerp_(mean_over_processes(target.T @ student / len(student)), MOMENTUM)
        steps = int(self.step) if self._steps is None else self._steps
        # Numbers that are not finite give no rotation; training then stops at the loss, which names the layer.
        if steps % REFRESH_STEPS == 0:
            # A new tensor, because graphs that have not run backward still need the old one.
            self.weight = polar_factor(self.cross_covariance, self.weight)
        self.step += 1
        self._steps = steps + 1

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._steps = None


def normalise_channels(values: Tensor, standardize: bool) -> tuple[Tensor, Tensor]:
    """Centre (and `standardize`) the channels of vectors (n, K) over all processes; return them and the means (K,).

    The means have no gradient. This is batch norm without weights, in fewer passes over memory than autograd takes.
    These passes are most of the cost of a small student's layer terms.
    """
    normalised, mean = _NormalisedChannels.apply(values, standardize)
    return normalised, mean


class _NormalisedChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, standardize: bool) -> tuple[Tensor, Tensor]:
        mean = mean_over_processes(values.mean(0))
        normalised = values - mean
        if standardize:
            inverse = torch.rsqrt(mean_over_processes(normalised.square().mean(0)) + EPSILON)
            normalised *= inverse
            ctx.save_for_backward(normalised, inverse)
        ctx.mark_non_differentiable(mean)
        return normalised, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:
        """The mean and the deviation depend on every vector of all processes."""
        centred = gradient - mean_over_processes(gradient.mean(0))
        if not ctx.saved_tensors:
            return centred, None
        normalised, inverse = ctx.saved_tensors
        along = mean_over_processes((gradient * normalised).mean(0))
        return centred.addcmul_(normalised, along, value=-1).mul_(inverse), None


def mean_squared_distance(student: Tensor, rotation: Tensor, target: Tensor) -> Tensor:
    """Return the mean of |R h' - t|^2 over n vectors h' (n, K) and t (n, rank), R (rank, K); t gets no gradient."""
    distance: Tensor = _MeanSquaredDistance.apply(student, rotation, target)
    return distance


class _MeanSquaredDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, rotation: Tensor, target: Tensor) -> Tensor:
        error = student @ rotation.T
        error -= target
        ctx.save_for_backward(student, rotation, error)
        flat = error.flatten()
        return torch.dot(flat, flat) / len(student)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        student, rotation, error = ctx.saved_tensors
        factor = gradient * (2 / len(student))
        of_rotation = factor * (error.T @ student) if ctx.needs_input_grad[1] else None
        return error @ (factor * rotation), of_rotation, None


def smaller_size(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    """Return the smaller height and the smaller width of two (H, W)."""
    return min(left[0], right[0]), min(left[1], right[1])


def pool_to(values: Tensor, size: Sequence[int]) -> Tensor:
    """Average a map (N, D, H, W) down to `size` (h, w)."""
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return F.adaptive_avg_pool2d(values, (size[0], size[1]))


def positions_of(values: Tensor) -> Tensor:
    """Turn a map (N, D, H, W) into its vectors (N * H * W, D)."""
    return values.permute(0, 2, 3, 1).flatten(0, 2)


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """Return T^2 KL(softmax(z / T) || softmax(y / T)), mean over the batch, of logits (N, C) (Hinton et al. 2015).

    The softmax of a single class is constant, so a constant logit 0 is added: the sigmoid's KL.
    """
    if student_logits.shape[1] == 1:
        student_logits, teacher_logits = F.pad(student_logits, (0, 1)), F.pad(teacher_logits, (0, 1))
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
