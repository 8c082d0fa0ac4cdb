"""Run the command in this process, as a user would type it, and small runs to try it on."""

import contextlib
import functools
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from edgedistill_cli.app import main

# Run in a process of its own. A suite that runs in the background hands an ignored Ctrl-C on to its children; a user's
# terminal does not.
IN_A_PROCESS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " from edgedistill_cli.app import main; main()"
)

EMBEDDED = Path(__file__).resolve().parent.parent / "edgedistill" / "embedded"
# One way to choose ranges, and no node looked at: what calibration does beyond that has tests of its own.
QUICK_CALIBRATION = 'method = "minmax"\nmax_drop = 1.0\nfp16 = false\nledger_nodes = 0\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    code: int
    stdout: str
    stderr: str


def run_command(*argv: str | Path) -> Outcome:
    """Call `edgedistill ARGV...`; a traceback is a failure of the test."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            call_command(*argv)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return Outcome(code=code, stdout=out.getvalue(), stderr=err.getvalue())


def call_command(*argv: str | Path) -> None:
    """Be `edgedistill ARGV...`, which ends by SystemExit."""
    with mock.patch.object(sys, "argv", ["edgedistill", *(str(word) for word in argv)]):
        main()


@functools.cache
def embedded_digits() -> dict[str, NDArray[Any]]:
    """Return the arrays of the embedded digits, unpacked once in each process: that takes most of a second."""
    with np.load(EMBEDDED / "digits.npz") as source:
        arrays = {name: source[name] for name in ("images", "labels", "split", "class_names")}
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def write_tiny_digits(path: Path, classes: str = "0123", counts: tuple[int, int, int] = (40, 15, 20)) -> Path:
    """Cut a few images a class and split out of the embedded digits."""
    source = embedded_digits()
    images, labels, split = source["images"], source["labels"], source["split"]
    names = source["class_names"].tolist()
    chosen = [
        np.flatnonzero((labels == names.index(name)) & (split == part))[:count]
        for name in classes
        for part, count in enumerate(counts)
    ]
    rows = np.sort(np.concatenate(chosen))
    np.savez_compressed(path, images=images[rows], labels=labels[rows], split=split[rows], class_names=np.array(names))
    return path


def write_quick_settings(
    path: Path, data: Path, *, student: str = "timm:resnet10t", opset: int = 20, **distill: object
) -> Path:
    """Write the settings of a run of a few seconds on a cut of the embedded digits.

    The file of opset 17 is written by the one of torch's exporters that takes a tenth of a second instead of some.
    """
    distill = {"epochs": 2, "batch_size": 32, "augment": '"crop"', "compute": '"cpu"', **distill}
    lines = [
        f'[data]\nsource = "npz:{data}"',
        '[teacher]\nname = "embedded:glyphs100"',
        '[subtask]\nclasses = ["0", "1", "2", "3"]',
        f'[student]\nname = "{student}"' + ("\nwidth = 0.125" if student.startswith("timm:") else ""),
        "[distill]\n" + "\n".join(f"{key} = {value}" for key, value in distill.items()),
        f"[export]\nopset = {opset}",
        f"[calibrate]\nimages = 100\n{QUICK_CALIBRATION}",
        "[profile]\nwarmup_s = 0.02\nduration_s = 0.1",
    ]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path
