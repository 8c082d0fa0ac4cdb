"""torch's dynamo exporter makes its table of operators anew for every model, a quarter of its time.

The tests make it once in each process.
"""

import functools
import sys


def keep_operator_tables() -> None:
    """Let this process make each of these tables once, from the first export on; nothing is loaded for it."""
    registration = sys.modules.get("torch.onnx._internal.exporter._registration")
    registry = getattr(registration, "ONNXRegistry", None)
    make = getattr(registry, "from_torchlib", None)
    if make is not None and not hasattr(make, "cache_info"):
        registry.from_torchlib = staticmethod(functools.cache(make))  # type: ignore[union-attr]
