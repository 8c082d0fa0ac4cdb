"""Channel counts that fill a runtime's kernels, which compute several channels at once.

A layer of 20 channels takes as long as one of 24: `python -m benchmarks.channel_counts` shows it on a machine.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edgedistill.models.student_names import is_shrunk
from edgedistill.networks.modes import evaluating
from edgedistill.planning.candidates import Candidate
from edgedistill_deploy.errors import EdgeDistillError, UsageError

# Numbers in float32 that AVX2 holds in a register, and the least that ONNX Runtime lays out together.
LANES = 8
# Less work than this in layers that do not fill the kernels is not worth another candidate.
LEAST_SHARE = 0.1
# Widths are tried in steps of one of ResNet's first 64 channels, and up to half as wide again.
_STEP, _WIDEST = 1 / 64, 1.5

Build = Callable[[Candidate], nn.Module]


def unfilled_share(network: nn.Module, image_size: tuple[int, int]) -> float:
    """Return the share of a network's multiply-adds in convolutions whose output channels are no multiple of `LANES`.

    The network is on the CPU; `image_size` is (H, W).
    """
    work = {True: 0, False: 0}

    def count(layer: Any, _: Any, output: torch.Tensor) -> None:
        work[layer.out_channels % LANES == 0] += output[0].numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, 3, *image_size))
    finally:
        for hook in hooks:
            hook.remove()
    return work[False] / max(1, sum(work.values()))


def find_filled(candidate: Candidate, build: Build, image_size: tuple[int, int]) -> Candidate | None:
    """Return the candidate a little wider, with channels that fill the kernels; None where it has or cannot have them.

    Args:
        candidate: only one whose width is scaled has channels to choose.
        build: makes the network of a candidate; its weights do not matter.
        image_size: (H, W).
    """
    if candidate.width == 1 or is_shrunk(candidate.name):
        return None
    try:
        if unfilled_share(build(candidate), image_size) < LEAST_SHARE:
            return None
        wider = (replace(candidate, width=width) for width in _wider(candidate.width))
        return next((each for each in wider if unfilled_share(build(each), image_size) < LEAST_SHARE), None)
    except (UsageError, EdgeDistillError):  # the plan itself says what is wrong with the candidate
        return None


def _wider(width: float) -> Iterator[float]:
    place = math.floor(width / _STEP) + 1
    while place * _STEP <= width * _WIDEST:
        yield place * _STEP
        place += 1
