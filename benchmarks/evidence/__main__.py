"""Run the evidence, part by part; what stands in `benchmarks/results` is not run again.

    python -m benchmarks.evidence --glyphs npz:glyphs100.npz --fashion npz:fashion32.npz
    python -m benchmarks.evidence --data cifar100:DIR --teacher timm:NAME     # the paper's superclasses on your own
                                                                              data

`python -m benchmarks.evidence.results` writes RESULTS.md from the records.
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.evidence.parts import AUTO_SUFFIX, SEEDS_SUFFIX, Places, parts
from benchmarks.evidence.tasks import FASHION_TEACHER, IMAGENET, MOBILE_STUDENT, named_tasks
from edgedistill.comparison import (
    METHODS,
    ComparisonPlan,
    ComparisonProgress,
    comparison_record,
    named_methods,
    run_comparison,
    write_figure,
)
from edgedistill.explanation.config import ExplainConfig
from edgedistill.subtasks.named import named_subtasks
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_json, write_text

RESULTS = Path(__file__).parents[1] / "results"
RECORDS = "results.jsonl"


def own_plan(arguments: argparse.Namespace) -> ComparisonPlan:
    """Plan the paper's superclasses on CIFAR-100 or an ImageNet folder."""
    kind = "cifar100" if arguments.data.startswith("cifar100:") else "imagenet"
    known = [each.name for each in named_subtasks() if each.name.startswith(f"{kind}/")]
    if kind == "imagenet":
        known = [f"imagenet/{name}" for name in IMAGENET]
    chosen = tuple(arguments.subtasks.split(",")) if arguments.subtasks else tuple(known)
    settings = {
        "epochs": arguments.epochs,
        "augment": "crop-flip" if kind == "cifar100" else "resized-crop-flip",
        "compute": arguments.compute,
    }
    tasks = named_tasks(arguments.data, arguments.teacher, chosen, arguments.student, settings)
    names = arguments.methods.split(",") if arguments.methods else list(METHODS)
    return ComparisonPlan(
        tasks=tasks,
        methods=named_methods(names),
        sizes=(arguments.train_size or None,),
        seeds=tuple(range(arguments.seeds)),
        lambdas=tuple(float(each) for each in arguments.lambdas.split(",")),
        explain=ExplainConfig() if arguments.explain else None,
    )


def without_places(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a record where data and teachers lay on this machine; their content has its hash in every run's
    key."""
    keys = ("teacher", "source", "student_weights")
    tasks = [{**task, **{key: Path(task[key]).name for key in keys if task.get(key)}} for task in record["tasks"]]
    return {**record, "tasks": tasks}


def start_from(folder: Path) -> None:
    """Give a part that extends another the records that it lacks of the other's; a run's key says what it is."""
    for suffix in (SEEDS_SUFFIX, AUTO_SUFFIX):
        done = folder.with_name(folder.name.removesuffix(suffix)) / RECORDS
        if folder.name.endswith(suffix) and done.is_file():
            own = folder / RECORDS
            known = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
            keys = {json.loads(line)["key"] for line in known}
            more = [
                line for line in done.read_text(encoding="utf-8").splitlines() if json.loads(line)["key"] not in keys
            ]
            write_text(own, "\n".join([*known, *more]) + "\n")


def report(part: str, started: float, at: ComparisonProgress) -> None:
    """Say a line for every training that is done."""
    if at.job is None or at.job.kind != "train" or at.record is None:
        return
    found = at.record.get("validation_accuracy")
    outcome = f"{found:.3f}" if found is not None else f"failed: {at.record.get('error')}"
    print(
        f"{time.monotonic() - started:6.0f} s  {part}  {at.runs}/{at.planned_runs}  {at.job.describe()},"
        f" lambda {at.job.config.lambda_layer:g}: {outcome}",
        flush=True,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", help="a part's name; all by default")
    parser.add_argument("--glyphs", default="npz:glyphs100.npz")
    parser.add_argument("--glyphs-teacher", default="embedded:glyphs100")
    parser.add_argument("--fashion", default="fashion-mnist")
    parser.add_argument("--fashion-teacher", default=FASHION_TEACHER)
    parser.add_argument("--printed", default="npz:printed32.npz")
    parser.add_argument("--printed-digits", default="npz:printed32-digits.npz")
    parser.add_argument("--printed-teacher", default="printed-teacher")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--data", help="cifar100:DIR or an ImageNet folder, instead of the parts")
    parser.add_argument("--teacher", default="")
    parser.add_argument("--student", default=MOBILE_STUDENT)
    parser.add_argument("--subtasks", default="", help="names such as cifar100/flowers,cifar100/people")
    parser.add_argument("--methods", default="", help="names such as subdistill,logits; all by default")
    parser.add_argument("--lambdas", default="0.001,0.01,0.1,1,10,100,1000", help="the paper's grid by default")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--explain", action="store_true", help="compare the students' reasons with the teacher's")
    parser.add_argument("--train-size", type=int, default=0, help="0: all training images")
    parser.add_argument("--compute", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> int:
    try:
        run(_arguments())
    except EdgeDistillError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Run the parts that were asked for, or what is due of all."""
    places = Places(
        glyphs=arguments.glyphs,
        glyphs_teacher=arguments.glyphs_teacher,
        fashion=arguments.fashion,
        fashion_teacher=arguments.fashion_teacher,
        printed=arguments.printed,
        printed_digits=arguments.printed_digits,
        printed_teacher=arguments.printed_teacher,
    )
    known = parts(places)
    plans = {"own": lambda: own_plan(arguments)} if arguments.data else known
    for part in arguments.part or list(plans):
        started = time.monotonic()
        folder = arguments.out / part
        start_from(folder)
        comparison = run_comparison(
            plans[part](), folder, jobs=arguments.jobs, progress=functools.partial(report, part, started)
        )
        record = without_places(comparison_record(comparison))
        write_json(folder / "comparison.json", record)
        write_figure(record, folder / "comparison.svg")


if __name__ == "__main__":
    sys.exit(main())
