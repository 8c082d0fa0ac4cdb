"""A file against the other files of its bundle: all hold the weights of one expert, each in its precision.

Weights that differ by more than rounding show a damaged file, or one of another expert. The scales and zero points of
an INT8 file must be those of the recorded ranges.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import EXPERT_FILES, computes_in, model_role
from edgedistill_deploy.diagnosis._judged_model import JudgedModel
from edgedistill_deploy.diagnosis._recorded_outputs import reproduces_recorded
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.onnx_files.content import read_weights
from edgedistill_deploy.onnx_files.graph import Node, read_graph
from edgedistill_deploy.records.parity import Diagnosis

Weights = dict[str, NDArray[Any]]

# Root mean square of the difference, relative to the weight: INT8 by channel rounds by 0.01, and by 0.03 with outliers.
_ROUNDING = 0.08
_MANY = 0.5  # share of the weights that differ in a file of another expert
_RANGE = 0.1  # share of a range by which its ends may miss the recorded ones
_SUFFIXES = ("_DequantizeLinear_Output", "_float16", "_QuantizeLinear_Input", "_quantized")
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_TRIVIAL = ("Constant", "Identity", "Cast", "Reshape", *_QUANTISERS)  # a quantised file may have more of them
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Strayed:
    """An INT8 range of the file, and the recorded one that it should be."""

    value: str
    given: tuple[float, float]
    recorded: tuple[float, float]


def find_foreign_weights(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the weights that differ from those of a sibling which gives the recorded logits."""
    sibling = _find_sibling(judged)
    if sibling is None:
        return
    path = judged.bundle.file(model_role(sibling))
    try:
        different, count = compare_weights(judged.session.model_path, path)
    except EdgeDistillError:
        return
    if not different:
        return
    file, listed = judged.session.model_path.name, ", ".join(list(different)[:_SHOWN])
    evidence = {"sibling": path.name, "weights": count, "relative_errors": dict(list(different.items())[:10])}
    if len(different) >= _MANY * count:
        detail = (
            f"{file} is not the expert of this bundle: {len(different)} of its {count} weights differ from those of "
            f"{path.name} by more than rounding. Register the file that was made with the others."
        )
        yield Diagnosis(name="not_this_model", detail=detail, evidence=evidence)
    else:
        detail = (
            f"The weight {listed} of {file} is damaged: it differs from that of {path.name} by more than rounding. "
            "Export or calibrate again."
        )
        yield Diagnosis(name="damaged_weight", detail=detail, evidence=evidence)


def compare_weights(path: Path, other: Path) -> tuple[dict[str, float], int]:
    """Return the relative error of each weight beyond rounding, the worst first, and the number compared.

    Weights are compared by name, and INT8 ones as the numbers that they stand for. Raises EdgeDistillError when a file
    is no ONNX model.
    """
    ours, theirs = _named_weights(path, other), _named_weights(other, path)
    common = [name for name in ours if name in theirs and theirs[name].size > 1]
    errors = {name: _difference(ours[name], theirs[name]) for name in common}
    worst = sorted(errors.items(), key=lambda item: -item[1])
    return {name: error for name, error in worst if error > _ROUNDING}, len(common)


