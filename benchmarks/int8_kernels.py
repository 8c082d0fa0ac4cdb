"""What ONNX Runtime's option for exact INT8 changes on this processor: answers and time of one Q/DQ file.

    python benchmarks/int8_kernels.py edgedistill-demo/model.int8.onnx

The answers are compared with the file's own meaning, its graph computed as it is written. The times are of alternating
runs on one thread. Inputs are random over the range of the input's type.
"""

import argparse
from functools import partial
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.alternating import alternate, one_thread, open_model
from edgedistill_deploy.runtimes.int8_kernels import EXACT_OPTION, find_int8_kernels

RUNS = 100


def open_file(path: str, *, exact: bool = False, optimised: bool = True) -> Any:
    """Load the file on one thread."""
    options = one_thread()
    if exact:
        options.add_session_config_entry(*EXACT_OPTION)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return open_model(path, options)


def random_feeds(session: Any, batch_size: int, seed: int = 0) -> dict[str, Any]:
    """Return values for every input; free sizes become the batch size."""
    random = np.random.default_rng(seed)
    feeds = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else batch_size for size in value.shape]
        pixels = random.integers(0, 256, shape)
        is_whole = "uint8" in value.type
        feeds[value.name] = pixels.astype(np.uint8) if is_whole else (pixels / 255).astype(np.float32)
    return feeds


def sqnr_db(meant: np.ndarray, given: np.ndarray) -> float:
    """Return signal over difference in decibels; infinite where there is none."""
    noise = float(np.sum((meant.astype(np.float64) - given) ** 2))
    return float(10 * np.log10(np.sum(meant.astype(np.float64) ** 2) / noise)) if noise else float("inf")


def median_ms(sessions: dict[str, Any], feeds: dict[str, Any]) -> dict[str, float]:
    """Run the sessions in turn and return each one's median time."""
    return alternate({name: partial(each.run, None, feeds) for name, each in sessions.items()}, RUNS, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file")
    path = parser.parse_args().file
    print(f"ONNX Runtime {onnxruntime.__version__}: its INT8 kernels are {find_int8_kernels(onnxruntime)}")
    written = open_file(path, optimised=False)
    feeds = random_feeds(written, batch_size=16)
    meant = written.run(None, feeds)[0]
    sessions = {"without the option": open_file(path), "with it": open_file(path, exact=True)}
    taken = median_ms(sessions, random_feeds(written, batch_size=1))
    for name, session in sessions.items():
        given = session.run(None, feeds)[0]
        print(f"{name}: {sqnr_db(meant, given):.1f} dB of the file's meaning, {taken[name]:.3f} ms")
    print(f"the option takes {taken['with it'] / taken['without the option']:.2f} times the time")


if __name__ == "__main__":
    main()
