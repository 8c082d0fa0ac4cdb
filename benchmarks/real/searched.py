"""A shrunk teacher whose widths were searched by validation accuracy, against one with the relevant channels.

    pip install nvidia-modelopt
    python -m benchmarks.real.searched photographs

NVIDIA's FastNAS (Model Optimizer) narrows each layer alone, reads the accuracy on validation images, and takes in all
layers the fewest channels that cost no more than one limit; the limit is where the multiply-adds fit. Here it may have
as many as half of EfficientNet-Lite0's channels by relevance have, and both students are then trained alike: eight
animals, 300 images of 128 pixels, SubDistill with lambda 1. Unlike ours its channels are not only those inside blocks,
and it chooses among them by the size of their weights.

A line a run goes to `benchmarks/results/searched.jsonl`, with the accuracy on validation images and on the test images
that no choice saw; a run that is there is not repeated.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.real.animals import CUT_OUTS
from benchmarks.real.cells import IMAGE_SIZE, SETTINGS
from benchmarks.records import Record, add_line, read_lines
from edgedistill import DistillConfig, distill, load_teacher, open_source, shrink_teacher, split_for_subtask
from edgedistill.comparison.subsets import draw_training_images
from edgedistill.comparison.testing import measure_answers
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.training import true_classes
from edgedistill.models.libraries.found import Found
from edgedistill.models.start import Start, begin_student
from edgedistill.models.teacher import Teacher
from edgedistill.networks.cost import count_cost
from edgedistill.shrinking.shape import ShrunkShape
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.images.sets import ImageSet

RESULTS = Path(__file__).parent.parent / "results" / "searched.jsonl"
CLASSES = tuple(CUT_OUTS)
SHARE = 0.5
EPOCHS = 4
BATCH_SIZE = 32


class PlainNorm(nn.Sequential):
    """Batch normalisation and its activation as two modules, which Model Optimizer knows."""

    def __init__(self, found: nn.BatchNorm2d) -> None:
        norm = nn.BatchNorm2d(found.num_features, found.eps, found.momentum)
        norm.load_state_dict(found.state_dict())
        super().__init__(norm, copy.deepcopy(getattr(found, "act", nn.Identity())))


class PlainConvolution(nn.Sequential):
    """A convolution that pads as TensorFlow does, as zeros and a convolution, for images of one size."""

    def __init__(self, found: nn.Conv2d, size: tuple[int, int]) -> None:
        padding: list[int] = []
        for pixels, kernel, stride in zip(size, found.kernel_size, found.stride, strict=True):
            missing = max((-(-pixels // stride) - 1) * stride + kernel - pixels, 0)
            padding = [missing // 2, missing - missing // 2, *padding]
        plain = nn.Conv2d(
            found.in_channels, found.out_channels, found.kernel_size, found.stride, 0,  # type: ignore[arg-type]
            groups=found.groups, bias=found.bias is not None,
        )  # fmt: skip
        plain.load_state_dict(found.state_dict())
        super().__init__(nn.ZeroPad2d((padding[0], padding[1], padding[2], padding[3])), plain)


def simplify(network: nn.Module) -> nn.Module:
    """Return a copy of a network of timm that computes the same with torch's own layers."""
    plain = copy.deepcopy(network).eval()
    sizes: dict[str, tuple[int, int]] = {}
    for name, module in plain.named_modules():
        if type(module).__name__ == "Conv2dSame":
            module.register_forward_pre_hook(
                lambda _, given, name=name: sizes.update({name: tuple(given[0].shape[2:])})
            )
    image = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.no_grad():
        before = plain(image)
        for name, module in list(plain.named_modules()):
            if type(module).__name__ == "BatchNormAct2d":
                plain.set_submodule(name, PlainNorm(module))
            elif name in sizes:
                plain.set_submodule(name, PlainConvolution(module, sizes[name]))
        plain.eval()
        torch.testing.assert_close(plain(image), before)
    return plain


def take_back(searched: nn.Module, network: nn.Module) -> nn.Module:
    """Return a copy of a network of timm with the fewer channels, and the weights, of its simplified copy."""
    cut = copy.deepcopy(network)
    for name, module in cut.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            continue
        found: Any = searched.get_submodule(name)
        plain: Any = (
            next((each for each in found if isinstance(each, (nn.Conv2d, nn.BatchNorm2d))), None)
            if isinstance(found, nn.Sequential)
            else found
        )
        for attribute in ("in_channels", "out_channels", "groups", "num_features", "in_features"):
            if hasattr(module, attribute):
                setattr(module, attribute, int(getattr(plain, attribute)))
        for key, tensor in (*plain.named_parameters(), *plain.named_buffers()):
            value = tensor.detach().clone()
            setattr(module, key, nn.Parameter(value) if isinstance(tensor, nn.Parameter) else value)
    return cut


