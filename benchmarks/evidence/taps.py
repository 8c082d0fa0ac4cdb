"""Where the student is tapped and how it starts: `python -m benchmarks.evidence.taps --fashion npz:...
--fashion-teacher FOLDER`.

Validation accuracy on tops, 500 images, lambda 1; recorded in `benchmarks/results/taps.jsonl`, and not run again when
it stands there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.evidence.tasks import fashion_tasks
from edgedistill import DistillConfig, LayerPair, build_student, distill, load_teacher
from edgedistill.comparison.plan import task_images
from edgedistill.comparison.subsets import draw_training_images
from edgedistill.data.splits import SubtaskImages

RESULTS = Path(__file__).parents[1] / "results" / "taps.jsonl"
SEEDS, IMAGES = (0, 1, 2), 500
STAGES = range(4)
TAPS = {
    "after the activation": "act2",
    "before the activation": "bn2",
    "orthogonal start, after the activation": "act2",
}


def run(tap: str, seed: int, source: str, folder: str) -> dict[str, Any]:
    (task,) = fashion_tasks(source, folder, only=("tops",))
    teacher = load_teacher(task.teacher)
    images = task_images(task, IMAGES)
    drawn = SubtaskImages(
        train=draw_training_images(images.train, IMAGES, seed), validation=images.validation, test=None
    )
    student = build_student(task.student, len(task.classes), seed=seed)
    if tap.startswith("orthogonal"):
        _start_orthogonal(student, seed)
    pairs = [LayerPair(teacher=f"layer{stage + 1}", student=f"stages.{stage}.{TAPS[tap]}") for stage in STAGES]
    config = DistillConfig(**{**task.settings, "seed": seed, "lambda_layer": 1.0})
    result = distill(teacher, student, teacher.subtask(task.classes), drawn, config, pairs=pairs)
    return {"tap": tap, "seed": seed, "validation_accuracy": result.validation_accuracy}


def _start_orthogonal(student: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for module in student.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.orthogonal_(module.weight, generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fashion", required=True)
    parser.add_argument("--fashion-teacher", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    for tap in TAPS:
        for seed in SEEDS:
            if not any((row["tap"], row["seed"]) == (tap, seed) for row in done):
                row = run(tap, seed, arguments.fashion, arguments.fashion_teacher)
                with RESULTS.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
