"""A kind of input, and the command as its cases call it."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from command import Outcome, run_command

EXIT_CODES = (0, 1, 2, 3, 4)
OUTSIDE_SHARE = 0.01  # of the commands that run as a process of their own, which starts slowly
_TRACEBACK = "Traceback (most recent call last)"
_LIMIT_S = 50.0


class Left(Exception):  # noqa: N818  # not an error of the product's
    """What a case left behind is wrong; the first line says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of input.

    Attributes:
        weight: its share of the cases, beside the other weights.
        prepare: writes the sound files into a folder, once.
        make: writes a case into its folder, from the folder of sound files.
        examine: hands a case to the product. An exception that is no EdgeDistillError is a finding.
    """

    name: str
    weight: float
    prepare: Callable[[Path], None]
    make: Callable[[Random, Path, Path], None]
    examine: Callable[[Random, Path], None]


def command(random: Random, *argv: str | Path) -> Outcome:
    """Run `edgedistill ARGV...`, mostly in this process. Raises `Left` for an end that the command promises not to
    have."""
    outcome = _run_outside(*argv) if random.random() < OUTSIDE_SHARE else run_command(*argv)
    if outcome.code not in EXIT_CODES:
        raise Left(f"{argv[0]} ends with {outcome.code}\n{outcome.stderr[-2000:]}")
    if _TRACEBACK in outcome.stderr:
        last = outcome.stderr.strip().splitlines()[-1]
        raise Left(f"{argv[0]} shows a traceback: {last[:100]}\n{outcome.stderr[-2000:]}")
    if outcome.code in (1, 2) and not outcome.stderr.strip():
        raise Left(f"{argv[0]} fails without a word")
    return outcome


def _run_outside(*argv: str | Path) -> Outcome:
    words = [sys.executable, "-m", "edgedistill_cli", *map(str, argv)]
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        words, capture_output=True, check=False, timeout=_LIMIT_S, env={**os.environ, "PYTHONPATH": paths}
    )
    texts = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    stdout, stderr = texts
    return Outcome(code=done.returncode, stdout=stdout, stderr=stderr)
