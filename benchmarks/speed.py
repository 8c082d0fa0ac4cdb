"""What SubDistill costs: subspaces in one pass against a pass a layer, and an epoch with and without the teacher's
cache.

    python -m benchmarks.speed --source npz:fashion32.npz --teacher FOLDER --classes
    "T-shirt/top,Pullover,Dress,Coat,Shirt"

Each line is a ratio of two things measured in one run, on one thread, in processes of their own; CPU seconds, and peak
memory above the process that has teacher and images loaded. Recorded in `benchmarks/results/speed.jsonl`.
"""

import argparse
import functools
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgedistill import (
    DistillConfig,
    SubtaskImages,
    Teacher,
    build_student,
    distill,
    find_subspaces,
    load_teacher,
    open_source,
    split_for_subtask,
)
from edgedistill.data.loader import Augmentation, Pass, open_loader
from edgedistill.distillation.events import TrainingProgress
from edgedistill.networks.layers import map_shapes
from edgedistill.networks.logits import ClassIndices, restrict_logits
from edgedistill.networks.pairing import pair_layers
from edgedistill.subspaces.evidence import evidence
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.images.sets import ImageSet

RESULTS = Path(__file__).parent / "results" / "speed.jsonl"
EPOCH_IMAGES, EPOCHS, ROUNDS = 2000, 3, 3
SHOWN = {"alone": "the student alone", "live": "SubDistill, teacher live", "cached": "SubDistill, teacher cached"}
POSITIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is measured on."""

    source: str
    teacher: str
    classes: tuple[str, ...]
    student: str

    def load(self) -> tuple[Teacher, ImageSet, ImageSet]:
        """Return the teacher, training and validation images."""
        teacher = load_teacher(self.teacher)
        images = split_for_subtask(open_source(self.source), self.classes)
        return teacher, images.train, images.validation


def _batches(teacher: Teacher, images: ImageSet) -> Any:
    normalise = teacher.normalise()
    return (normalise(pixels) for pixels, _, _ in open_loader(images, teacher.preprocess, 64))


def _layers(place: Place, teacher: Teacher) -> tuple[list[str], dict[str, tuple[int, int, int]]]:
    student = build_student(place.student, len(place.classes))
    size = teacher.preprocess.size
    pairs = pair_layers(teacher.model, student, size)
    shapes = map_shapes(student, [pair.student for pair in pairs], size)
    return [pair.teacher for pair in pairs], {pair.teacher: shapes[pair.student] for pair in pairs}


def one_pass(place: Place, teacher: Teacher, images: ImageSet) -> None:
    """Find the subspaces as EdgeDistill does."""
    _, shapes = _layers(place, teacher)
    find_subspaces(
        teacher.model,
        teacher.subtask(place.classes).class_indices,
        _batches(teacher, images),
        {name: shape[0] for name, shape in shapes.items()},
        map_sizes={name: shape[1:] for name, shape in shapes.items()},
        positions=POSITIONS,
    )


def a_pass_a_layer(place: Place, teacher: Teacher, images: ImageSet, *, parameters: bool = False) -> None:
    """Find them the obvious way: for each layer a pass, with all samples held until its end.

    With `parameters` the backward pass also computes the gradients of all weights, as the paper's published code does.
    """
    indices = teacher.subtask(place.classes).class_indices
    for parameter in teacher.model.parameters():
        parameter.requires_grad_(parameters)
    for name in _layers(place, teacher)[0]:
        samples = [_held(teacher, name, indices, batch) for batch in _batches(teacher, images)]
        a, c = (torch.cat([pair[side] for pair in samples]) for side in (0, 1))
        a = a - a.mean(0)
        A, G, X = a.T @ a / len(a), c.T @ c / len(a), a.T @ c / len(a)
        s = torch.sqrt(G.trace() / A.trace())
        torch.linalg.eigh(X + X.T + 2 * s * A + (2 / s) * G)


def _held(teacher: Teacher, name: str, indices: ClassIndices, batch: Tensor) -> tuple[Tensor, Tensor]:
    kept: dict[str, Tensor] = {}

    def keep(_: object, __: object, output: Tensor) -> Tensor:
        if output.is_leaf:  # nothing before the first layer asks for a gradient
            output.requires_grad_()
        output.retain_grad()
        kept["map"] = output
        return output.clone()  # what follows may write over it

    hook = teacher.model.get_submodule(name).register_forward_hook(keep)
    try:
        torch.autograd.backward(evidence(restrict_logits(teacher.model(batch), indices)).sum())
    finally:
        hook.remove()
    values = kept["map"]
    gradient = values.grad
    assert gradient is not None
    order = torch.randperm(values[0, 0].numel())[:POSITIONS]
    drawn = [each.detach().flatten(2)[:, :, order].transpose(1, 2).flatten(0, 1) for each in (values, gradient)]
    return drawn[0], drawn[1]


WAYS: dict[str, Callable[[Place, Teacher, ImageSet], None]] = {
    "one pass": one_pass,
    "a pass a layer": a_pass_a_layer,
    "a pass a layer, with the gradients of all weights": functools.partial(a_pass_a_layer, parameters=True),
}


def _measured(place: Place, way: str, count: int) -> tuple[float, float]:
    """Return CPU seconds and peak memory in MB above the loaded process; runs in a process of its own."""
    torch.set_num_threads(1)
    teacher, images, _ = place.load()
    chosen = images.select(range(count))
    WAYS[way](place, teacher, chosen.select(range(64)))  # libraries load and buffers grow once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    WAYS[way](place, teacher, chosen)
    seconds = time.process_time() - started
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _apart(place: Place, way: str, count: int) -> tuple[float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (place, way, count))


def subspace_rows(place: Place, counts: Sequence[int]) -> list[dict[str, str]]:
    first, *others = WAYS
    rows = []
    for count in counts:
        found = {way: _apart(place, way, count) for way in WAYS}
        mine, memory = found[first]
        for way in others:
            theirs, held = found[way]
            rows.append(
                {
                    "what": f"subspaces of four layers, {count} images: {first} / {way}, all samples held",
                    "first": f"{mine:.1f} s, {memory:+.0f} MB",
                    "second": f"{theirs:.1f} s, {held:+.0f} MB",
                    "ratio": f"{theirs / mine:.1f} times faster",
                }
            )
    return rows


def epoch_rows(place: Place) -> list[dict[str, str]]:
    """Compare an epoch of SubDistill, live and cached, with a plain loop on the same student; medians over rounds.

    What comes once a run is not in it: finding the subspaces, filling the cache; nor is validation, which both have.
    """
    torch.set_num_threads(1)
    teacher, images, validation = place.load()
    small = SubtaskImages(train=images.select(range(EPOCH_IMAGES)), validation=validation.select(range(64)), test=None)
    ways: dict[str, Callable[[], float]] = {
        "alone": lambda: plain_epoch(place, teacher, small),
        "live": lambda: distilled_epoch(place, teacher, small, "off"),
        "cached": lambda: distilled_epoch(place, teacher, small, "1"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            seconds[name].append(way())
    found = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "what": f"an epoch of {EPOCH_IMAGES} images, {place.student}: {SHOWN[name]} / {SHOWN[other]}",
            "first": f"{found[name]:.2f} s",
            "second": f"{found[other]:.2f} s",
            "ratio": f"{found[name] / found[other]:.2f}",
        }
        for name, other in (("live", "alone"), ("cached", "alone"), ("cached", "live"))
    ]


def distilled_epoch(place: Place, teacher: Teacher, images: SubtaskImages, cache: str) -> float:
    """Return the CPU seconds of the steps of one epoch, the fastest of a few: without the subspaces, the cache,
    validation."""
    marks: list[float] = []
    spans: list[float] = []

    def watch(at: TrainingProgress) -> None:
        if at.phase == "training" and at.step == 1:
            marks.append(time.process_time())
        if at.phase == "training" and at.step == at.steps:
            spans.append((time.process_time() - marks[-1]) * at.steps / (at.steps - 1))

    config = DistillConfig(
        epochs=EPOCHS, batch_size=32, augment="crop", teacher_cache=cache, compute="cpu", gradient_clip=0.0
    )
    student = build_student(place.student, len(place.classes))
    distill(teacher, student, teacher.subtask(place.classes), images, config, progress=watch)
    return min(spans)


def plain_epoch(place: Place, teacher: Teacher, images: SubtaskImages) -> float:
    """Return the CPU seconds of one epoch of a loop that knows no teacher, the fastest of a few."""
    student = build_student(place.student, len(place.classes)).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, fused=True)
    normalise = teacher.normalise()
    spans = []
    for epoch in range(EPOCHS):
        loader = open_loader(
            images.train,
            teacher.preprocess,
            32,
            Pass(augmentation=Augmentation(name="crop"), epoch=epoch, shuffle=True),
        )
        started = time.process_time()
        for pixels, labels, _ in loader:
            loss = F.cross_entropy(student(normalise(pixels)), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        spans.append(time.process_time() - started)
    return min(spans)


def record(rows: Sequence[dict[str, str]]) -> None:
    """Put rows in the place of those that say the same thing, and leave the others."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    kept = {row["what"]: row for row in map(json.loads, lines)}
    kept.update({row["what"]: {**row, "machine": read_device().name} for row in rows})
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in kept.values()), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--classes", required=True)
    parser.add_argument("--students", default="plain:16-12-8-8,timm:resnet10t")
    parser.add_argument("--counts", default="2000,20000")
    arguments = parser.parse_args()
    students = arguments.students.split(",")
    places = [
        Place(
            source=arguments.source,
            teacher=arguments.teacher,
            classes=tuple(arguments.classes.split(",")),
            student=student,
        )
        for student in students
    ]
    rows = subspace_rows(places[0], [int(each) for each in arguments.counts.split(",") if each])
    for place in places:
        rows.extend(epoch_rows(place))
    record(rows)
    for row in rows:
        print(f"{row['what']}: {row['first']} / {row['second']} = {row['ratio']}")


if __name__ == "__main__":
    main()