def normalised(teacher: Teacher, images: ImageSet) -> list[tuple[Tensor, Tensor]]:
    """Return batches of normalised images and their labels."""
    pixels = np.stack([teacher.preprocess.apply(images.read(index)) for index in range(len(images))])
    inputs = teacher.normalise()(torch.from_numpy(pixels))
    labels = torch.as_tensor(np.asarray(images.labels))
    return list(zip(torch.split(inputs, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True))


def search(teacher: Teacher, images: SubtaskImages, most: float) -> nn.Module:
    """Return the teacher's network with the widths that FastNAS finds; `most` of its multiply-adds."""
    import modelopt.torch.prune

    rows = [index for (index,) in teacher.subtask(CLASSES).members]
    judged, seen = normalised(teacher, images.validation), normalised(teacher, images.train)
    plain = simplify(teacher.model)

    def accuracy(network: nn.Module) -> float:
        with torch.no_grad():
            right = [(network(batch)[:, rows].argmax(1) == labels).sum() for batch, labels in judged]
        return 100 * float(sum(map(int, right))) / len(images.validation)

    found, _ = modelopt.torch.prune.prune(
        plain,
        mode="fastnas",
        constraints={"flops": f"{100 * most:.1f}%"},
        dummy_input=torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE),
        config={
            "data_loader": [batch for batch, _ in seen],
            "collect_func": lambda batch: batch,
            "score_func": accuracy,
            "max_iter_data_loader": len(seen),
        },
    )
    return take_back(found, teacher.model)


def students(teacher: Teacher, images: SubtaskImages, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Yield each student by how its channels were chosen."""
    subtask, size = teacher.subtask(CLASSES), teacher.preprocess.size
    ours = shrink_teacher(teacher, subtask, images.train, SHARE, seed=seed).network
    yield "relevance", ours
    full: Any = teacher.model
    most = count_cost(ours, size).multiply_adds / count_cost(full, size).multiply_adds
    cut = search(teacher, images, most)
    shape = ShrunkShape.between(full, cut, full.pretrained_cfg["architecture"], {}, SHARE, "relevance")
    student = shape.build(len(subtask), size, seed)
    found = Found(
        model=cut, preprocess=teacher.preprocess, mean=teacher.mean, std=teacher.std, labels=teacher.class_names
    )
    begin_student(
        student, Start(weights="the teacher, narrowed by FastNAS", found=found), teacher.aliases(subtask), size
    )
    yield "fastnas", student


def measure(teacher: Teacher, student: nn.Module, images: SubtaskImages, seed: int) -> Record:
    """Train one student, and return what it answers."""
    subtask, size = teacher.subtask(CLASSES), teacher.preprocess.size
    cost, began = count_cost(student, size), time.process_time()
    config = DistillConfig(**{**SETTINGS, "epochs": EPOCHS, "seed": seed, "workers": 0})
    result = distill(teacher, student, subtask, images, config)
    tested = images.evaluation
    answers = measure_answers(result.student, teacher, tested, true_classes(teacher, subtask, tested))
    return {
        **cost.to_json(),
        "validation_accuracy": result.validation_accuracy,
        "test_accuracy": answers["test_accuracy"],
        "test_images": answers["test_images"],
        "cpu_seconds": round(time.process_time() - began),
        "machine": read_device().name,
    }


def main() -> None:
    """Run what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that benchmarks.real.prepare filled")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    teacher = load_teacher(str(given.data / "lite0"), image_size=IMAGE_SIZE)
    whole = split_for_subtask(open_source(str(given.data / "animals")), CLASSES)
    for seed in range(given.seeds):
        run: Record = {"images": given.images, "epochs": EPOCHS, "seed": seed}
        images = SubtaskImages(
            train=draw_training_images(whole.train, given.images, seed), validation=whole.validation, test=whole.test
        )
        done = {each["channels"] for each in read_lines(RESULTS) if run.items() <= each.items()}
        if done >= {"relevance", "fastnas"}:
            continue
        for channels, student in students(teacher, images, seed):
            if channels not in done:
                record = {"channels": channels, **run, **measure(teacher, student, images, seed)}
                add_line(RESULTS, record)


if __name__ == "__main__":
    main()
