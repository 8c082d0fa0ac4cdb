"""Where `readiness` draws its lines: signal to noise that it foresees, against the accuracy that rounding then costs.

    python benchmarks/readiness.py RUN [RUN ...]

Every student of the given run folders is judged with activations and weights of 8 bits and of fewer, which stand for
students that stand 8 bits less well. Then all its layers are rounded at once, over ranges from the same training
images, and it names the test images. Prints a table; records go to `benchmarks/results/readiness.jsonl`.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.data.loader import open_loader
from edgedistill.models.teacher import Teacher
from edgedistill.networks.tensor_calls import WEIGHTED, CallKey, TensorCalls
from edgedistill.quantisation.fake_quantisation import round_weight
from edgedistill.quantisation.readiness import SAMPLES, readiness
from edgedistill_cli.console import Console
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.runs.inputs import load_inputs, read_run_student
from edgedistill_cli.settings_file import read_settings
from edgedistill_deploy.images.sets import ImageSet

RESULTS = Path(__file__).parent / "results" / "readiness.jsonl"
BITS = (8, 7, 6, 5, 4)
Bounds = dict[CallKey, tuple[float, float]]


class Bounding(TensorCalls):
    """Widens the range of every layer's input."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.bounds = bounds

    def after(self, key: CallKey, args: Sequence[Any], result: Any) -> Any:
        """Look at the input of a layer."""
        if key.function in WEIGHTED:
            low, high = self.bounds.get(key, (0.0, 0.0))
            self.bounds[key] = (min(low, float(args[0].min())), max(high, float(args[0].max())))
        return result


class Rounding(TensorCalls):
    """Rounds the input and the weights of every layer."""

    def __init__(self, bounds: Bounds, levels: int) -> None:
        super().__init__()
        self.bounds, self.levels = bounds, levels

    def before(self, key: CallKey, args: Sequence[Any]) -> Sequence[Any]:
        """Round what a layer is called with."""
        if key.function not in WEIGHTED:
            return args
        low, high = self.bounds[key]
        scale = (high - low) / self.levels or 1.0
        zero = round(-low / scale)
        values = torch.fake_quantize_per_tensor_affine(args[0], scale, zero, 0, self.levels)
        return (values, round_weight(args[1], self.levels // 2), *args[2:])


def batches(teacher: Teacher, images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    normalise = teacher.normalise()
    for pixels, labels, _ in open_loader(images, teacher.preprocess, 64):
        yield normalise(pixels), labels


@torch.no_grad()
def accuracies(student: nn.Module, teacher: Teacher, training: ImageSet, test: ImageSet) -> dict[int, float]:
    """Return the share of test images named rightly in float (0) and by number of bits."""
    bounds: Bounds = {}
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(0))
    for images, _ in batches(teacher, training.select(order[:SAMPLES].tolist())):
        with Bounding(bounds):
            student(images)
    right = dict.fromkeys((0, *BITS), 0)
    for images, labels in batches(teacher, test):
        right[0] += int((student(images).argmax(1) == labels).sum())
        for bits in BITS:
            with Rounding(bounds, 2**bits - 1):
                logits = student(images)
            right[bits] += int((logits.argmax(1) == labels).sum())
    return {bits: count / len(test) for bits, count in right.items()}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    run = Run(folder=folder, settings=read_settings(folder / "settings.toml", {}), console=Console(quiet=True))
    given = load_inputs(run)
    student = read_run_student(run, given).eval()
    found = accuracies(student, given.teacher, given.images.train, given.images.evaluation)
    rows = []
    for bits in BITS:
        foreseen = readiness(student, given.teacher, given.images.train, bits=bits)
        rows.append(
            {
                "run": folder.name,
                "student": run.settings.student.name,
                "bits": bits,
                "network_snr_db": foreseen.network_snr_db,
                "worst_layer_snr_db": min(each.output_snr_db for each in foreseen.layers),
                "float_accuracy": found[0],
                "drop": found[0] - found[bits],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    rows = [row for folder in parser.parse_args().runs for row in rows_of(folder)]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print("| student | bits | all layers dB | worst layer dB | accuracy lost, points |")
    print("|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: -float(row["network_snr_db"])):
        print(
            f"| {row['run']} | {row['bits']} | {row['network_snr_db']:.1f} | {row['worst_layer_snr_db']:.1f} |"
            f" {100 * row['drop']:.2f} |"
        )


if __name__ == "__main__":
    main()
