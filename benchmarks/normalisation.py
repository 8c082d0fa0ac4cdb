"""What the normalisation inside a model file costs: the time of the file beside that of the same without it.

    python -m benchmarks.normalisation RUN [RUN ...]

Of each bundle's `model.fp32.onnx`, the nodes from the uint8 images to the first convolution are left out, and it gets
floats as that convolution reads them. Both take turns on one thread. The ratio bounds what folding could save.
"""

import argparse
import copy
import functools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.alternating import alternate, open_model

ROUNDS = 200
LOW = 20  # the percentile of the times: others are of what else the machine did


def without_normalisation(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph from its first convolution on; its input `image` is float32 (batch, 3, H, W)."""
    cut = copy.deepcopy(model)
    graph = cut.graph
    first = next(node for node in graph.node if node.op_type == "Conv")
    before = reached_back(graph, first.input[0])
    _, height, width, channels = (axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if node.output[0] not in before and (name in before or name == first.input[0]):
                node.input[place] = "image"
    kept = [node for node in graph.node if node.output[0] not in before]
    del graph.node[:], graph.input[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, height, width]))
    return cut


def reached_back(graph: onnx.GraphProto, value: str) -> set[str]:
    """Return the values that a value is made of, itself among them."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [value]
    while waiting:
        name = waiting.pop()
        if name in makers and name not in found:
            found.add(name)
            waiting += makers[name].input
    return found


def compare(path: Path) -> tuple[float, float]:
    """Return the times in ms of the whole file, and of it without normalisation."""
    model = onnx.load(path)
    whole, cut = (open_model(each.SerializeToString()) for each in (model, without_normalisation(model)))
    _, height, width, channels = (axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim)
    pixels = np.random.default_rng(0).integers(0, 256, (1, height, width, channels), dtype=np.uint8)
    floats = np.ascontiguousarray(((pixels / 127.5) - 1).astype(np.float32).transpose(0, 3, 1, 2))
    runs = {
        name: functools.partial(session.run, None, {"image": image})
        for name, session, image in (("whole", whole, pixels), ("cut", cut, floats))
    }
    found = alternate(runs, ROUNDS, LOW)
    return found["whole"], found["cut"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for run in parser.parse_args().runs:
        whole, cut = compare(run / "model.fp32.onnx")
        print(f"{run.name}: {whole:.2f} ms, without normalisation {cut:.2f} ms: {cut / whole:.3f} of it")


if __name__ == "__main__":
    main()
