"""Temporary changes to a model that are always undone."""

import contextlib
from collections.abc import Iterator

from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode for the block, then give every submodule back the mode it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient inside the block, then give each back what it asked for."""
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, requires_grad in asked.items():
            parameter.requires_grad_(requires_grad)


@contextlib.contextmanager
def out_of_place(model: nn.Module) -> Iterator[None]:
    """Let no submodule with the option `inplace`, such as an activation, write over its input inside the block.

    A network that reads such an input again answers differently there.
    """
    changed = [module for module in model.modules() if writes_in_place(module)]
    for module in changed:
        module.inplace = False  # type: ignore[assignment]  # where there is this option, it is one
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]  # as above


def writes_in_place(module: nn.Module) -> bool:
    """Return whether the module has the option `inplace`, and writes over its input."""
    return getattr(module, "inplace", False) is True


def train_with(model: nn.Module, *, frozen_statistics: bool) -> None:
    """Put a model in training mode; if asked, with the running means and variances of batch normalisation as they are.

    Its scales and shifts are trained either way.
    """
    model.train()
    if frozen_statistics:
        for module in model.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
