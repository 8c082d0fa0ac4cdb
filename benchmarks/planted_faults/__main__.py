"""What `validate` says of planted faults and of healthy variants: the tables of docs/validate.md.

    PYTHONPATH=tests python -m benchmarks.planted_faults [--only TEXT] [--task colour] [--page docs/validate.md]

The tables go to stdout, each case as it is judged to stderr. Exit code 1: a healthy variant was accused.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.planted_faults import experts
from benchmarks.planted_faults.cases import Case, Sound, faults, healthy
from benchmarks.planted_faults.table import BEGIN, END, LIMIT, Row, table_of
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.parity.validation import Validation, ValidationRequest, validate_bundle
from edgedistill_deploy.records.parity import ParityLimits, ParityReport

_SYMPTOMS = ("limits_of_the_input",)  # what follows from a fault, and does not say which one
_EXIT_CODES = {"pass": 0, "fail": 3, "inconclusive": 4}


def names_in(report: ParityReport) -> tuple[str, ...]:
    """Return the causes that a record names: what was diagnosed, and the checks that do not hold."""
    held = [
        *(each.name for each in report.findings.diagnosis),
        *(each.name for each in report.soundness.checks if not each.passed and each.name not in _SYMPTOMS),
    ]
    return tuple(dict.fromkeys(held))


def judge(case: Case, sound: Sound, number: int) -> Row:
    """Plant one case and validate it as the command does."""
    limits = ParityLimits(max_drop=LIMIT, min_agreement=case.least_agreement)
    request = ValidationRequest(limits=limits, precisions=(case.precision,), threads=case.threads)
    try:
        return _row(case, sound, validate_bundle(case.make(sound, sound.copy(number)), request))
    except EdgeDistillError as error:
        return _row(case, sound, error)


def _row(case: Case, sound: Sound, outcome: Validation | EdgeDistillError) -> Row:
    report = None if isinstance(outcome, EdgeDistillError) else outcome.reports[0]
    drop = report.accuracy.drop if report else None
    return Row(
        task=sound.task.name,
        precision=case.precision,
        what=case.what,
        causes=frozenset(case.causes.split()),
        cost=None if drop is None else 100 * drop,
        code=_EXIT_CODES[report.verdict] if report else 1,
        names=names_in(report) if report else (type(outcome).__name__,),
    )


def rows_of(sound: Sound, only: str) -> Iterator[Row]:
    """Yield the row of each case, in the order of the table."""
    cases = [*faults(len(sound.task.class_names), in_colour=sound.task.name == "colour"), *healthy()]
    for number, case in enumerate(cases):
        if only in f"{case.precision} {case.what}":
            yield judge(case, sound, number)


def judge_all(folder: Path, only: str = "", task: str = "") -> Iterator[Row]:
    """Make the bundles in `folder` and yield the row of each case whose precision and name contain `only`."""
    torch.set_num_threads(1)
    for make in (experts.colour_task, experts.grey_task):
        if task in make.__name__:
            place = folder / make.__name__
            place.mkdir()
            yield from rows_of(Sound(task=make(place), folder=place), only)


def write_page(path: Path, table: str) -> None:
    """Put the table between the two markers of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="cases whose precision and name contain this text")
    parser.add_argument("--task", default="", help="colour or grey; both by default")
    parser.add_argument("--page", type=Path, help="a page of documentation that gets the table")
    arguments = parser.parse_args(argv)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as name:
        for row in judge_all(Path(name), arguments.only, arguments.task):
            print(
                f"{row.task} {row.precision} | {row.what} | {row.cell()} | {row.judgement}", file=sys.stderr, flush=True
            )
            rows.append(row)
    print(table_of(rows))
    if arguments.page:
        write_page(arguments.page, table_of(rows))
    return 1 if any(row.is_accused for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
