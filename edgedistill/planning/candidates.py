"""Students that a plan times before any is trained: which ones, and each as a bundle that can be measured.

The weights are random, because the time does not depend on them. But in timm's ResNets the last normalisation of every
block is zero at first, so half of the network is zero and a runtime may leave it out. So such weights become one, and
normalisations take the statistics of noise. Then activations are as large as in a trained network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgedistill.export.bundle import begin_bundle
from edgedistill.export.config import ExportConfig
from edgedistill.export.deployed import Deployed, logits_in_torch
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.student import build_student, check_student_name
from edgedistill.models.student_names import PREFIX, SHRUNK, is_shrunk, shrunk_share, split_width
from edgedistill.models.teacher import Teacher
from edgedistill.networks.cost import ModelCost, count_cost
from edgedistill.shrinking.shrinking import shape_of_shrunk
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import write_golden
from edgedistill_deploy.errors import UsageError

# Small to large. Images must be large enough that the last map has at least LEAST_MAP positions a side.
DEFAULTS = (
    "plain:8-16-32-64", "plain:16-32-64-128", "plain:32-64-128-256",
    "timm:resnet10t@0.125", "timm:resnet10t@0.25", "timm:resnet10t@0.5", "timm:resnet10t",
    "timm:lcnet_035", "timm:lcnet_050", "timm:lcnet_100",
    "timm:mobilenetv3_small_050", "timm:mobilenetv3_small_100",
    "timm:mobilenetv4_conv_small_035", "timm:mobilenetv4_conv_small_050", "timm:mobilenetv4_conv_small",
    "timm:tinynet_e", "timm:efficientnet_lite0", "timm:convnext_atto@0.5", "timm:resnet18",
)  # fmt: skip
LEAST_MAP = 2
_NOISE_COUNT = 16
_GOLDEN_COUNT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A student by its name and the factor on its channels, as `build_student` takes them."""

    name: str
    width: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Candidate":
        """Read NAME or NAME@WIDTH, such as timm:resnet10t@0.25.

        Raises UsageError for an unknown name or a width that is no number above 0 and at most 4.
        """
        check_student_name(text.strip().partition("@")[0])
        name, factor = split_width(text)
        name = name if name.startswith((PREFIX, SHRUNK, "timm:")) else f"timm:{name}"
        if is_shrunk(name) and "@" in text:
            raise UsageError(
                f"A shrunk teacher has its width in its name, such as teacher:0.5, and {text!r} was given; leave out "
                "what follows the @."
            )
        return cls(name=name, width=factor)

    def __str__(self) -> str:
        return self.name if self.width == 1 else f"{self.name}@{self.width:g}"

    def build(self, class_count: int, image_size: tuple[int, int], teacher: Teacher | None = None) -> nn.Module:
        """Create the untrained student, with weights that use every part of it; the teacher may be what it is made of.

        Raises:
            UsageError: a width that the family cannot take, or a teacher that cannot be shrunk.
        """
        if teacher is not None and is_shrunk(self.name):
            student = shape_of_shrunk(teacher, shrunk_share(self.name)).build(class_count, image_size)
        else:
            student = build_student(self.name, class_count, width=self.width, image_size=image_size)
        _enliven(student, image_size)
        return student


def parse_candidates(texts: Sequence[str]) -> tuple[Candidate, ...]:
    """Read names without repeats. Raises UsageError for no name, or for a wrong one."""
    found = tuple(dict.fromkeys(Candidate.parse(text) for text in texts if text.strip()))
    if not found:
        raise UsageError(
            "--students takes names with commas between them, such as timm:resnet10t@0.25,plain:16-32-64-128."
        )
    return found


def default_candidates(image_size: tuple[int, int]) -> tuple[Candidate, ...]:
    """Return the students for images of a size (H, W): those whose last map is more than a point."""
    return tuple(each for each in map(Candidate.parse, DEFAULTS) if _reduction(each) * LEAST_MAP <= min(image_size))


def add_candidate(candidates: Sequence[Candidate], name: str | None) -> tuple[Candidate, ...]:
    """Return the candidates and, if there is a name, the candidate of that name, without repeats."""
    extra = () if name is None else (Candidate.parse(name),)
    return tuple(dict.fromkeys((*candidates, *extra)))


def _reduction(candidate: Candidate) -> int:
    """Return how many pixels a side one position of the last map covers."""
    if candidate.name.startswith(PREFIX):
        return int(2 ** len(candidate.name.removeprefix(PREFIX).split("/")[0].split("-")))
    return 32  # all of timm's above


def _enliven(student: nn.Module, image_size: tuple[int, int]) -> None:
    """Set normalisation weights that are 0 to 1, and give every normalisation the statistics of noise."""
    noise = torch.randn(_NOISE_COUNT, 3, *image_size, generator=torch.Generator().manual_seed(0))
    norms = [module for module in student.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            if norm.affine and not norm.weight.any():
                norm.weight.fill_(1.0)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        student.train()
        student(noise)
        student.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def write_candidate(candidate: Candidate, teacher: Teacher, subtask: Subtask, folder: Path) -> tuple[Bundle, ModelCost]:
    """Write a bundle of an untrained candidate with only what a measurement needs: `model.fp32` and `golden`.

    Raises:
        UsageError: a width that the family cannot take, or a teacher that cannot be shrunk.
        EdgeDistillError: the candidate cannot be exported.
    """
    size = teacher.preprocess.size
    student = candidate.build(len(subtask), size, teacher)
    bundle = begin_bundle(student, teacher, subtask, folder, str(candidate))
    deployed = Deployed(student, teacher.normalise())
    path, metadata = folder / "model.fp32.onnx", {"edgedistill.untrained": str(candidate)}
    write_onnx(deployed, size, path, opset=ExportConfig().written_opset, metadata=metadata)
    pixels = np.random.default_rng(0).integers(0, 256, (_GOLDEN_COUNT, *size, 3), dtype=np.uint8)
    write_golden(folder / "golden.npz", pixels, logits_in_torch(deployed, pixels))
    bundle = bundle.with_file("model.fp32", path).with_file("golden", folder / "golden.npz")
    return bundle, count_cost(student, size)
