"""Run the grid, cell by cell; what stands in `benchmarks/results/real` is not run again.

    python -m benchmarks.real.prepare photographs
    python -m benchmarks.real photographs --jobs 2
    python -m benchmarks.real photographs --cell animals-lite0-under-lite2-300
    python -m benchmarks.real photographs --cell animals-lite0-under-lite2-300 --explain

A run that is stopped goes on with the same command. `python -m benchmarks.evidence.results` writes RESULTS.md from the
records.
"""

import argparse
import functools
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.evidence.__main__ import RESULTS, report, without_places
from benchmarks.real.cells import CELLS, LAMBDAS, SEEDS, Cell, find_cell, plan_of
from edgedistill.comparison import comparison_record, run_comparison, write_figure
from edgedistill.explanation.config import ExplainConfig
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_json


def run_cell(cell: Cell, arguments: argparse.Namespace) -> None:
    """Run what is due of a cell, and write its record and its figure."""
    plan = plan_of(
        cell,
        arguments.data,
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        count=arguments.count,
        lambdas=tuple(float(each) for each in arguments.lambdas.split(",")),
    )
    if arguments.explain:
        plan = replace(plan, explain=ExplainConfig(images=arguments.explain_images))
    folder = arguments.out / cell.name
    watch = functools.partial(report, cell.name, time.monotonic())
    record = without_places(comparison_record(run_comparison(plan, folder, jobs=arguments.jobs, progress=watch)))
    write_json(folder / "comparison.json", record)
    write_figure(record, folder / "comparison.svg")
    for failure in record["failures"]:
        print(f"{cell.name}: {failure['method']}, seed {failure['seed']} failed: {failure['error']}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that benchmarks.real.prepare filled")
    parser.add_argument("--cell", action="append", help=f"one of {', '.join(each.name for each in CELLS)}; all in turn")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--lambdas", default=",".join(f"{each:g}" for each in LAMBDAS))
    parser.add_argument("--epochs", type=int, help="instead of the pair's, for a trial")
    parser.add_argument("--count", type=int, help="training images instead of the cell's, for a trial")
    parser.add_argument("--explain", action="store_true", help="compare the students' reasons with the teacher's")
    parser.add_argument("--explain-images", type=int, default=ExplainConfig().images)
    parser.add_argument("--out", type=Path, default=RESULTS / "real")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    try:
        for cell in [find_cell(name) for name in arguments.cell] if arguments.cell else CELLS:
            run_cell(cell, arguments)
    except EdgeDistillError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
