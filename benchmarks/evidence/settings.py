"""Settings judged on validation images that no comparison uses, before anything is compared on test images.

    python -m benchmarks.evidence.settings --fashion npz:fashion32.npz --task footwear --images 2000 lambda_layer=1
    epochs=20

trains students on Fashion-MNIST as the comparisons do, epochs chosen on their 500 validation images, and asks the kept
students about 3000 further images of the training split; `--pairs 1,2` matches the first two of the automatic pairs
alone. Every run is a line of `benchmarks/results/settings.jsonl`; one that stands there is not done again.
"""

import argparse
import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.tasks import FASHION_STUDENT, FASHION_TEACHER, fashion_tasks
from edgedistill import DistillConfig, build_student, distill, load_teacher
from edgedistill.comparison import METHODS
from edgedistill.comparison.plan import Task, task_images
from edgedistill.comparison.subsets import balance_order, draw_training_images
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.training import predict_classes
from edgedistill.models.teacher import Teacher
from edgedistill.networks.pairing import pair_layers
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.hardware.device import read_device

RESULTS = Path(__file__).parents[1] / "results" / "settings.jsonl"
CHOOSING, JUDGING = 500, 3000
# As in the comparisons; `epochs=N` among the settings says otherwise.
EPOCHS, EPOCHS_AT_500 = 20, 30


def judged_run(
    task: Task, teacher: Teacher, method: str, count: int, seed: int, settings: dict[str, Any], only: Sequence[int]
) -> dict[str, Any]:
    """Train a student, with all pairs or `only` some; return its accuracy on the images that choose its epoch and on
    further ones."""
    images = task_images(task, None)
    # The comparisons take the first of this order.
    order = balance_order(images.validation, f"validation|{task.split_seed}")
    choosing, judging = (
        images.validation.select(sorted(part)) for part in (order[:CHOOSING], order[CHOOSING : CHOOSING + JUDGING])
    )
    student = build_student(task.student, len(task.classes), image_size=teacher.preprocess.size, seed=seed)
    config = DistillConfig(**{**task.settings, **METHODS[method], **settings, "seed": seed})
    drawn = SubtaskImages(train=draw_training_images(images.train, count, seed), validation=choosing, test=None)
    known = dict(enumerate(pair_layers(teacher.model, student, teacher.preprocess.size), start=1))
    if not set(only) <= known.keys():
        raise UsageError(f"--pairs takes numbers from 1 to {len(known)}, and {list(only)} were given.")
    pairs = [known[number] for number in only] or None
    result = distill(teacher, student, teacher.subtask(task.classes), drawn, config, pairs=pairs)
    found = predict_classes(result.student, teacher, judging)
    return {
        "chosen_by": result.validation_accuracy,
        "accuracy": float((found == judging.labels).mean()),
        "stuck": len(task.classes) - len(set(found.tolist())),
        "best_epoch": result.best_epoch,
    }


def given_settings(texts: list[str]) -> dict[str, Any]:
    """Read `key=value` words; a value that is no Python literal is text."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"A setting is written key=value, and {text!r} was given.")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", required=True)
    parser.add_argument("--fashion-teacher", default=FASHION_TEACHER)
    parser.add_argument("--task", default="footwear")
    parser.add_argument("--student", default=FASHION_STUDENT)
    parser.add_argument("--method", default="subdistill")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--pairs", default="", help="numbers such as 1,2, from shallow to deep; all by default")
    parser.add_argument("settings", nargs="*", help="key=value of DistillConfig")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (task,) = fashion_tasks(
        arguments.fashion,
        arguments.fashion_teacher,
        only=(arguments.task,),
        student=arguments.student,
        epochs=EPOCHS_AT_500 if arguments.images == 500 else EPOCHS,
    )
    teacher = load_teacher(task.teacher)
    settings = given_settings(arguments.settings)
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    done = [{"pairs": "", **json.loads(line)} for line in lines]
    only = [int(each) for each in arguments.pairs.split(",") if each]
    for seed in map(int, arguments.seeds.split(",")):
        named = {
            "task": arguments.task,
            "student": arguments.student,
            "method": arguments.method,
            "images": arguments.images,
            "settings": settings,
            "seed": seed,
            "pairs": arguments.pairs,
        }
        if any(named.items() <= row.items() for row in done):
            continue
        outcome = judged_run(task, teacher, arguments.method, arguments.images, seed, settings, only)
        row = {**named, **outcome, "machine": read_device().name}
        with RESULTS.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
