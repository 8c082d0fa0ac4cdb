"""What a training step costs on a CUDA GPU: SubDistill beside the student alone, in every number format.

    PYTHONPATH=.:cli:deploy:calibration python -m benchmarks.gpu

ResNet-50 teaches MobileNetV4-small ten classes at 224 pixels, a batch of 64. All weights are random and the images are
noise, which changes no time; so nothing is fetched. The batch is on the GPU already: what loading costs is not in it.
Step times are wall time over steps that are queued without waiting; the clock stops when the GPU has done them all.
`--compute cpu --tiny` runs the same code on small networks in seconds, and its figures say nothing.
"""

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import timm
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill import DistillConfig, Teacher, build_student
from edgedistill.compute.accelerator import memory_format, on_device, open_accelerator
from edgedistill.distillation.objective import Guidance, Matching, Objective, match_layers
from edgedistill.distillation.teacher_guidance import TeacherGuidance
from edgedistill.models.libraries.messages import first_line
from edgedistill.networks.layers import capture, maps_and_contexts
from edgedistill.networks.logits import restrict_logits
from edgedistill.networks.modes import evaluating
from edgedistill.subspaces.directions import subspace_from
from edgedistill.subspaces.evidence import evidence
from edgedistill.subspaces.finding import Sampling, gather_moments
from edgedistill.subspaces.moments import MomentAccumulator, Moments
from edgedistill_deploy.images.preprocess import Preprocess

