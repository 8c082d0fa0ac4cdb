"""A loss caused by quantisation: the float model in the same bundle is good on the same images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import computes_in, model_role
from edgedistill_deploy.diagnosis._judged_model import Images, JudgedModel, Repair, percentages, read_values, repair_by
from edgedistill_deploy.diagnosis._sibling_files import added_operators
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.onnx_files.content import read_weights
from edgedistill_deploy.onnx_files.graph import Node, read_graph
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.opening import open_session

_LEAST_RECOVERED = 0.6
_IMAGES = 16
_CUT_OFF = 0.02  # share of an activation's values outside its range; calibration on the right images leaves < 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """The share of an activation's values outside its INT8 range, `low` to `high`."""

    value: str
    share: float
    low: float
    high: float


def find_quantisation_fault(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield a fault if INT8 lost accuracy that fp32 has; its name says whether the ranges fit the images."""
    if computes_in(judged.session.precision) != "int8" or not judged.bundle.has(model_role("fp32")):
        return
    session = judged.session
    try:
        with open_session(
            judged.bundle, runtime=session.runtime, provider=session.provider, threads=session.threads
        ) as exact:
            repair = repair_by(judged, exact)
        if repair.convinces(judged.confidence, _LEAST_RECOVERED):
            yield _explain(judged, repair)
    except EdgeDistillError:
        return  # without the fp32 model or the inner values there is nothing to compare


def _explain(judged: JudgedModel, repair: Repair) -> Diagnosis:
    """Blame the ranges only if the file is the quantised form of the float model: it has no node of its own."""
    path, source = judged.session.model_path, judged.bundle.file(model_role("fp32"))
    more = added_operators(path, source)
    if more:
        detail = (
            f"{path.name} is not a quantised form of {source.name}: it has more of {', '.join(more)}. With the fp32 "
            f"model of this bundle {percentages(repair)}; calibrate again."
        )
        return Diagnosis(name="not_this_model", detail=detail, evidence={**repair.evidence, "more_of": list(more)})
    images = judged.evaluation.images(judged.evaluation.spread(_IMAGES))
    return _build_diagnosis(repair, measure_cut_off(path, images))


def measure_cut_off(path: Path, images: Images) -> tuple[CutOff, ...]:
    """Return for each quantised activation the share of values outside its range, the largest first.

    A range that begins at 0 cuts off negative values on purpose: the quantiser also does the rectifier's work.
    """
    weights = dict(read_weights(path))
    quantisers = [node for node in read_graph(path).nodes if node.operator == "QuantizeLinear"]
    known = [node for node in quantisers if {*node.inputs[1:]} <= set(weights) and len(node.inputs) == 3]
    values = read_values(path, sorted({node.inputs[0] for node in known}), images)
    found = [_cut_off(node, weights, values[node.inputs[0]]) for node in known]
    return tuple(sorted(found, key=lambda each: each.share, reverse=True))


def _cut_off(node: Node, weights: Mapping[str, NDArray[Any]], values: NDArray[np.floating]) -> CutOff:
    scale, zero_point = (weights[name] for name in node.inputs[1:])
    limits = np.iinfo(zero_point.dtype)
    step = float(scale.max())
    low = float((limits.min - int(zero_point.max())) * step)
    high = float((limits.max - int(zero_point.min())) * step)
    above, below = values > high + step, (values < low - step) & (low < 0)
    return CutOff(value=node.inputs[0], share=float(np.mean(above | below)), low=low, high=high)


def _build_diagnosis(repair: Repair, cut_off: tuple[CutOff, ...]) -> Diagnosis:
    start = f"The loss came with quantisation: with the fp32 model of this bundle {percentages(repair)}."
    worst = [each for each in cut_off if each.share >= _CUT_OFF]
    if not worst:
        detail = f"{start} The ranges hold the values; calibrate by another method, or leave the worst layers in float."
        return Diagnosis(name="quantisation_loss", detail=detail, evidence=repair.evidence)
    detail = (
        f"{start} {len(worst)} of {len(cut_off)} ranges do not fit these images, worst at {worst[0].value}: "
        f"{worst[0].share:.1%} of its values lie outside {worst[0].low:.3g} to {worst[0].high:.3g}. It was calibrated "
        "on images unlike these; calibrate again on training images."
    )
    shares = {each.value: each.share for each in worst[:10]}
    return Diagnosis(name="calibrated_on_other_images", detail=detail, evidence={**repair.evidence, "cut_off": shares})
