"""What `validate` says of planted faults and of healthy variants, as a Markdown table.

    PYTHONPATH=tests python -m benchmarks.planted_faults [--only TEXT] [--out FILE]

Exit code 1: a healthy variant was accused.
"""

import argparse
import collections
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.planted_faults import experts
from benchmarks.planted_faults.cases import Case, Sound, faults, healthy
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.records.parity import ParityLimits, ParityReport

LIMIT = 0.03
_SYMPTOMS = ("limits_of_the_input",)  # what follows from a fault, and does not say which one
_EXIT_CODES = {"pass": 0, "fail": 3, "inconclusive": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; `cost` is in points, None where the fault is not in a model."""

    task: str
    case: Case
    cost: float | None
    code: int
    names: tuple[str, ...]

    @property
    def judgement(self) -> str:
        """Say whether the names are right."""
        if not self.names:
            return "none"
        return "right" if set(self.names) <= set(self.case.causes.split()) else "wrong"

    @property
    def is_missed(self) -> bool:
        """Say whether a fault that costs more than the limit did not fail."""
        return not self.case.healthy and self.code not in (1, 3) and (self.cost or 0.0) > 100 * LIMIT

    @property
    def is_accused(self) -> bool:
        """Say whether a healthy variant failed or got a name."""
        return self.case.healthy and (self.code in (1, 3) or bool(self.names))

    def to_markdown(self) -> str:
        """Return the line of the table."""
        cost = "-" if self.cost is None else f"{self.cost:.1f}"
        names = ", ".join(f"`{name}`" for name in self.names) or "-"
        judged = "healthy" if self.case.healthy else self.judgement
        return f"| {self.task} | {self.case.precision} | {self.case.what} | {cost} | {self.code} | {names} | {judged} |"


def names_in(report: ParityReport) -> tuple[str, ...]:
    """Return the causes that a record names: what was diagnosed, and the checks that do not hold."""
    held = [
        *(each.name for each in report.findings.diagnosis),
        *(each.name for each in report.soundness.checks if not each.passed and each.name not in _SYMPTOMS),
    ]
    return tuple(dict.fromkeys(held))


def judge(case: Case, sound: Sound, number: int) -> Row:
    """Plant one case and validate it as the command does."""
    request = ValidationRequest(
        limits=ParityLimits(max_drop=LIMIT, min_agreement=case.least_agreement),
        precisions=(case.precision,),
        threads=case.threads,
    )
    changed = case.make(sound, sound.copy(number))
    try:
        validation = validate_bundle(changed, request)
    except EdgeDistillError as error:
        return Row(task=sound.task.name, case=case, cost=None, code=1, names=(type(error).__name__,))
    [report] = validation.reports
    cost = _cost(report)
    return Row(task=sound.task.name, case=case, cost=cost, code=_EXIT_CODES[validation.verdict], names=names_in(report))


def _cost(report: ParityReport) -> float | None:
    return None if report.accuracy.drop is None else 100 * report.accuracy.drop


def rows_of(sound: Sound, only: str) -> Iterator[Row]:
    """Yield the row of each case, in the order of the table."""
    cases = [*faults(len(sound.task.class_names), in_colour=sound.task.name == "colour"), *healthy()]
    for number, case in enumerate(cases):
        if only in f"{case.precision} {case.what}":
            yield judge(case, sound, number)


def summary_of(rows: Sequence[Row]) -> str:
    """Return the sentence below the table."""
    planted = [row for row in rows if not row.case.healthy]
    counts = collections.Counter(row.judgement for row in planted)
    harmful = [row for row in planted if (row.cost or 0.0) > 100 * LIMIT]
    missed = sum(row.is_missed for row in planted)
    variants = [row for row in rows if row.case.healthy]
    accused = sum(row.is_accused for row in variants)
    return (
        f"{len(planted)} faults: {counts['right']} named rightly, {counts['wrong']} wrongly, {counts['none']} not "
        f"named. {len(harmful) - missed} of the {len(harmful)} that cost more than {100 * LIMIT:.0f} points failed. "
        f"{accused} of {len(variants)} healthy variants were accused."
    )


HEAD = "| task | file | planted | drop, points | exit code | named | |\n|---|---|---|---|---|---|---|"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="cases whose precision and name contain this text")
    parser.add_argument("--task", default="", help="colour or grey; both by default")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(HEAD)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as name:
        for make in (experts.colour_task, experts.grey_task):
            if arguments.task not in make.__name__:
                continue
            folder = Path(name) / make.__name__
            folder.mkdir()
            for row in rows_of(Sound(task=make(folder), folder=folder), arguments.only):
                print(row.to_markdown(), flush=True)
                rows.append(row)
    print(f"\n{summary_of(rows)}")
    return 1 if any(row.is_accused for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
