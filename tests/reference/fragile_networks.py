"""The fitted network with channels that are far larger than their neighbours: the same in float, and not in INT8."""

from pathlib import Path

from edgedistill_deploy.bundle.folder import Bundle
from reference.fitted_networks import Weights, fitted_weights, write_network
from reference.shape_bundles import empty_bundle

# Each layer with the layers that read what it makes through a ReLU alone.
_READERS = {"inner_1": ("inner_2",), "longer_1": ("longer_2",), "last": ("head",)}


def fragile_weights(*layers: str, factor: float = 1000.0) -> Weights:
    """Return the fitted weights with channel 0 of these layers' outputs `factor` times as large.

    The layer that reads it divides by as much, so the network computes what it did; one scale for all channels of the
    value in between leaves the others no levels.
    """
    weights = {name: (weight.copy(), bias.copy()) for name, (weight, bias) in fitted_weights().items()}
    for layer in layers:
        weight, bias = weights[layer]
        weight[0] *= factor
        bias[0] *= factor
        for reader in _READERS[layer]:
            weights[reader][0][:, 0] /= factor
    return weights


def fragile_bundle(folder: Path, *layers: str) -> Bundle:
    """Make a bundle whose float student has such channels after these layers."""
    bundle = empty_bundle(folder)
    path = write_network(folder / "model.fp32.onnx", weights=fragile_weights(*layers))
    return bundle.with_file("model.fp32", path)
