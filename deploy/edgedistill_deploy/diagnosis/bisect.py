"""Finds the first node whose result differs between two models, or one model on two runtimes, on one real image.

Only a few values inside both models are read at a time, so that a model larger than the free memory can be searched.
`_corresponding` pairs the values that should be equal, `_first_bad` searches.
"""

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.diagnosis._corresponding import Point, chief_suspect, corresponding_values, module_of
from edgedistill_deploy.diagnosis._first_bad import Method, find_first_bad
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.files.writing import sha256_of_file, write_json
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.onnx_files.graph import Graph, read_graph, write_with_outputs
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import SCHEMA, plain
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session

# Largest relative error, root mean square, of values that agree. Measured on sound models of this project: two fp32
# runs stay below 1e-6, INT8 against fp32 reached 0.23 (13 dB) inside a poorly trained student and 0.1 in good ones,
# INT8 with and without graph optimisation 0.034.
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "int8": 10 ** (-10 / 20)}
SAME_FILE_TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.1}
_NOISE = 1e-6  # root mean square taken for a reference that is all zero
_BLOCK = 8
_LEAP = 5.0  # an error this many times those of the node's inputs is certainly the node's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A model file and its runtime. If not `optimised`, the runtime computes the graph as it is written."""

    path: Path
    precision: str
    runtime: str = "onnxruntime"
    provider: str = "cpu"
    optimised: bool = True

    @property
    def name(self) -> str:
        """The name in messages."""
        how = "" if self.optimised else ", without graph optimisation"
        return f"{self.path.name} on {self.runtime} {self.provider}{how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """One compared value; `error` is relative, infinite if shapes or finiteness differ."""

    value: str
    node: str
    error: float
    agrees: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first value beyond the tolerance.

    `node` computes it. `suspects` are all nodes between it and the compared `inputs`, which agree. `module` is the
    student's, `module_relation` is "of" or "after". `snr_db` is 20 log10 of signal over difference.
    """

    value: str
    node: str
    operator: str
    module: str | None
    module_relation: str | None
    error: float
    snr_db: float | None
    inputs: tuple[MeasuredPoint, ...]
    suspects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectReport:
    """The result of the search, and how it was found; `to_json` is the record."""

    bundle: str
    device: str
    reference: Side
    reference_sha256: str
    candidate: Side
    candidate_sha256: str
    image: int
    tolerance: float
    verdict: Literal["agree", "diverge"]
    first: Divergence | None
    output_error: float
    method: Method
    method_reason: str
    run_count: int
    compared_count: int
    value_count: int
    measured: tuple[MeasuredPoint, ...]
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        if self.first is None:
            return (
                f"No difference was found: all {self.compared_count} values compared agree within {self.tolerance:.3g}."
            )
        where = f"{self.first.operator} {self.first.node}"
        module = f", {self.first.module_relation} module {self.first.module}" if self.first.module else ""
        return (
            f"They differ first at {where}{module}: its result {self.first.value} is off by {self.first.error:.3g} of "
            f"its size where {self.tolerance:.3g} is allowed, while what it reads agrees."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record: kind "bisect", schema 1, plain JSON values without NaN."""
        return {"kind": "bisect", "schema": SCHEMA, **plain(self), "sentence": self.sentence}


def find_divergence(
    bundle: Bundle,
    reference: Side,
    candidate: Side,
    pixels: NDArray[np.uint8],
    *,
    image: int = 0,
    tolerance: float | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> BisectReport:
    """Find the first node whose result differs between two models on `pixels`, one prepared image uint8 (1, H, W, 3).

    Args:
        bundle: names the record.
        reference: the side that is taken as right.
        candidate: the side that is searched.
        pixels: the image for both sides.
        image: the image's number, for the record.
        tolerance: largest relative error; by default it depends on the precisions, see `TOLERANCES`.
        threads: threads of one run.
        progress: counts the runs; their total is not known before the end.

    Raises BundleError if the two have no output in common, and UsageError for an invalid tolerance.
    """
    allowed = _tolerance(reference, candidate) if tolerance is None else _check_tolerance(tolerance)
    graphs = read_graph(reference.path), read_graph(candidate.path)
    points = _points(reference, candidate, *graphs)
    with tempfile.TemporaryDirectory(prefix="edgedistill-bisect-") as folder:
        prober = Prober(
            sides=(reference, candidate),
            graphs=graphs,
            points=points,
            pixels=pixels,
            tolerance=allowed,
            folder=Path(folder),
            threads=threads,
            progress=progress,
        )
        ends = [number for number, point in enumerate(points) if point.value in graphs[1].outputs]
        parents = [point.parents for point in points]
        finding = find_first_bad(parents, ends, prober.look, prober.is_sharp, _BLOCK)
        prober.look(ends)
    first = None if finding.point is None else _divergence(graphs[1], points, finding.point, prober.errors, allowed)
    return BisectReport(
        bundle=bundle.name,
        device=read_device().name,
        reference=reference,
        reference_sha256=sha256_of_file(reference.path),
        candidate=candidate,
        candidate_sha256=sha256_of_file(candidate.path),
        image=image,
        tolerance=allowed,
        verdict="agree" if first is None else "diverge",
        first=first,
        output_error=max(prober.errors[end] for end in ends),
        method=finding.method,
        method_reason=finding.why,
        run_count=prober.run_count,
        compared_count=len(prober.errors),
        value_count=len(points),
        measured=tuple(
            _build_measured_point(points[each], prober.errors[each], allowed) for each in sorted(prober.errors)
        ),
        notes=prober.notes,
    )


def write_bisect(bundle: Bundle, report: BisectReport, folder: Path | None = None) -> Path:
    """Write the record to bisect/REFERENCE-CANDIDATE.json in the bundle, or in another folder; return its path."""
    names = [
        f"{side.path.stem}-{side.runtime}-{side.provider}{'' if side.optimised else '-unoptimised'}"
        for side in (report.reference, report.candidate)
    ]
    root = folder or bundle.path
    path = root / "bisect" / f"{names[0]}-against-{names[1]}.json"
    write_json(path, report.to_json(), inside=root)
    return path


def precision_of(path: Path) -> str:
    """Return the precision that a file without a bundle is compared as: "int8" if it quantises values, else "fp32"."""
    quantises = any(node.operator == "QuantizeLinear" for node in read_graph(path).nodes)
    return "int8" if quantises else "fp32"


def relative_error(expected: NDArray[Any], given: NDArray[Any]) -> float:
    """Return the root mean square of the difference, relative to that of the expected values.

    It is infinite if the shapes differ, or if only one of two numbers is finite. Booleans count as equal, because a
    decision on the edge may differ; the numbers that it depends on are compared themselves.
    """
    if expected.shape != given.shape:
        return math.inf
    if expected.dtype == given.dtype == np.bool_:
        return 0.0
    if expected.dtype.kind not in "fiub" or given.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(expected, given) else math.inf
    wide, other = expected.astype(np.float64), given.astype(np.float64)
    finite = np.isfinite(wide)
    if not np.array_equal(finite, np.isfinite(other)):
        return math.inf
    difference = float(np.linalg.norm(wide[finite] - other[finite]))
    floor = _NOISE * math.sqrt(max(1, wide.size))
    return difference / max(float(np.linalg.norm(wide[finite])), floor)


def _tolerance(reference: Side, candidate: Side) -> float:
    same = sha256_of_file(reference.path) == sha256_of_file(candidate.path)
    known = SAME_FILE_TOLERANCES if same else TOLERANCES
    return max(known[computes_in(side.precision)] for side in (reference, candidate))


def _check_tolerance(tolerance: float) -> float:
    if not 0 < tolerance < math.inf:
        raise UsageError(
            f"The tolerance is {tolerance}; it must be above 0, a relative error such as 0.001 for fp32 or 0.3 for "
            "int8."
        )
    return tolerance


def _points(reference: Side, candidate: Side, ours: Graph, theirs: Graph) -> tuple[Point, ...]:
    points = corresponding_values(ours, theirs)
    if not any(point.value in theirs.outputs for point in points):
        raise BundleError(
            f"{candidate.path.name} and {reference.path.name} have no output in common, so nothing can be compared; "
            "both must be exported from one student."
        )
    return points


@dataclass(slots=True, kw_only=True)
class Prober:
    """Runs both models with some of their inner values as outputs, and keeps the error of each value."""

    sides: tuple[Side, Side]
    graphs: tuple[Graph, Graph]
    points: Sequence[Point]
    pixels: NDArray[np.uint8]
    tolerance: float
    folder: Path
    threads: int | None
    progress: Progress
    errors: dict[int, float] = field(default_factory=dict)
    run_count: int = 0
    hiding: list[str] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        sentence = (
            f"Reading {', '.join(self.hiding[:3])} inside the model made its output agree: a runtime's optimisation "
            "that joins the nodes there is at fault, and the node named may be its neighbour."
        )
        return (sentence,) if self.hiding else ()

    def look(self, numbers: Sequence[int]) -> list[bool]:
        """Say which of these points agree."""
        fresh = [number for number in numbers if number not in self.errors]
        if fresh:
            self._measure(fresh)
        return [self.errors[number] <= self.tolerance for number in numbers]

    def is_sharp(self, number: int) -> bool:
        """Say whether the error of a point is far above those of its parents; all were measured before."""
        before = max((self.errors[each] for each in self.points[number].parents), default=0.0)
        return self.errors[number] >= _LEAP * before

    def _measure(self, numbers: Sequence[int]) -> None:
        asked = [self.points[number] for number in numbers]
        wanted = [[each.reference_value for each in asked], [each.value for each in asked]]
        expected, given = (self._run(*each) for each in zip(self.sides, self.graphs, wanted, strict=True))
        for number, theirs, ours in zip(numbers, *wanted, strict=True):
            self.errors[number] = relative_error(expected[theirs], given[ours])
        self.run_count += 1
        self._notice_vanished(numbers, expected, given)
        self.progress(self.run_count, 0, "runs")

    def _run(self, side: Side, graph: Graph, values: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        with _open_side(side, graph, values, self.folder, self.threads) as session:
            return session.run({graph.inputs[0]: self.pixels})

    def _notice_vanished(
        self, numbers: Sequence[int], expected: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]
    ) -> None:
        """Note a difference of the outputs that disappears when a value inside the model is read."""
        for number, point in enumerate(self.points):
            if point.value in self.graphs[1].outputs and self.errors.get(number, 0.0) > self.tolerance:
                error = relative_error(expected[point.reference_value], given[point.value])
                if error <= self.tolerance:
                    self.hiding.append(self.points[numbers[0]].value)


@contextlib.contextmanager
def _open_side(side: Side, graph: Graph, values: Sequence[str], folder: Path, threads: int | None) -> Iterator[Session]:
    inner = [value for value in dict.fromkeys(values) if value not in graph.outputs]
    path = side.path
    if inner:
        path = folder / side.path.name
        write_with_outputs(side.path, path, inner)
    with open_model(
        path,
        precision=side.precision,
        runtime=side.runtime,
        provider=side.provider,
        threads=threads,
        optimised=side.optimised,
    ) as session:
        yield session


def _build_measured_point(point: Point, error: float, tolerance: float) -> MeasuredPoint:
    return MeasuredPoint(value=point.value, node=point.node.name, error=error, agrees=error <= tolerance)


def _divergence(
    graph: Graph, points: Sequence[Point], number: int, errors: Mapping[int, float], tolerance: float
) -> Divergence:
    point, error = points[number], errors[number]
    node = chief_suspect(point)
    module = module_of(graph, node)
    return Divergence(
        value=point.value,
        node=node.name or node.outputs[0],
        operator=node.operator,
        module=module.name if module else None,
        module_relation=module.relation if module else None,
        error=error,
        snr_db=-20 * math.log10(error) if math.isfinite(error) else None,
        inputs=tuple(_build_measured_point(points[each], errors[each], tolerance) for each in sorted(point.parents)),
        suspects=tuple(each.name or each.outputs[0] for each in point.suspects),
    )
