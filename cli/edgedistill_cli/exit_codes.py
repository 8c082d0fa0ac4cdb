"""The exit codes of gates, of a student that learnt nothing, and of an interrupted run."""

from collections.abc import Iterable
from typing import Literal

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.statistics.verdicts import Verdict

Outcome = Verdict | Literal["error"]

# Of several codes, the first of these counts: nothing may hide that something could not be judged.
_WORST_FIRST = (2, 1, 3, 4, 0)

_CODES: dict[Outcome, int] = {"pass": 0, "fail": 3, "inconclusive": 4, "error": EdgeDistillError.exit_code}


class InterruptedRunError(EdgeDistillError):
    """The user pressed Ctrl-C; finished results are kept."""

    exit_code = 130


class StudentAtChanceError(EdgeDistillError):
    """The trained student is not better than chance, so the stages after the training would be wasted."""

    exit_code = _CODES["fail"]


def gate_code(outcome: Outcome) -> int:
    """Return the exit code of a gate's verdict; "error" means that the gate could not judge everything."""
    return _CODES[outcome]


def worst_code(codes: Iterable[int]) -> int:
    """Return the exit code of several judgements: wrong usage, a failure, a failed gate, an undecided one, or 0."""
    return min(codes, key=_WORST_FIRST.index)
