"""Temporary changes to a model that are always undone."""

import contextlib
from collections.abc import Iterator

from torch import nn


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
