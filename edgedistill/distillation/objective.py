"""What the student is trained for: the teacher's subtask logits, and the teacher's features at the paired layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.config import DistillConfig
from edgedistill.losses.baselines import BASELINES
from edgedistill.losses.subspace_loss import LayerLoss, SubspaceLoss, distillation_loss
from edgedistill.networks.layers import LayerPair, Shape, as_map
from edgedistill.networks.maps import Output
from edgedistill.subspaces.finding import Subspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """What the teacher says about a batch: subtask logits (N, C), and by teacher layer what `LayerLoss.target` returns."""

    logits: Tensor
    targets: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedShapes:
    """Shapes (D, H, W) of the paired layers' maps, by layer name."""

    teacher: Mapping[str, Shape]
    student: Mapping[str, Shape]


class Objective(nn.Module):
    """The student and everything else that learns, as one module, so that processes can share it.

    Chormai et al. 2026: lambda_kd T^2 KL(teacher || student) + lambda_layer sum_l loss_l + lambda_task cross-entropy; or
    with the layer loss of another method in the place of loss_l.

    Args:
        student: its outputs at the paired layers are read from `outputs`.
        pairs: layers to match.
        shapes: of their maps.
        subspaces: by teacher layer; not needed by other layer losses than `subspace`.
        config: settings.
        outputs: what `edgedistill.networks.layers.capture` yields for the student's layers, open for as long as this is trained.
    """

    def __init__(
        self,
        student: nn.Module,
        pairs: Sequence[LayerPair],
        shapes: PairedShapes,
        subspaces: Mapping[str, Subspace],
        config: DistillConfig,
        outputs: Mapping[str, Output],
    ) -> None:
        super().__init__()
        self.student = student
        self._config = config
        self._pairs = tuple(pairs)
        self._shapes = shapes
        self._outputs = outputs
        # Seeded by itself, so that a regressor's first weights neither hang on nor change anything drawn before.
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.layer_losses = nn.ModuleList(
                _layer_loss(
                    config, shapes.student[pair.student][0], shapes.teacher[pair.teacher][0], subspaces, pair
                )
                for pair in self._pairs
            )

    @torch.no_grad()
    def targets(self, teacher_maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the layer losses need of the teacher's maps {teacher layer: (N, D, H, W)}."""
        return {
            pair.teacher: layer_loss.target(
                teacher_maps[pair.teacher].float(), self._shapes.student[pair.student][1:]
            )
            for pair, layer_loss in self._losses()
        }

    def forward(
        self, images: Tensor, labels: Tensor, guidance: Guidance, layer_weight: float = 1.0
    ) -> dict[str, Tensor]:
        """Return every term, weighted, by name: `kd`, `task` and `layer:NAME`.

        Args:
            images: normalised (N, 3, H, W).
            labels: positions in the subtask (N,).
            guidance: the teacher's, for the same images.
            layer_weight: factor on the layer terms beside lambda_layer.
        """
        logits = self.student(images)
        # The networks may run in half precision; sums of squares may not.
        with torch.autocast(images.device.type, enabled=False):
            return self._terms(logits.float(), labels, guidance, layer_weight)

    def _terms(
        self, logits: Tensor, labels: Tensor, guidance: Guidance, layer_weight: float
    ) -> dict[str, Tensor]:
        config = self._config
        terms: dict[str, Tensor] = {}
        if config.lambda_kd > 0:
            loss = distillation_loss(logits, guidance.logits, config.temperature)
            terms["kd"] = config.lambda_kd * loss
        if config.lambda_task > 0:
            terms["task"] = config.lambda_task * F.cross_entropy(logits, labels)
        for pair, layer_loss in self._losses():
            student_map = as_map(self._outputs[pair.student], self.student, pair.student).float()
            loss = layer_loss.compare(student_map, guidance.targets[pair.teacher])
            terms[f"layer:{pair.teacher}"] = float(config.lambda_layer) * layer_weight * loss
        return terms

    def _losses(self) -> list[tuple[LayerPair, LayerLoss]]:
        losses: list[LayerLoss] = list(self.layer_losses)  # type: ignore[arg-type]  # a ModuleList knows only modules
        return list(zip(self._pairs, losses, strict=True))


def _layer_loss(
    config: DistillConfig,
    student_width: int,
    teacher_width: int,
    subspaces: Mapping[str, Subspace],
    pair: LayerPair,
) -> LayerLoss:
    if config.layer_loss != "subspace":
        return BASELINES[config.layer_loss](student_width, teacher_width)
    return SubspaceLoss(
        subspaces[pair.teacher],
        student_width,
        student_normalisation=config.student_normalisation,
        alignment=config.alignment,
        direction_weights=config.direction_weights,
    )
