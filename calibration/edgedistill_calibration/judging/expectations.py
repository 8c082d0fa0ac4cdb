"""Records what each file gives for the golden inputs, so that every device can tell whether it still gives that."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_calibration.judging.judge import EXPECTATIONS, ImageCount, Images
from edgedistill_calibration.judging.ledger import Logits
from edgedistill_deploy.bundle.expectation import Expectation, expectation_role, inputs_digest, write_expectation
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import FP16_FILES, INT8_FILES, model_role
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session

# The tolerance is this many times the largest spread: another runtime fuses other nodes, so other values at the edge
# between two steps round the other way.
SPREAD_FACTOR = 4.0
# The least tolerance, relative to the largest output. In FP16 a runtime may add in half precision, which ONNX Runtime
# on a CPU does not; in INT8 the nodes left in float may be computed in TF32.
LEAST_TOLERANCES = {"fp16": 5e-2, "int8": 2e-2}

_WRITTEN = (*INT8_FILES, *FP16_FILES)  # the precisions whose files are written here
_THREADS, _OTHER_THREADS = 2, 1
# So many images also run on the other number of threads, and one by one: these change how sums are rounded, which any
# image shows.
_FEW = 4
_BATCH = 8  # a graph as it is written keeps its values in memory


def record_expectations(bundle: Bundle, work: ImageCount) -> Bundle:
    """Write the expectation of each file that calibration made, and drop those of files that are gone.

    A bundle without golden inputs gets none, and neither does a file whose outputs are not finite, which no expectation
    can hold. `work` counts the files.
    """
    work.begin(EXPECTATIONS, len(_WRITTEN))
    inputs = read_golden(bundle.file("golden"))[0] if bundle.has("golden") else None
    for precision in _WRITTEN:
        bundle = _record(bundle, precision, inputs)
        work.advance(1)
    return bundle


def record_expectation(bundle: Bundle, precision: str) -> Bundle:
    """Write the expectation of the file of one precision, or drop it where there is no such file any more."""
    return _record(bundle, precision, read_golden(bundle.file("golden"))[0] if bundle.has("golden") else None)


def _record(bundle: Bundle, precision: str, inputs: Images | None) -> Bundle:
    model = model_role(precision)
    role = expectation_role(model)
    made = None if inputs is None or not bundle.has(model) else _measure(bundle.file(model), precision, inputs)
    return bundle.without_file(role) if made is None else _with_expectation(bundle, role, made)


def _with_expectation(bundle: Bundle, role: str, made: Expectation) -> Bundle:
    path = bundle.path / f"{role}.npz"
    write_expectation(path, made)
    return bundle.with_file(role, path)


def expected_roles(bundle: Bundle) -> list[str]:
    """Return the roles of the expectations that a bundle has."""
    return [role for role in map(expectation_role, map(model_role, _WRITTEN)) if bundle.has(role)]


def _measure(path: Path, precision: str, inputs: Images) -> Expectation | None:
    outputs, spread = None, {}
    for way, rows, given in _run_in_all_ways(path, precision, inputs):
        if outputs is None:
            if not np.isfinite(given).all():
                return None
            outputs = given
        else:
            spread[way] = float(np.abs(given - outputs[rows]).max())
    if outputs is None:
        return None
    least = LEAST_TOLERANCES["fp16" if "fp16" in precision else "int8"] * float(np.abs(outputs).max())
    return Expectation(
        outputs=outputs,
        inputs_sha256=inputs_digest(inputs),
        spread=spread,
        tolerance=max(SPREAD_FACTOR * max(spread.values()), least),
    )


def _run_in_all_ways(path: Path, precision: str, inputs: Images) -> Iterator[tuple[str, NDArray[np.intp], Logits]]:
    """Yield the ways to run a file that all mean the same, which images ran, and their outputs.

    The first is as the graph is written, with all images. Kernels that saturate mean something else.
    """
    every = np.arange(len(inputs))
    few = np.unique(np.linspace(0, len(inputs) - 1, _FEW).astype(np.intp))
    for optimised, threads in itertools.product((False, True), (_THREADS, _OTHER_THREADS)):
        with open_model(path, precision=precision, threads=threads, optimised=optimised) as session:
            if session.int8_kernels == "saturating":
                continue
            way = f"{'fused' if optimised else 'as written'}, {threads} thread{'s' * (threads > 1)}"
            rows = every if threads == _THREADS else few
            yield way, rows, _logits(session, inputs[rows], _BATCH)
            yield f"{way}, one by one", few, _logits(session, inputs[few], 1)


def _logits(session: Session, inputs: Images, batch_size: int) -> Logits:
    return np.concatenate(
        [raw_logits(session, inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)]
    )
