"""The verdict of a gate, and that of several together."""

from collections.abc import Iterable
from typing import Literal, get_args

Verdict = Literal["pass", "fail", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def worst_verdict(verdicts: Iterable[str]) -> Verdict:
    """Return "fail" when one failed, "inconclusive" when one is, else "pass"."""
    found = set(verdicts)
    return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"
