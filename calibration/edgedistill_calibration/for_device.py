"""A further INT8 file for one device: only the nodes that pay there are in INT8, by the times measured on it."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgedistill_calibration.graphs.preparation import activations, metadata_of, prepare_graph
from edgedistill_calibration.int8.device_nodes import Division, NodeTimes, conversion_ms, divide, find_seams
from edgedistill_calibration.int8.files import FLOAT_NODES, save_mixed
from edgedistill_calibration.int8.float_nodes import MixedPrecision
from edgedistill_calibration.judging.expectations import record_expectation
from edgedistill_calibration.judging.judge import run_values
from edgedistill_calibration.quantize import DEVICE_FILES, drop_device_files, keep_files, require_libraries
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import device_precision, model_role
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.latency.device_times import DeviceTimes, read_device_times

_FUSED = "QLinear"  # begins the operators by which ONNX Runtime computes a node in INT8
_DEVICE = "edgedistill.device"  # the metadata of such a file that names its device


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A node that can be INT8, what was measured, in ms, and what it is in the file for the device."""

    node: str
    op_type: str
    fp32_ms: float
    int8_ms: float
    is_int8: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """What was found for a device; `file` is the name of its file, None where another file suits it better.

    Attributes:
        precision: of the file, int8-DEVICE.
        device: its name in the latency records.
        nodes: those with weights, in the graph's order.
        estimate_ms: {"fp32", "int8", "mixed"}: about what the nodes that can be INT8, and their seams, take with all in
            float, all in INT8, and as in the file.
        run_ms: {"fp32", "int8"}: whole runs, as measured with the profiler on.
        made_of: what decides the result: the same gives the same file.
        made_before: whether nothing was done, because all of it was there.
    """

    precision: str
    device: str
    file: str | None
    nodes: tuple[DeviceNode, ...]
    estimate_ms: Mapping[str, float]
    run_ms: Mapping[str, float]
    made_of: Mapping[str, Any]
    made_before: bool = False

    def sentence(self) -> str:
        """Say what was found, and what to do next."""
        count = sum(each.is_int8 for each in self.nodes)
        if not count:
            return (
                f"On {self.device} none of the {len(self.nodes)} nodes is faster in INT8, so no file is written for it;"
                " deploy fp32 there."
            )
        if self.file is None:
            return (
                f"On {self.device} each of the {len(self.nodes)} nodes is faster in INT8, so model.int8.onnx is its "
                "file."
            )
        about = ", ".join(f"{ms:.3g} ms {words}" for ms, words in self._estimates())
        return (
            f"{self.file} has {count} of {len(self.nodes)} nodes in INT8, those that pay on {self.device}. Expected "
            f"for all of them: {about}. `edgedistill validate` and `edgedistill profile` there decide whether it is "
            "recommended."
        )

    def _estimates(self) -> tuple[tuple[float, str], ...]:
        known = self.estimate_ms
        return ((known["mixed"], "in this file"), (known["fp32"], "all in float"), (known["int8"], "all in INT8"))

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        record = {name: value for name, value in asdict(self).items() if name != "made_before"}
        return {**record, "nodes": [asdict(each) for each in self.nodes]}


def calibrate_for(bundle: Bundle, record: Path) -> tuple[Bundle, DeviceFile]:
    """Write `model.int8-DEVICE.onnx`, the calibrated INT8 file with the nodes in float that do not pay on a device.

    `model.int8.onnx` stays. No file is written where no node pays, or each does; one of before is removed then. With
    the same files and records as last time nothing is done.

    Args:
        bundle: calibrated.
        record: as for `read_device_times`.

    Raises:
        UsageError: the bundle has no INT8 file, or it is that of a recovered student, or as `read_device_times`.
        BundleError, DataError: as `read_device_times`.
        MissingDependencyError: onnx or onnxruntime is not installed.
    """
    require_libraries()
    quantised = _load_quantised(bundle)
    times = read_device_times(bundle, record)
    precision = device_precision(times.device)
    made_of = _made_of(bundle, times)
    before = _made_before(bundle, precision, made_of)
    if before is not None:
        return bundle, before
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        prepared = prepare_graph(bundle.file(model_role("fp32")), Path(folder) / "prepared.onnx")
        mixed = MixedPrecision(prepared, quantised)
        known = _known_times(prepared.graph, mixed, times)
        division = _divide(bundle, prepared, quantised, times, known)
        nodes = _describe(prepared.graph, mixed, known, division)
        left = [each.node for each in nodes if not each.is_int8]
        bundle = drop_device_files(bundle, [precision])
        is_written = 0 < len(left) < len(nodes)
        if is_written:
            path = _write(mixed, left, times.device, Path(folder) / f"{precision}.onnx")
            bundle = record_expectation(keep_files(bundle, {precision: path}), precision)
    found = DeviceFile(
        precision=precision,
        device=times.device,
        file=f"{model_role(precision)}.onnx" if is_written else None,
        nodes=nodes,
        estimate_ms={"fp32": division.fp32_ms, "int8": division.int8_ms, "mixed": division.mixed_ms},
        run_ms=dict(times.run_ms),
        made_of=made_of,
    )
    entries = {**bundle.manifest.get(DEVICE_FILES, {}), precision: found.to_json()}
    return bundle.with_fields(**{DEVICE_FILES: entries}), found


