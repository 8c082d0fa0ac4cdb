"""Attention-aware gradients (Chefer et al. 2021), for vision transformers whose blocks attend to all tokens."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedistill.explanation.config import ATTENTION, INTEGRATED_GRADIENTS
from edgedistill.explanation.evidence import class_evidence
from edgedistill.networks.logits import ClassIndices
from edgedistill.networks.maps import as_map
from edgedistill_deploy.errors import EdgeDistillError, UsageError


def attention_map(model: nn.Module, images: Tensor, targets: Tensor, classes: ClassIndices | None) -> Tensor:
    """Return how much the answer draws on each patch, enlarged to the image (B, H, W); it is never negative.

    In each block A is the attention (heads, T, T) and dE/dA the gradient of the evidence. The relevance R of the tokens
    for each other begins as the identity, and each block adds mean over heads of max(0, A * dE/dA), times R. The map is
    the row of the token that the head reads, or the mean of the patches' rows where the head reads their mean; there
    the identity is taken out, which would make every patch alike.

    Raises:
        UsageError: the network has no such blocks.
    """
    with _attending(model) as found, torch.enable_grad():
        pixels = images.detach().requires_grad_()
        evidence = class_evidence(model(pixels), targets, classes).sum()
        names, attentions = list(found), list(found.values())
        _check(model, images, attentions)
        slopes = torch.autograd.grad(evidence, attentions)
    itself = torch.eye(attentions[0].shape[-1], device=images.device)
    relevance = itself.expand(len(images), -1, -1)
    for attention, slope in zip(attentions, slopes, strict=True):
        relevance = relevance + (attention.detach() * slope).clamp(min=0).mean(dim=1) @ relevance
    patches = _fold(_row(model, names[0], relevance - itself), model, names[-1])
    return F.interpolate(patches, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


@contextlib.contextmanager
def _attending(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield a dictionary that the next forward pass fills with the attentions (B, heads, T, T), by layer."""
    layers: dict[str, Any] = {name: each for name, each in model.named_modules() if _is_attention(each)}
    found: dict[str, Tensor] = {}
    before = {name: layer.fused_attn for name, layer in layers.items()}
    with contextlib.ExitStack() as hooks:
        try:
            for name, layer in layers.items():
                layer.fused_attn = False
                hooks.enter_context(layer.attn_drop.register_forward_hook(_keep(found, name)))
            yield found
        finally:
            for name, layer in layers.items():
                layer.fused_attn = before[name]


def _is_attention(module: nn.Module) -> bool:
    """Tell whether a module computes attention as timm's do, with the option not to fuse it."""
    return hasattr(module, "fused_attn") and isinstance(getattr(module, "attn_drop", None), nn.Module)


def _keep(found: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        found[name] = output

    return keep


def _check(model: nn.Module, images: Tensor, attentions: list[Tensor]) -> None:
    shapes = {(len(each), each.shape[-2], each.shape[-1]) for each in attentions if each.ndim == 4}
    if len(shapes) != 1 or any(each.ndim != 4 for each in attentions):
        raise _refusal(
            model, "its blocks do not all attend to the same tokens" if attentions else "it has no attention"
        )
    count, rows, columns = shapes.pop()
    if count != len(images) or rows != columns:
        raise _refusal(model, "its blocks attend to windows of the image")


def _refusal(model: nn.Module, reason: str) -> UsageError:
    return UsageError(
        f"The method {ATTENTION} explains plain vision transformers of timm, and {type(model).__name__} is none: "
        f"{reason}. Take --method {INTEGRATED_GRADIENTS}."
    )


def _row(model: nn.Module, layer: str, relevance: Tensor) -> Tensor:
    """Return the relevance of all tokens for what the head reads (B, T)."""
    owner = _owner(model, layer)
    if getattr(owner, "global_pool", "token") == "token":
        read = 2 if hasattr(owner, "head_dist") else 1
        return relevance[:, :read].mean(dim=1)
    return relevance[:, int(getattr(owner, "num_prefix_tokens", 0)) :].mean(dim=1)


def _owner(model: nn.Module, layer: str) -> nn.Module:
    """Return the transformer that a layer is in: the innermost module around it with a patch embedding."""
    owners = [(name, each) for name, each in model.named_modules() if hasattr(each, "patch_embed")]
    around = [(name, each) for name, each in owners if not name or layer.startswith(f"{name}.")]
    return max(around, key=lambda each: len(each[0]))[1] if around else model


def _fold(row: Tensor, model: nn.Module, layer: str) -> Tensor:
    """Fold the relevance of the patches to their grid (B, 1, h, w)."""
    try:
        return as_map(row[:, :, None], model, layer)
    except EdgeDistillError as error:
        raise _refusal(model, "its tokens are no grid of patches") from error
