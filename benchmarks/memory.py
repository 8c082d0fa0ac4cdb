"""Memory of the pass that finds subspaces, against a bare loop over the same images.

    python -m benchmarks.memory --teacher FOLDER --size 224 --batch-size 16

Each way runs in a fresh process, on one thread. It prints the resident peak above the process that holds network and
images, as ratios to a bare loop: forward, and backward to the weights or to the input. Processor seconds are beside
them. A network without a folder has random weights, which take as much memory.
"""

import argparse
import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from edgedistill import load_teacher
from edgedistill.networks.layers import map_shapes
from edgedistill.networks.logits import restrict_logits
from edgedistill.networks.pairing import pair_layers
from edgedistill.subspaces.evidence import evidence
from edgedistill.subspaces.finding import Sampling, gather_moments
from edgedistill_deploy.hardware.memory import begin_memory_peak, read_peak_memory_bytes

CLASSES = tuple(range(8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is measured on: `teacher` is a folder or a name of timm's."""

    teacher: str
    student: str
    size: int
    batch_size: int
    batches: int

    def load(self) -> tuple[nn.Module, list[str], dict[str, tuple[int, int]]]:
        """Return the teacher, its layers and the student's map sizes at them."""
        if Path(self.teacher).is_dir():
            teacher = load_teacher(self.teacher).model
        else:
            teacher = timm.create_model(self.teacher).eval()
        student, size = timm.create_model(self.student, num_classes=len(CLASSES)), (self.size, self.size)
        pairs = pair_layers(teacher, student, size)
        shapes = map_shapes(student, [pair.student for pair in pairs], size)
        return teacher, [pair.teacher for pair in pairs], {each.teacher: shapes[each.student][1:] for each in pairs}


def subspaces(place: Place, batches: list[Tensor]) -> Callable[[], None]:
    teacher, layers, sizes = place.load()

    def work() -> None:
        gather_moments(teacher, CLASSES, batches, layers, Sampling(map_sizes=sizes))

    return work


def bare_to_input(place: Place, batches: list[Tensor]) -> Callable[[], None]:
    teacher, *_ = place.load()
    teacher.requires_grad_(False)

    def work() -> None:
        for batch in batches:
            images = batch.requires_grad_()
            torch.autograd.grad(evidence(restrict_logits(teacher(images), CLASSES)).sum(), images)

    return work


def bare_to_weights(place: Place, batches: list[Tensor]) -> Callable[[], None]:
    teacher, *_ = place.load()

    def work() -> None:
        for batch in batches:
            teacher.zero_grad()
            torch.autograd.backward(evidence(restrict_logits(teacher(batch), CLASSES)).sum())

    return work


WAYS: dict[str, Callable[[Place, list[Tensor]], Callable[[], None]]] = {
    "subspaces": subspaces,
    "bare loop, backward to the weights": bare_to_weights,
    "bare loop, backward to the input": bare_to_input,
}


def measured(place: Place, way: str) -> tuple[float, float]:
    """Return the peak in MB above the loaded process, and processor seconds; runs in a process of its own."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shape = (place.batch_size, 3, place.size, place.size)
    batches = [torch.randn(shape, generator=generator) for _ in range(place.batches)]
    work = WAYS[way](place, batches)
    if not begin_memory_peak():
        print("note: this system cannot count a peak anew, so that of loading is in all figures")
    before, started = read_peak_memory_bytes() or 0, time.process_time()
    work()
    return ((read_peak_memory_bytes() or 0) - before) / 1e6, time.process_time() - started


def in_fresh_process(place: Place, way: str) -> tuple[float, float]:
    """Return what `measured` does; an error, not a wait without end, where the system ends that process for memory."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(measured, place, way).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--teacher", default="resnet50")
    parser.add_argument("--student", default="mobilenetv4_conv_small_050")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=2)
    place = Place(**vars(parser.parse_args()))
    first, *others = WAYS
    print(f"{place.teacher}, {place.size} pixels, {place.batches} batches of {place.batch_size}", flush=True)
    found = {}
    for way in WAYS:
        print(f"{way}: ", end="", flush=True)
        memory, seconds = found[way] = in_fresh_process(place, way)
        print(f"{memory:.0f} MB above the loaded process, {seconds:.1f} processor s", flush=True)
    for way in others:
        memory, seconds = (mine / theirs for mine, theirs in zip(found[first], found[way], strict=True))
        print(f"{first} / {way}: {memory:.2f} times the memory, {seconds:.2f} times the processor time")


if __name__ == "__main__":
    main()
