"""torch's dynamo exporter makes its tables of operators anew for every model, a third of its time.

The tests make them once in each process.
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
    # It goes through all operators of torch for each of thirty name spaces, in case a library has added some since.
    operators = sys.modules.get("torch._export.utils")
    look_up = getattr(operators, "_materialize_cpp_cia_ops", None)
    if look_up is not None and not hasattr(look_up, "cache_info"):
        operators._materialize_cpp_cia_ops = functools.cache(look_up)  # type: ignore[union-attr]
