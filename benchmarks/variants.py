"""Which settings of the method learn best on the embedded digits, judged on validation images alone.

    python benchmarks/variants.py --seeds 2

Every run has the demo's student, epochs and learning rate; recorded in `benchmarks/results/variants.jsonl`,
and not run again when it stands there.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from edgedistill import DistillConfig, build_student, distill, load_teacher, open_source, split_for_subtask

RESULTS = Path(__file__).parent / "results" / "variants.jsonl"
DEMO: dict[str, Any] = {"epochs": 12, "learning_rate": 6e-3, "augment": "crop", "compute": "cpu"}
VARIANTS: dict[str, dict[str, Any]] = {
    "logits only": {"lambda_layer": 0.0},
    "center, learned": {"student_normalisation": "center", "alignment": "learned"},
    "center, procrustes": {"student_normalisation": "center"},
    "standardize, procrustes": {},
    "pca, center, procrustes": {"student_normalisation": "center", "method": "pca"},
    "random, center, procrustes": {"student_normalisation": "center", "method": "random"},
}


def run(variant: str, seed: int) -> dict[str, Any]:
    teacher = load_teacher("embedded:glyphs100")
    subtask = teacher.subtask(list("0123456789"))
    images = split_for_subtask(open_source("embedded:digits"), subtask.class_names)
    student = build_student("timm:resnet10t", len(subtask), width=0.1875, seed=seed)
    config = DistillConfig(**{**DEMO, **VARIANTS[variant], "seed": seed})
    result = distill(teacher, student, subtask, images, config)
    return {
        "variant": variant,
        "seed": seed,
        "validation_accuracy": result.validation_accuracy,
        "last_epoch": result.history[-1].validation_accuracy,
        "teacher": result.teacher_validation_accuracy,
        "seconds": sum(record.seconds for record in result.history),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"teacher {100 * rows[0]['teacher']:.2f} %; validation accuracy %, best and last epoch, each seed\n")
    print("| variant | best, mean | best, each | last, each |")
    print("|---|---|---|---|")
    for variant in VARIANTS:
        chosen = sorted((row for row in rows if row["variant"] == variant), key=lambda row: int(row["seed"]))
        if chosen:
            best = [100 * row["validation_accuracy"] for row in chosen]
            last = [100 * row["last_epoch"] for row in chosen]
            each = " ".join(f"{value:.2f}" for value in best)
            print(
                f"| {variant} | {statistics.mean(best):.2f} | {each} | {' '.join(f'{value:.2f}' for value in last)} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []
    for seed in range(arguments.seeds):
        for variant in VARIANTS:
            if not any((row["variant"], row["seed"]) == (variant, seed) for row in rows):
                rows.append(run(variant, seed))
                with RESULTS.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
