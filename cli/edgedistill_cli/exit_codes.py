"""Ends of a command that are no success: a gate that fails, a run that was interrupted."""

from collections.abc import Sequence

from edgedistill_deploy.errors import EdgeDistillError


class InterruptedRunError(EdgeDistillError):
    """The user pressed Ctrl-C; what was finished stays."""

    exit_code = 130


def gate_code(verdicts: Sequence[str]) -> int:
    """Return the exit code of several verdicts: 3 when one failed, 4 when one is inconclusive, else 0."""
    if "fail" in verdicts:
        return 3
    return 4 if "inconclusive" in verdicts else 0