def _load_quantised(bundle: Bundle) -> onnx.ModelProto:
    role = model_role("int8")
    if not bundle.has(role):
        raise UsageError(f"{bundle.path} has no {role}.onnx yet; run `edgedistill calibrate {bundle.path}` first.")
    quantised = onnx.load(bundle.file(role))
    if "edgedistill.recovered" in metadata_of(quantised):
        raise UsageError(
            f"{role}.onnx is that of the student trained under quantisation (--recover), whose float weights are not "
            "in the bundle, so none of its nodes can be put back to float; calibrate without --recover for a file for "
            "one device."
        )
    return quantised


def _made_of(bundle: Bundle, times: DeviceTimes) -> dict[str, Any]:
    import onnxruntime

    return {
        "records": dict(times.sources),
        "models": {name: bundle.model_sha256(model_role(name)) for name in ("fp32", "int8")},
        "onnxruntime": onnxruntime.__version__,
    }


def _made_before(bundle: Bundle, precision: str, made_of: Mapping[str, Any]) -> DeviceFile | None:
    """Return the manifest's record of the same work, where its file is there and whole."""
    entry = bundle.manifest.get(DEVICE_FILES, {}).get(precision)
    if not isinstance(entry, dict) or entry.get("made_of") != made_of:
        return None
    try:
        if entry["file"] is not None:
            bundle.file(model_role(precision))
        nodes = tuple(DeviceNode(**each) for each in entry["nodes"])
        return DeviceFile(**{**entry, "nodes": nodes}, made_before=True)
    except (BundleError, KeyError, TypeError):
        return None


def _known_times(graph: onnx.GraphProto, mixed: MixedPrecision, times: DeviceTimes) -> dict[str, NodeTimes]:
    """Return the times of the nodes that can be in INT8.

    A node without weights can where the runtime computed it so. Without a float time it is computed inside another.
    """
    weighted = {name for name in mixed.nodes if name in times.fp32 and name in times.int8}
    if not weighted:
        raise UsageError(
            "The records name none of the nodes that are in INT8, so nothing can be chosen by them; profile this "
            "bundle on the device with --layers."
        )
    others = {name for name, cost in times.int8.items() if cost.operator.startswith(_FUSED)} - {*mixed.nodes}
    return {
        node.name: NodeTimes(
            fp32_ms=times.fp32[node.name].mean_ms if node.name in times.fp32 else 0.0,
            int8_ms=times.int8[node.name].mean_ms,
        )
        for node in graph.node
        if node.name in weighted | others
    }


def _divide(
    bundle: Bundle,
    prepared: onnx.ModelProto,
    quantised: onnx.ModelProto,
    times: DeviceTimes,
    known: Mapping[str, NodeTimes],
) -> Division:
    names = activations(prepared.graph, [node.op_type for node in prepared.graph.node])
    blank = np.zeros((1, *bundle.preprocess.size, 3), np.uint8)  # the sizes of values do not depend on the image
    sizes = {name: value.size for name, value in zip(names, next(run_values(prepared, names, blank)), strict=True)}
    measured = {name: cost.mean_ms for name, cost in times.int8.items()}
    quantise, dequantise = (
        conversion_ms((quantised.graph, prepared.graph), measured, sizes, f"{kind}Linear")
        for kind in ("Quantize", "Dequantize")
    )
    return divide(known, find_seams(prepared.graph, frozenset(known), sizes, quantise, dequantise))


def _describe(
    graph: onnx.GraphProto, mixed: MixedPrecision, known: Mapping[str, NodeTimes], division: Division
) -> tuple[DeviceNode, ...]:
    return tuple(
        DeviceNode(
            node=node.name,
            op_type=node.op_type,
            fp32_ms=known[node.name].fp32_ms,
            int8_ms=known[node.name].int8_ms,
            is_int8=node.name in division.int8,
        )
        for node in graph.node
        if node.name in known and node.name in mixed.nodes
    )


def _write(mixed: MixedPrecision, left: list[str], device: str, path: Path) -> Path:
    model = mixed.leaving(left, fused=True)
    metadata = metadata_of(model)
    floats = [*json.loads(metadata.get(FLOAT_NODES, "[]")), *mixed.float_nodes(model)]
    onnx.helper.set_model_props(model, {**metadata, _DEVICE: device})
    return save_mixed(model, floats, path)
