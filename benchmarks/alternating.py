"""Sessions of ONNX Runtime on one thread, and their times where they take turns in one process."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnxruntime

Key = TypeVar("Key")


def one_thread() -> Any:
    """Return the options of a session on one thread, which says nothing but errors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def open_model(model: str | bytes, options: Any = None) -> Any:
    """Load an ONNX file, or its bytes, on the CPU."""
    return onnxruntime.InferenceSession(model, options or one_thread(), providers=["CPUExecutionProvider"])


def alternate(runs: Mapping[Key, Callable[[], object]], rounds: int, percentile: float) -> dict[Key, float]:
    """Return this percentile of each one's times in ms; a low one leaves out what else the machine did."""
    taken: dict[Key, list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            run()  # the one before has emptied the caches
            began = time.perf_counter()
            run()
            taken[key].append(1000 * (time.perf_counter() - began))
    return {key: float(np.percentile(each, percentile)) for key, each in taken.items()}