CLASSES = 10
FORMATS = {
    "float32, channels first": DistillConfig(mixed_precision="no", channels_last=False),
    "float32, channels last": DistillConfig(mixed_precision="no", channels_last=True),
    "bfloat16, channels first": DistillConfig(mixed_precision="bf16", channels_last=False),
    "bfloat16, channels last": DistillConfig(mixed_precision="bf16", channels_last=True),
    "bfloat16, channels last, compiled": DistillConfig(
        mixed_precision="bf16", channels_last=True, compile_student=True
    ),
}
MEBIBYTE = 1 << 20
# What torch.compile raises where a compiler is missing or fails.
NO_COMPILER = (RuntimeError, OSError, ImportError, subprocess.SubprocessError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is measured on: networks of timm, the side of the images, the batch, and how often."""

    teacher: str
    student: str
    side: int
    batch: int
    steps: int
    warmup: int
    formats: tuple[str, ...]


FULL = Size(
    teacher="resnet50",
    student="timm:mobilenetv4_conv_small",
    side=224,
    batch=64,
    steps=20,
    warmup=10,
    formats=tuple(FORMATS),
)
TINY = Size(
    teacher="test_resnet",
    student="plain:8-8-8",
    side=32,
    batch=8,
    steps=1,
    warmup=1,
    formats=("float32, channels first", "bfloat16, channels last"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The time of one step in ms, and the most memory that tensors took, in MiB; None where that is not known."""

    milliseconds: float
    mebibytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A teacher and one batch for it: uint8 images (N, H, W, 3), and labels (N,) of the subtask."""

    size: Size
    device: torch.device
    teacher: Teacher
    pixels: Tensor
    labels: Tensor

    def images(self, config: DistillConfig) -> Tensor:
        """Return the batch as both networks take it, (N, 3, H, W)."""
        images: Tensor = self.teacher.normalise().to(self.device)(self.pixels)
        return images.contiguous(memory_format=memory_format(config))

    def student(self) -> nn.Module:
        """Build the student, always with the same weights."""
        return build_student(self.size.student, CLASSES)


def open_bench(size: Size, device: torch.device) -> Bench:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = timm.create_model(size.teacher, pretrained=False).eval()
    teacher = Teacher(
        name=size.teacher,
        model=model.to(device),
        class_names=tuple(map(str, range(1000))),
        preprocess=Preprocess(size=(size.side, size.side)),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (size.batch, size.side, size.side, 3), dtype=torch.uint8, generator=noise)
    labels = torch.randint(0, CLASSES, (size.batch,), generator=noise)
    return Bench(size=size, device=device, teacher=teacher, pixels=pixels.to(device), labels=labels.to(device))


def measure(bench: Bench, step: Callable[[], object]) -> Cost:
    """Time a step, after some to warm up."""
    on_cuda = bench.device.type == "cuda"
    for _ in range(bench.size.warmup):
        step()
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for _ in range(bench.size.steps):
        step()
    if on_cuda:
        torch.cuda.synchronize()
    took = (time.perf_counter() - started) / bench.size.steps
    most = torch.cuda.max_memory_allocated() / MEBIBYTE if on_cuda else None
    return Cost(milliseconds=1000 * took, mebibytes=most)


def find_matching(bench: Bench) -> Matching:
    """Pair the layers, and find their subspaces in the one batch."""
    matching = match_layers(bench.teacher, bench.student(), DistillConfig(), None)
    shapes = {pair.teacher: matching.student_shapes[pair.student] for pair in matching.pairs}
    moments = gather_moments(
        bench.teacher.model,
        tuple(range(CLASSES)),
        [bench.images(DistillConfig(channels_last=False))],
        tuple(shapes),
        Sampling(map_sizes={name: shape[1:] for name, shape in shapes.items()}, positions=None),
    )
    subspaces = {name: subspace_from(moments[name], shape[0], layer=name) for name, shape in shapes.items()}
    return replace(matching, subspaces=subspaces)


@contextmanager
def placed(bench: Bench, config: DistillConfig) -> Iterator[tuple[nn.Module, Accelerator]]:
    """Yield the student on the device in the format of the settings, and what shares that format."""
    student, accelerator = bench.student(), open_accelerator(config)
    with on_device([bench.teacher.model], student, config, accelerator):
        yield student, accelerator


def optimised(
    accelerator: Accelerator, module: nn.Module, loss_of: Callable[[nn.Module], Tensor]
) -> Callable[[], None]:
    """Return a step of the optimiser that `distill` uses."""
    prepared, optimizer = accelerator.prepare(module, torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True))
    prepared.train()

    def step() -> None:
        loss = loss_of(prepared)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
        optimizer.step()

    return step


def cost_alone(bench: Bench, config: DistillConfig) -> Cost:
    """Measure the student alone, trained on labels."""
    with placed(bench, config) as (student, accelerator):
        if config.compile_student:
            student.compile()
        images = bench.images(config)

        def loss_of(network: nn.Module) -> Tensor:
            return F.cross_entropy(network(images).float(), bench.labels)

        # A module around the student, as the objective is in the training: what shares the format is not compiled.
        return measure(bench, optimised(accelerator, nn.Sequential(student), loss_of))


def costs_of_subdistill(bench: Bench, config: DistillConfig, matching: Matching) -> tuple[Cost, Cost]:
    """Measure SubDistill with the teacher asked at every step, and with its answers at hand."""
    layers = [pair.student for pair in matching.pairs]
    with ExitStack() as stack:
        student, accelerator = stack.enter_context(placed(bench, config))
        outputs = stack.enter_context(capture(student, layers))
        stack.enter_context(evaluating(bench.teacher.model))
        if config.compile_student:
            student.compile()
        objective = Objective(student, matching, config, outputs).to(bench.device)
        guidance = TeacherGuidance(
            teacher=bench.teacher,
            class_indices=tuple(range(CLASSES)),
            layers=[pair.teacher for pair in matching.pairs],
            objective=objective,
            normalise=bench.teacher.normalise().to(bench.device),
            accelerator=accelerator,
            temperature=config.temperature,
        )
        images = bench.images(config)

        def loss_under(given: Callable[[], Guidance]) -> Callable[[nn.Module], Tensor]:
            return lambda net: torch.stack(list(net(images, bench.labels, given()).values())).sum()

        live = optimised(accelerator, objective, loss_under(lambda: guidance.ask(images, bench.pixels, bench.labels)))
        known = guidance.ask(images, bench.pixels, bench.labels)
        cached = optimised(accelerator, objective, loss_under(lambda: known))
        return measure(bench, live), measure(bench, cached)


def print_steps(bench: Bench, matching: Matching) -> None:
    print("| number format | what | ms a step | of the student alone | images a second | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    for name in bench.size.formats:
        config = replace(FORMATS[name], compute=bench.device.type, batch_size=bench.size.batch)
        try:
            alone = cost_alone(bench, config)
            live, cached = costs_of_subdistill(bench, config, matching)
        except NO_COMPILER as error:  # the other rows do not need one
            print(f"| {name} | not run: {type(error).__name__}, {first_line(error)[:200]} | | | | |")
            continue
        rows = {"the student alone": alone, "SubDistill, teacher asked": live, "SubDistill, teacher cached": cached}
        for what, cost in rows.items():
            cells = (
                f"{cost.milliseconds:.2f}",
                f"{cost.milliseconds / alone.milliseconds:.2f}",
                f"{1000 * bench.size.batch / cost.milliseconds:.0f}",
                "unknown" if cost.mebibytes is None else f"{cost.mebibytes:.0f}",
            )
            print(f"| {name} | {what} | {' | '.join(cells)} |", flush=True)


def print_moments(bench: Bench, matching: Matching) -> None:
    """Compare sums in single precision with sums in double precision, beside the pass that they are part of."""
    names = [pair.teacher for pair in matching.pairs]
    images = bench.images(DistillConfig(channels_last=False))
    indices = tuple(range(CLASSES))

    def ask() -> dict[str, tuple[Tensor, Tensor]]:
        return maps_and_contexts(
            bench.teacher.model, names, images, lambda logits: evidence(restrict_logits(logits, indices)).sum()
        )

    samples = {name: tuple(_vectors(each) for each in maps) for name, maps in ask().items()}
    costs: dict[str, Cost] = {"the teacher's pass alone": measure(bench, lambda: [None for _ in ask()])}
    found: dict[torch.dtype, dict[str, Moments]] = {}
    for dtype in (torch.float32, torch.float64):
        gathered = {
            name: MomentAccumulator(each[0].shape[1], bench.device, products=dtype) for name, each in samples.items()
        }

        def update(into: dict[str, MomentAccumulator] = gathered) -> None:
            for name, (activation, context) in samples.items():
                into[name].update(activation, context)

        costs[f"moments, {str(dtype).removeprefix('torch.')} products"] = measure(bench, update)
        found[dtype] = {name: each.moments() for name, each in gathered.items()}
    print("\n| subspaces, a batch at 20 positions of each image | ms | of the pass |")
    print("|---|---|---|")
    whole = costs["the teacher's pass alone"].milliseconds
    for what, cost in costs.items():
        print(f"| {what} | {cost.milliseconds:.2f} | {cost.milliseconds / whole:.2f} |")
    print(f"\nlargest difference between the two, of the matrix's norm: {_largest_difference(found):.1e}")


def _vectors(values: Tensor) -> Tensor:
    """Return the vectors of up to 20 positions of each map (N, D, H, W): (n, D)."""
    return values.flatten(2)[:, :, :20].transpose(1, 2).reshape(-1, values.shape[1]).contiguous()


def _largest_difference(found: dict[torch.dtype, dict[str, Moments]]) -> float:
    fields = ("activation_covariance", "context_moment", "cross_moment")
    pairs = [
        (getattr(single, field), getattr(double, field))
        for single, double in zip(found[torch.float32].values(), found[torch.float64].values(), strict=True)
        for field in fields
    ]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def describe(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    return f"{name}, torch {torch.__version__}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--compute", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks: tries the script")
    arguments = parser.parse_args(argv)
    if arguments.compute == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No CUDA GPU is here, and this script measures one; `--compute cpu --tiny` tries the script.")
    size, device = TINY if arguments.tiny else FULL, torch.device(arguments.compute)
    print(f"{size.teacher} teaches {size.student}, {size.side} pixels, a batch of {size.batch}; random weights, noise.")
    print(
        f"On {describe(device)}. The teacher's weights are on the device, and in the memory of every row.\n", flush=True
    )
    bench = open_bench(size, device)
    matching = find_matching(bench)
    print_steps(bench, matching)
    print_moments(bench, matching)


if __name__ == "__main__":
    main()
