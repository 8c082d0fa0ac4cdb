"""How long a convolution takes by its number of channels: which counts fill the kernels of ONNX Runtime.

    python -m benchmarks.channel_counts

Networks of six convolutions with as many channels in as out run on one thread in FP32, and in INT8 as ONNX Runtime's
own quantiser makes it. All take turns in one process. A line for each count gives the time beside that of the next
multiple of 8, and of 16: 1.00 says that the channels up to there cost nothing.
"""

import argparse
import functools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.alternating import alternate, open_model

SIZE, DEPTH = 28, 6  # pixels a side, and convolutions
COUNTS = (12, 16, 20, 24, 28, 32, 36, 40, 48, 52, 56, 60, 64)
ROUNDS = 60
LOW = 20  # the percentile of the times: others are of what else the machine did


def write_network(path: Path, channels: int, kernel: int) -> None:
    """Write convolutions of `kernel` x `kernel`, each followed by a ReLU, and a mean over positions."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for place in range(DEPTH + 1):
        taken, side = (channels, kernel) if place else (3, 3)
        spread = 1 / np.sqrt(taken * side * side)
        made = random.normal(0, spread, (channels, taken, side, side)).astype(np.float32)
        weights.append(numpy_helper.from_array(made, f"w{place}"))
        nodes.append(helper.make_node("Conv", [value, f"w{place}"], [f"c{place}"], pads=[side // 2] * 4))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [f"r{place}"]))
        value = f"r{place}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["y"]))
    graph = helper.make_graph(
        nodes,
        "channels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


class Noise(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime gives it no types
    """A few inputs to calibrate on."""

    def __init__(self) -> None:
        self._left = iter([{"x": noise(seed)} for seed in range(4)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input."""
        return next(self._left, None)


def noise(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


def open_both(channels: int, kernel: int) -> dict[str, Any]:
    """Return the sessions of the network in FP32 and in INT8."""
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        plain, rounded = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        write_network(plain, channels, kernel)
        quantize_static(
            plain,
            rounded,
            Noise(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return {"fp32": open_model(str(plain)), "int8": open_model(str(rounded))}


def measure(kernel: int, counts: Iterable[int]) -> dict[tuple[int, str], float]:
    """Return the time in ms of each count in each precision."""
    sessions = {(count, name): session for count in counts for name, session in open_both(count, kernel).items()}
    feeds = {"x": noise(9)}
    runs = {key: functools.partial(session.run, None, feeds) for key, session in sessions.items()}
    return alternate(runs, ROUNDS, LOW)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print("kernel channels  fp32 ms  of next 8  of next 16   int8 ms  of next 8  of next 16")
    for kernel in (1, 3):
        found = measure(kernel, COUNTS)
        for count in COUNTS:
            cells = []
            for name in ("fp32", "int8"):
                own = found[count, name]
                beside = [found.get((-(-count // step) * step, name)) for step in (8, 16)]
                cells.append(f"{own:8.2f} " + " ".join(f"{own / each:10.2f}" if each else " " * 10 for each in beside))
            print(f"{kernel} x {kernel}  {count:8d} " + " ".join(cells))


if __name__ == "__main__":
    main()