def find_damaged_scales(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the activations whose scale or zero point is not that of the recorded ranges."""
    if computes_in(judged.session.precision) != "int8" or not judged.bundle.has("ranges"):
        return
    try:
        strayed, count = _find_strayed(judged.session.model_path, judged.bundle.file("ranges"))
    except (EdgeDistillError, ValueError, KeyError, TypeError, AttributeError):
        return  # a record or a file that cannot be read is no evidence
    if strayed:
        worst = strayed[0]
        detail = (
            f"{len(strayed)} of {count} scales or zero points of {judged.session.model_path.name} are not those of the "
            f"calibration: {worst.value} reaches from {worst.given[0]:.3g} to {worst.given[1]:.3g} in the file, and "
            f"{worst.recorded[0]:.3g} to {worst.recorded[1]:.3g} was recorded. Calibrate again."
        )
        evidence = {each.value: {"file": each.given, "recorded": each.recorded} for each in strayed[:10]}
        yield Diagnosis(name="damaged_scale", detail=detail, evidence=evidence)


def added_operators(path: Path, source: Path) -> tuple[str, ...]:
    """Return the operators that a quantised file has more of than its float source, trivial ones left out."""
    ours, theirs = ([node.operator for node in read_graph(each).nodes] for each in (path, source))
    more = {name for name in ours if name not in _TRIVIAL and ours.count(name) > theirs.count(name)}
    return tuple(sorted(more))


def _find_sibling(judged: JudgedModel) -> str | None:
    """Return the precision of another file that gives the recorded logits; the float file is asked first."""
    if judged.session.precision == "teacher":
        return None
    others = [each for each in EXPERT_FILES if each != judged.session.precision and judged.bundle.has(model_role(each))]
    verdicts = {each: reproduces_recorded(judged, each) for each in others}
    return next((each for each in others if verdicts[each] is not False), None)


def _named_weights(path: Path, other: Path) -> Weights:
    """Return a file's weights by the names that they have in the float file, INT8 ones turned into numbers."""
    weights = dict(read_weights(path))
    named = {_plain(name): values for name, values in weights.items() if values.dtype.kind == "f"}
    for node in read_graph(path).nodes:
        if node.operator == "DequantizeLinear" and {*node.inputs} <= set(weights) and len(node.inputs) >= 2:
            named[_plain(node.outputs[0])] = _dequantise(*(weights[name] for name in node.inputs))
    return named


def _plain(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _dequantise(values: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the numbers that stored ones stand for; scales by channel lie along the first axis that fits them."""
    steps = values.astype(np.float64)
    axes = [axis for axis in range(values.ndim) if values.shape[axis] == scale.size]
    shape = [scale.size if scale.size > 1 and axes and axis == axes[0] else 1 for axis in range(values.ndim)]
    offset = 0.0 if zero_point is None else zero_point.astype(np.float64).reshape(shape)
    numbers: NDArray[Any] = (steps - offset) * scale.astype(np.float64).reshape(shape)
    return numbers


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    size = max(float(np.linalg.norm(theirs)), float(np.linalg.norm(ours)), 1e-12)
    error = float(np.linalg.norm(ours.astype(np.float64) - theirs) / size)
    return error if np.isfinite(error) else float("inf")


def _find_strayed(path: Path, record: Path) -> tuple[list[Strayed], int]:
    known = read_json(record)
    ranges = [known["ranges"], known["symmetric_ranges"]]
    weights = dict(read_weights(path))
    nodes = [node for node in read_graph(path).nodes if node.operator in _QUANTISERS]
    found: dict[str, Strayed] = {}
    names = set()
    for node in nodes:
        value = _quantised_value(node)
        if value is None or value not in ranges[0] or not {*node.inputs[1:]} <= set(weights) or len(node.inputs) < 3:
            continue
        names.add(value)
        given = _range_of(*(weights[name] for name in node.inputs[1:]))
        wanted = [_asked_range(each[value], weights[node.inputs[2]]) for each in ranges]
        if not any(_is_near(given, each) for each in wanted):
            found[value] = Strayed(value=value, given=given, recorded=wanted[0])
    worst = sorted(found.values(), key=lambda each: -abs(np.subtract(each.given, each.recorded)).max())
    return worst, len(names)


def _quantised_value(node: Node) -> str | None:
    """Return the float graph's name of the value that a quantiser reads, or that the pair's second node restores."""
    if node.operator == "QuantizeLinear":
        return _plain(node.inputs[0])
    return _plain(node.outputs[0]) if node.outputs else None


def _range_of(scale: NDArray[Any], zero_point: NDArray[Any]) -> tuple[float, float]:
    limits, zero, step = np.iinfo(zero_point.dtype), int(zero_point.max()), float(scale.max())
    return (limits.min - zero) * step, (limits.max - zero) * step


def _asked_range(recorded: Any, zero_point: NDArray[Any]) -> tuple[float, float]:
    """Return the range that holds the recorded one and zero; around zero for signed types without a zero point."""
    low, high = min(0.0, float(recorded[0])), max(0.0, float(recorded[1]))
    if zero_point.dtype == np.int8 and not zero_point.any():
        return -max(-low, high), max(-low, high)
    return low, high


def _is_near(given: tuple[float, float], wanted: tuple[float, float]) -> bool:
    allowed = _RANGE * max(wanted[1] - wanted[0], 1e-12)
    return all(abs(ours - theirs) <= allowed for ours, theirs in zip(given, wanted, strict=True))
