"""The aim of the training: the teacher's subtask logits, and the teacher's features at the paired layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.checks import check_pairs
from edgedistill.compute.accelerator import own_random_numbers
from edgedistill.config import DistillConfig
from edgedistill.losses.baselines import BASELINES
from edgedistill.losses.subspace_loss import LayerLoss, SubspaceLoss, distillation_loss
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import LayerPair, Shape, as_map, map_shapes
from edgedistill.networks.maps import Output
from edgedistill.networks.pairing import pair_layers
from edgedistill.subspaces.directions import Subspace
from edgedistill_deploy.images.sets import NO_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The teacher's answers to a batch: subtask logits (N, C), and by teacher layer the target of `LayerLoss`."""

    logits: Tensor
    targets: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The layers that a student is matched at.

    The shapes are the (D, H, W) of the maps, by layer name. The subspaces, by teacher layer, are empty for all layer
    losses but `subspace`.
    """

    pairs: tuple[LayerPair, ...]
    teacher_shapes: Mapping[str, Shape]
    student_shapes: Mapping[str, Shape]
    subspaces: Mapping[str, Subspace] = field(default_factory=dict)


def match_layers(
    teacher: Teacher, student: nn.Module, config: DistillConfig, pairs: Sequence[LayerPair] | None
) -> Matching:
    """Pair the layers, unless pairs are given, and measure their maps.

    Raises:
        UsageError: a layer is unknown, or is in two pairs.
    """
    size = teacher.preprocess.size
    chosen = tuple(pairs) if pairs is not None else pair_layers(teacher.model, student, size)
    check_pairs([(pair.teacher, pair.student) for pair in chosen])
    # Without a weight the layers would cost time and change nothing.
    chosen = chosen if config.lambda_layer else ()
    return Matching(
        pairs=chosen,
        teacher_shapes=map_shapes(teacher.model, [pair.teacher for pair in chosen], size),
        student_shapes=map_shapes(student, [pair.student for pair in chosen], size),
    )


class Objective(nn.Module):
    """The student and everything else that learns, as one module, so that processes can share it.

    Chormai et al. 2026: lambda_kd T^2 KL(teacher || student) + lambda_layer sum_l loss_l + lambda_task cross-entropy.
    Another method may give loss_l. `outputs` is what `edgedistill.networks.layers.capture` yields for the student's
    layers; it must stay open during the training.
    """

    def __init__(
        self, student: nn.Module, matching: Matching, config: DistillConfig, outputs: Mapping[str, Output]
    ) -> None:
        super().__init__()
        self.student = student
        self._config = config
        self._matching = matching
        self._outputs = outputs
        # With a seed of its own, so that a regressor's first weights do not depend on other draws, or change them.
        with own_random_numbers(torch.device("cpu"), config.seed):
            self.layer_losses = nn.ModuleList(_layer_loss(config, matching, pair) for pair in matching.pairs)

    @property
    def asks_teacher(self) -> bool:
        """Whether any term needs the teacher's answers; labels alone do not."""
        return self._config.lambda_kd > 0 or bool(self._matching.pairs)

    @torch.no_grad()
    def targets(self, teacher_maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the layer losses need of the teacher's maps {teacher layer: (N, D, H, W)}."""
        return {
            pair.teacher: layer_loss.target(
                teacher_maps[pair.teacher].float(), self._matching.student_shapes[pair.student][1:]
            )
            for pair, layer_loss in self._losses()
        }

    def forward(
        self, images: Tensor, labels: Tensor, guidance: Guidance, layer_weight: float = 1.0
    ) -> dict[str, Tensor]:
        """Return every term, weighted, by name: `kd`, `task` and `layer:NAME`.

        Args:
            images: normalised (N, 3, H, W).
            labels: positions in the subtask (N,), `NO_LABEL` for images without one; or shares of its classes (N, C)
                where images are mixed.
            guidance: of the teacher, for the same images.
            layer_weight: factor on the layer terms, besides lambda_layer.
        """
        logits = self.student(images)
        # The networks may run in half precision; sums of squares may not.
        with torch.autocast(images.device.type, enabled=False):
            return self._terms(logits.float(), labels, guidance, layer_weight)

    def _terms(self, logits: Tensor, labels: Tensor, guidance: Guidance, layer_weight: float) -> dict[str, Tensor]:
        config = self._config
        terms: dict[str, Tensor] = {}
        if config.lambda_kd > 0:
            loss = distillation_loss(logits, guidance.logits, config.temperature)
            terms["kd"] = config.lambda_kd * loss
        if config.lambda_task > 0:
            terms["task"] = config.lambda_task * label_loss(logits, labels)
        for pair, layer_loss in self._losses():
            student_map = as_map(self._outputs[pair.student], self.student, pair.student).float()
            loss = layer_loss.compare(student_map, guidance.targets[pair.teacher])
            terms[f"layer:{pair.teacher}"] = float(config.lambda_layer) * layer_weight * loss
        return terms

    def _losses(self) -> list[tuple[LayerPair, LayerLoss]]:
        losses: list[LayerLoss] = list(self.layer_losses)  # type: ignore[arg-type]  # a ModuleList knows only modules
        return list(zip(self._matching.pairs, losses, strict=True))


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over what has a label; 0 where nothing has.

    Args:
        logits: (N, C).
        labels: positions (N,), `NO_LABEL` for images without one; or shares of the classes (N, C). What a mixed image
            has of images without a label is in no class, so its shares add up to less than 1.
    """
    if labels.dim() > 1:
        return -(labels * F.log_softmax(logits, dim=1)).sum() / labels.sum().clamp(min=1e-6)
    labelled = (labels != NO_LABEL).sum().clamp(min=1)
    total: Tensor = F.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
    return total / labelled


def _layer_loss(config: DistillConfig, matching: Matching, pair: LayerPair) -> LayerLoss:
    student_width = matching.student_shapes[pair.student][0]
    if config.layer_loss != "subspace":
        return BASELINES[config.layer_loss](student_width, matching.teacher_shapes[pair.teacher][0])
    return SubspaceLoss(
        matching.subspaces[pair.teacher],
        student_width,
        student_normalisation=config.student_normalisation,
        alignment=config.alignment,
        direction_weights=config.direction_weights,
    )
