"""A name for the weights of a network, which no other weights have."""

import hashlib

from torch import nn


def weights_digest(model: nn.Module) -> str:
    """Return the sha256 of a model's names and tensors, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
