"""What a device sends back, read with suspicion: the keeper's events, the probe's answer, and results.

A device can be damaged, of another version, or somebody else's. Each answer must have the shape that the program asks
for; control characters, which a terminal would obey, are taken out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.files.names import is_plain_text
from edgedistill_deploy.hardware.device import DeviceInfo
from edgedistill_deploy.hardware.power import EnergyReport
from edgedistill_deploy.latency.end_to_end import EndToEndReport
from edgedistill_deploy.latency.interleaved import BlockComparison, SelfComparison
from edgedistill_deploy.latency.sustained import SustainedReport
from edgedistill_deploy.profiling.cold_start import PARTS, ColdStartReport
from edgedistill_deploy.records.answers import AnswersReport
from edgedistill_deploy.records.decisions import ChainRecord
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.layers import LayerReport
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.schema import read_as
from edgedistill_deploy.records.values import as_list, as_mapping, as_number, as_time

_WRONG = (KeyError, TypeError, ValueError, OverflowError, DataError)
_PARTS = {
    "sustained": SustainedReport,
    "end_to_end": EndToEndReport,
    "cold_start": ColdStartReport,
    "power": EnergyReport,
}
_STAGES = 3  # of a run end to end


def _as_whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.60} stands where a whole number belongs")
    return value


def _as_amount(value: Any) -> float:
    if as_number(value) < 0:
        raise ValueError(f"{value!r:.60} stands where an amount belongs")
    return float(value)


def _as_file(value: Any) -> "Described | None":
    return read_as(Described, value) if as_mapping(value) else None


Whole = Annotated[int, _as_whole]
Amount = Annotated[float, _as_amount]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A result's file on the device."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """What came of importing a module."""

    version: str | None = None
    missing: bool = False
    error: str = ""

    def __post_init__(self) -> None:
        if self.version is None and not self.missing and not self.error:
            raise ValueError("a module is neither there nor missing, and nothing went wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock."""

    owner: str = ""
    host: str = ""
    time: Annotated[float, as_time] | None = None
    pid: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The keeper has started."""

    python: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The lock is ours."""

    work: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """Somebody else has the lock."""

    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of importing modules; without them, how that ended Python."""

    modules: Mapping[str, Module] | None = None
    code: Whole = 0
    stderr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there of the files that are needed."""

    kept: tuple[str, ...]
    parts: Mapping[str, int]
    free_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Which files arrived damaged."""

    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """How much room there is."""

    free_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The measuring has begun."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the measuring process; see `lines`."""

    progress: tuple[Amount, Amount, str] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The measuring process said something."""

    line: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The measuring process has ended."""

    code: Whole
    stderr: str
    result: Annotated[Described | None, _as_file]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Everything is cleaned up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A command could not be done."""

    text: str
    errno: Whole | None = None
    free_bytes: int | None = None


_EVENTS: Mapping[str, type[Any]] = {
    each.__name__.lower(): each
    for each in (Ready, Opened, Locked, Tried, Found, Settled, Free, Started, Said, Ended, Closed, Failed)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conditions:
    """The part of a machine's state that a table shows."""

    power_mode: str | None = None
    governor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """The probe's answer."""

    python: tuple[int, ...]
    executable: str = ""
    externally_managed: bool = False
    venv: bool = False
    pip: str | None = None
    crashed: Whole | None = None
    modules: Mapping[str, Module] | None = None
    providers: tuple[str, ...] | None = None
    device: DeviceInfo | None = None
    conditions: _Conditions | None = None
    open_folder: tuple[str, str] | None = None


def read_event(text: str) -> dict[str, Any] | None:
    """Return an event; None for a line that is none, such as a login shell's greeting.

    Raises DataError for an event that the keeper does not send.
    """
    try:
        event = shown(parse_json(text))
    except ValueError:
        return None
    if not isinstance(event, dict) or "event" not in event:
        return None
    try:
        read_as(_EVENTS[event["event"]], event)
    except _WRONG as error:
        raise DataError(_describe(error)) from error
    return event


def read_probe(text: str) -> dict[str, Any] | None:
    """Return the probe's answer; None for a line that is none. Raises DataError for one of another shape."""
    try:
        answer = shown(parse_json(text))
    except ValueError:
        return None
    try:
        read_as(_Probed, as_mapping(answer))
    except _WRONG as error:
        raise DataError(_describe(error)) from error
    return dict(answer)


def read_holder(text: str) -> dict[str, Any] | None:
    """Return who holds a lock; None where the text does not tell."""
    try:
        holder = shown(parse_json(text))
        read_as(Holder, holder)
    except _WRONG:
        return None
    return dict(holder)


def read_result(data: bytes, kind: str) -> dict[str, Any]:
    """Return the result of a task, {"kind": "latency-set" | "parity-set", "records", "machine", ...}.

    Raises DataError that says what is wrong with it.
    """
    try:
        result = dict(as_mapping(shown(parse_json(data))))
        if result.get("kind") != kind:
            raise ValueError(f"it is no {kind}")
        read_as(DeviceInfo, result["machine"])
        records = as_list(result["records"])
        if not records:
            raise ValueError("it has no records")
        for record in records:
            _CHECKS[kind](record)
        if result.get("comparison"):
            _check_comparison(result["comparison"])
        if kind == "parity-set" and result.setdefault("chain", None) is not None:
            ChainRecord.from_json(result["chain"])
        for record in as_list(result.get("answers", [])):
            AnswersReport.from_json(record)
    except _WRONG as error:
        raise DataError(_describe(error)) from error
    return result


def _fill(record: Any, report: LatencyReport | ParityReport) -> None:
    """Give what the record leaves out the value that it is read with."""
    for name, value in report.to_json().items():
        record.setdefault(name, value)


def _check_latency(record: Any) -> None:
    _fill(record, LatencyReport.from_json(record))
    LayerReport.from_record(record)
    for name, kind in _PARTS.items():
        if record.get(name):
            read_as(kind, record[name])
    if record.get("end_to_end") and len(record["end_to_end"]["parts"]) != _STAGES:
        raise ValueError("its run end to end has other parts")
    if record.get("cold_start"):
        _require_keys(record["cold_start"]["median_ms"], (*PARTS, "total"))
    power = record.get("power")
    if power and power["load"] is not None:
        told = {name: value for name, value in power.items() if value is not None}
        _require_keys(told, ("idle", "net_w", "net_interval_w"))
    _require_keys(record["intervals"], ("p50_ms", "p90_ms", "p99_ms"))


def _check_parity(record: Any) -> None:
    _fill(record, ParityReport.from_json(record))


_CHECKS = {"latency-set": _check_latency, "parity-set": _check_parity}


def _check_comparison(comparison: Any) -> None:
    found = as_mapping(comparison)
    read_as(SelfComparison, found["a_a"])
    for pair in as_list(found["pairs"]):
        read_as(BlockComparison, pair)


def _require_keys(found: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name not in found:
            raise KeyError(name)


def shown(value: Any) -> Any:
    """Return a JSON value whose texts have no control characters; new lines stay."""
    if isinstance(value, str):
        return value if is_plain_text(value) else "".join(each for each in value if each == "\n" or is_plain_text(each))
    if isinstance(value, list):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {shown(key): shown(each) for key, each in value.items()}
    return value


def _describe(error: Exception) -> str:
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error).rstrip(".")
