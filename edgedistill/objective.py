"""What the student is trained for: the teacher's subtask logits, and the teacher's features inside the subspaces."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.config import DistillConfig
from edgedistill.layers import LayerPair, as_map, capture
from edgedistill.losses import SubspaceLoss, distillation_loss
from edgedistill.subspace import Subspace


class Objective(nn.Module):
    """The student and everything else that learns, as one module, so that processes can share it.

    Chormai et al. 2026: lambda_kd T^2 KL(teacher || student) + lambda_layer sum_l loss_l + lambda_task cross-entropy.
    """

    def __init__(
        self,
        student: nn.Module,
        pairs: Sequence[LayerPair],
        subspaces: Mapping[str, Subspace],
        widths: Mapping[str, int],
        config: DistillConfig,
    ) -> None:
        super().__init__()
        self.student = student
        self._config = config
        # Without a weight the layers cost time and change nothing, so they are not tapped at all.
        self._pairs = tuple(pairs) if config.lambda_layer > 0 else ()
        self.layer_losses = nn.ModuleList(
            SubspaceLoss(
                subspaces[pair.teacher],
                widths[pair.student],
                student_normalisation=config.student_normalisation,
                alignment=config.alignment,
            )
            for pair in self._pairs
        )

    @property
    def teacher_layers(self) -> tuple[str, ...]:
        """Names of the teacher layers whose maps `forward` wants."""
        return tuple(pair.teacher for pair in self._pairs)

    def forward(
        self, images: Tensor, labels: Tensor, teacher_logits: Tensor, teacher_maps: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return every term, weighted, by name: `kd`, `task` and `layer:NAME`.

        Args:
            images: normalised (N, 3, H, W).
            labels: positions in the subtask (N,).
            teacher_logits: (N, C), restricted to the subtask.
            teacher_maps: {teacher layer: (N, D, H, W)}.
        """
        config = self._config
        with capture(self.student, [pair.student for pair in self._pairs]) as outputs:
            logits = self.student(images)
        terms: dict[str, Tensor] = {}
        if config.lambda_kd > 0:
            terms["kd"] = config.lambda_kd * distillation_loss(logits, teacher_logits, config.temperature)
        if config.lambda_task > 0:
            terms["task"] = config.lambda_task * F.cross_entropy(logits, labels)
        for pair, layer_loss in zip(self._pairs, self.layer_losses, strict=True):
            student_map = as_map(outputs[pair.student], self.student, pair.student)
            terms[f"layer:{pair.teacher}"] = config.lambda_layer * layer_loss(
                student_map, teacher_maps[pair.teacher]
            )
        return terms
