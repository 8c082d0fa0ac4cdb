"""The times of single nodes on one device, in float and in INT8, read from the records that `profile --layers` wrote.

The records may come from elsewhere: sizes are bounded, every value is checked, and both must be about the bundle's own
files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import DEVICE_RUNTIME, model_role
from edgedistill_deploy.errors import BundleError, DataError, UsageError, quote_value
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.latency.comparison import read_latencies
from edgedistill_deploy.onnx_files.modules import ModulesOfNodes
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.layers import LayerReport
from edgedistill_deploy.records.writing import record_path

NEEDED = ("fp32", "int8")
_PROVIDER = "cpu"
_MOST_NODES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """The time of a file's node in one run, with the operator that the runtime computed it by."""

    operator: str
    mean_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTimes:
    """How long each node of `model.fp32` and `model.int8` takes on a device.

    Attributes:
        device: its name in the records.
        fp32, int8: by the node's name in the file; nodes that the runtime made itself are left out.
        run_ms: of a whole run of each file, by precision, with the profiler on.
        sources: {precision: sha256 of the record's file}.
    """

    device: str
    fp32: Mapping[str, NodeCost]
    int8: Mapping[str, NodeCost]
    run_ms: Mapping[str, float]
    sources: Mapping[str, str]


def read_device_times(bundle: Bundle, record: Path) -> DeviceTimes:
    """Read a latency record with node times, and that of the other precision, which lies beside it or in the bundle.

    Args:
        bundle: has `model.fp32` and `model.int8`.
        record: a latency record, or what `profile --json` printed; a path in the bundle may be given from there.

    Raises:
        UsageError: there is no such record, or it has no times of single nodes, or those of another place than ONNX
            Runtime's CPU.
        DataError: it is no latency record, or a damaged one.
        BundleError: it was measured on other files than the bundle's.
    """
    path = _find(bundle, record)
    given = [_parse(document, path) for document in read_latencies(path)]
    found = {each.model.precision: (each, layers, path) for each, layers in given if layers is not None}
    first = next((found[name] for name in NEEDED if name in found), None)
    if first is None:
        raise UsageError(f"{_lack(path, [each.model.precision for each, _ in given])} {_advice(bundle)}")
    for precision in sorted(NEEDED, key=lambda name: name not in found):  # what was given is checked first
        if precision not in found:
            found[precision] = _read_other(bundle, path, first[0], precision)
        _require_fitting(bundle, *found[precision], first[0])
    times = {name: _by_node(bundle.file(model_role(name)), found[name][1]) for name in NEEDED}
    return DeviceTimes(
        device=first[0].device.name,
        fp32=times["fp32"],
        int8=times["int8"],
        run_ms={name: found[name][1].mean_ms for name in NEEDED},
        sources={name: sha256_of_file(found[name][2]) for name in NEEDED},
    )


def _find(bundle: Bundle, record: Path) -> Path:
    inside = bundle.path / record
    if record.is_file():
        return record
    if not record.is_absolute() and inside.is_file() and inside.resolve().is_relative_to(bundle.path.resolve()):
        return inside
    raise UsageError(f"There is no latency record {printable(str(record))}. {_advice(bundle)}")


def _lack(path: Path, precisions: Sequence[str]) -> str:
    """Say why a file of latency records is of no use: their precision, or that they have no times of single nodes."""
    known = sorted({*precisions} & {*NEEDED})
    if known:
        return f"{path} is the latency record of {' and '.join(known)}, but it has no times of single nodes."
    return f"{path} has no record of precision fp32 or int8 (it has {', '.join(sorted(precisions)) or 'none'})."


def _advice(bundle: Bundle) -> str:
    return (
        f"On the device, `edgedistill profile {bundle.path} --layers` writes latency/DEVICE-onnxruntime-fp32.json and "
        "-int8.json, with the times of single nodes."
    )


def _read(path: Path) -> Iterable[tuple[LatencyReport, LayerReport]]:
    """Yield the records of a file that have times of single nodes."""
    for document in read_latencies(path):
        report, layers = _parse(document, path)
        if layers is not None:
            yield report, layers


def _parse(document: Mapping[str, Any], path: Path) -> tuple[LatencyReport, LayerReport | None]:
    try:
        report, layers = LatencyReport.from_json(document), LayerReport.from_record(document)
    except KeyError as error:
        raise DataError(f"{path} is damaged: it has no {error.args[0]}; profile the bundle again.") from error
    except (TypeError, ValueError, OverflowError, DataError) as error:
        raise DataError(f"{path} is damaged: {error}; profile the bundle again.") from error
    if layers is not None and len(layers.layers) > _MOST_NODES:
        raise DataError(f"{path} has times of {len(layers.layers)} nodes; a record has at most {_MOST_NODES}.")
    return report, layers


def _read_other(
    bundle: Bundle, path: Path, known: LatencyReport, precision: str
) -> tuple[LatencyReport, LayerReport, Path]:
    """Read the record of the other precision that was measured in the same place."""
    document = {**known.to_json(), "precision": precision, "device": known.device.name}
    own = record_path(bundle.path, document)
    for candidate in (path.parent / own.name, own):
        if candidate.is_file():
            for report, layers in _read(candidate):
                if report.model.precision == precision:
                    return report, layers, candidate
    raise UsageError(
        f"There are no times of single nodes of {precision} on {printable(known.device.name)}, neither in {path} nor "
        f"in {own.name} beside it or in the bundle. {_advice(bundle)}"
    )


def _require_fitting(
    bundle: Bundle, report: LatencyReport, layers: LayerReport, path: Path, first: LatencyReport
) -> None:
    model, role = report.model, model_role(report.model.precision)
    if (model.runtime, model.provider) != (DEVICE_RUNTIME, _PROVIDER):
        raise UsageError(
            f"{path} was measured with {quote_value(model.runtime)} and the provider {quote_value(model.provider)}; "
            f"a file for one device is made from times of {DEVICE_RUNTIME} on its processor ({_PROVIDER})."
        )
    if "emulated" in report.disturbance.flags:
        raise UsageError(f"{path} was measured on an emulated processor, whose times say nothing of the device.")
    if model.model_sha256 != bundle.model_sha256(role):
        raise BundleError(f"{path} was measured on another {role}.onnx than the bundle has. {_advice(bundle)}")
    if (model.device, report.setting) != (first.model.device, first.setting):
        raise UsageError(
            f"{path} is of {printable(model.device)}, {report.setting.batch_size} images a run on "
            f"{report.setting.threads} threads, and the other record is of {printable(first.model.device)}, "
            f"{first.setting.batch_size} images on {first.setting.threads}; measure both in one `profile --layers`."
        )
    if not layers.layers:
        raise UsageError(f"{path} has no times of single nodes. {_advice(bundle)}")


def _by_node(model: Path, layers: LayerReport) -> dict[str, NodeCost]:
    """Return the time of each of the file's nodes; a runtime may have split one."""
    modules = ModulesOfNodes(model)
    found: dict[str, NodeCost] = {}
    for each in layers.layers:
        node = modules.node_of(each.node, each.op_type)
        if node is None:
            continue
        before = found.get(node.name)
        operator = each.op_type or node.operator
        found[node.name] = NodeCost(
            operator=operator if before is None else before.operator,
            mean_ms=each.mean_ms + (0.0 if before is None else before.mean_ms),
        )
    return found
