"""How long a network takes for a batch at once and in parts, in one run on a processor.

    python -m benchmarks.parts [--model tf_efficientnet_lite2] [--size 224] [--batch-size 64]

`edgedistill.compute.parts` says why. Set THP_MEM_ALLOC_ENABLE=1, as the command line does, to have torch ask Linux for
large pages. Seconds of the system are in brackets.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor

from edgedistill.compute.parts import NUMBERS, answer_in_parts

ROUNDS = 3


def timed(run: Callable[[], Tensor]) -> tuple[float, float]:
    """Return the seconds of a run, and those of the system in it."""
    started, before = time.perf_counter(), os.times().system
    run()
    return time.perf_counter() - started, os.times().system - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    model = timm.create_model(given.model).eval()
    images = torch.randn(given.batch_size, 3, given.size, given.size).contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], Tensor]] = {
        "at once": lambda: model(images),
        "in parts": lambda: answer_in_parts(model, images),
    }
    with torch.no_grad():
        for run in ways.values():
            run()
        rounds = [{name: timed(run) for name, run in ways.items()} for _ in range(ROUNDS)]
    for name in ways:
        whole, system = (statistics.median(each[name][place] for each in rounds) for place in (0, 1))
        print(f"{name}: {1000 * whole / given.batch_size:.1f} ({1000 * system / given.batch_size:.1f}) ms an image")
    ratio = statistics.median(each["in parts"][0] / each["at once"][0] for each in rounds)
    print(f"in parts of {max(1, NUMBERS // images[0].numel())} / at once: {ratio:.2f}")


if __name__ == "__main__":
    main()
