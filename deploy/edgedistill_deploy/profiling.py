"""What to measure of a bundle's models on this machine, and the measuring: the same here, on a device, and over SSH."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgedistill_deploy._alternating import Comparing, compare_models
from edgedistill_deploy._fresh_process import FreshProcess
from edgedistill_deploy.bundle.folder import Bundle, model_role, open_bundle
from edgedistill_deploy.cold_start import REPEATS, measure_cold_start
from edgedistill_deploy.errors import BundleError, UsageError, nearest_names
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.latency.interleaved import MARGIN
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.latency.sustained import Arrivals, Load
from edgedistill_deploy.records.writing import SCHEMA, file_part, record_path
from edgedistill_deploy.runtimes.opening import RUNTIMES

Progress = Callable[[str, int, int], None]

# What is measured when nothing is said, in the order of the tables.
_PRECISIONS = ("teacher", "fp32", "fp16", "int8")
# The files that TensorRT takes for INT8 are not ONNX Runtime's.
_ROLES_OF_TENSORRT = {"int8": ("model.int8-tensorrt", "model.int8-fp16-tensorrt")}

# How long the board is watched at rest before its power under load.
_IDLE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """What to measure. Every runtime, precision and batch size makes a latency record.

    Args:
        runtimes: names of `session.RUNTIMES`.
        precisions: names of `bundle.PRECISIONS`; None for all that the bundle has and the runtime takes.
        provider: the runtime's back end.
        threads: of one run. For small models two threads are a lottery: the same file took 126 or 283 us in processes started
            one after another, as the threads fell on the processors, and 132 to 133 us on one thread in all.
        batch_sizes: images a run; its own `batch_size` of `latency` is ignored.
        latency: how long to measure.
        rate: images a second that arrive in a sustained run, whose latency from arrival to completion is measured too.
        arrivals: "poisson", or "constant" gaps.
        cold_start: time new processes from their start to the first answer.
        end_to_end: time from the bytes of a JPEG to the logits as well.
        layers: time every node.
        power: read the board's power at rest and under load.
        power_sensor: which of `inventory.POWER_READERS` tells it.
        compare: compare the choices of runtime and precision with the first, by alternating blocks; at the first batch size.
        margin: of the comparison: smaller differences are none.
        seed: of the arrivals, the order of the blocks and the bootstrap.

    Raises UsageError for values outside these.
    """

    runtimes: tuple[str, ...] = ("onnxruntime",)
    precisions: tuple[str, ...] | None = None
    provider: str = "cpu"
    threads: int = 1
    batch_sizes: tuple[int, ...] = (1,)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    cold_start: bool = False
    end_to_end: bool = False
    layers: bool = False
    power: bool = False
    power_sensor: str = "auto"
    compare: bool = False
    margin: float = MARGIN
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.runtimes:
            if name not in RUNTIMES:
                raise UsageError(f"There is no runtime {name!r}.{nearest_names(name, RUNTIMES)}")
        for name in self.precisions or ():
            model_role(name)
        for size in self.batch_sizes:
            replace(self.latency, batch_size=size)
        if not self.runtimes or not self.batch_sizes or self.precisions == ():
            raise UsageError("A profile needs at least one runtime, one precision and one batch size.")
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}; it must be 1 or more.")
        if not 0 <= self.margin < 1:
            raise UsageError(f"margin is {self.margin}; it must be 0 or more and less than 1, such as 0.03.")
        for size in self.batch_sizes:
            self.load(size)

    def load(self, batch_size: int) -> Load | None:
        """Return what arrives in the sustained run of a batch size; None without one."""
        if self.rate is None:
            return None
        return Load(
            rate_per_s=self.rate,
            batch_size=batch_size,
            arrivals=self.arrivals,
            seed=self.seed,
            duration_s=self.latency.duration_s,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        values = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "ProfileRequest":
        """Read what `to_json` wrote; absent keys keep their defaults. Raises UsageError for unknown keys."""
        _require_known(record, cls)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        if "latency" in values:
            _require_known(values["latency"], LatencyConfig)
            values["latency"] = LatencyConfig(**values["latency"])
        return cls(**values)


def run_profile(folder: Path, request: ProfileRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Measure the models of a bundle, each in a fresh process, and return {"kind": "latency-set", "records": [...]}.

    A record has "sustained", "end_to_end" and "cold_start" beside the latency where these were asked for, and the set has
    "comparison". `progress` is called with what is being measured, how much is done, and of how much. Nothing is written;
    `write_profile` does that.

    Raises UsageError for a comparison of fewer than two models.
    """
    bundle = open_bundle(folder)
    planned = list(_planned(bundle, request))
    alternatives = [each for each in planned if each.batch_size == request.batch_sizes[0]]
    if request.compare and len(alternatives) < 2:
        raise UsageError(
            "A comparison needs two models at least; name them with --precisions fp32,int8 or --runtimes."
        )
    tell = progress or _tell_nobody
    profile: dict[str, Any] = {"kind": "latency-set", "schema": SCHEMA}
    profile["records"] = [_measured(bundle, each, request, tell) for each in planned]
    if request.compare:
        config = replace(request.latency, batch_size=request.batch_sizes[0])
        settings = Comparing(
            folder=bundle.path, config=config, margin=request.margin, seed=request.seed, progress=tell
        )
        compared = compare_models([_model(each, request) for each in alternatives], settings)
        profile["comparison"] = _with_hashes(compared, profile["records"])
    return profile


def write_profile(bundle: Bundle, profile: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write every record to latency/DEVICE-RUNTIME-PRECISION.json in the bundle, with -bN for N images a run.

    A comparison goes to latency-comparison/DEVICE.json.
    """
    paths = [_write(bundle, record) for record in profile["records"]]
    if profile.get("comparison"):
        name = profile["records"][0]["device"]["name"]
        paths.append(bundle.path / "latency-comparison" / f"{file_part(name)}.json")
        write_json(paths[-1], profile["comparison"])
    return tuple(paths)


def precisions_for(bundle: Bundle, runtime: str) -> tuple[str, ...]:
    """Return the precisions that the bundle has a model of for the runtime.

    Raises:
        BundleError: it has none.
    """
    found = tuple(name for name in _PRECISIONS if any(map(bundle.has, _roles(name, runtime))))
    if not found:
        raise BundleError(
            f"The bundle {bundle.path} holds no model for {runtime} yet; run `edgedistill export {bundle.path}` first."
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measurement:
    runtime: str
    precision: str
    batch_size: int


def _planned(bundle: Bundle, request: ProfileRequest) -> Iterator[_Measurement]:
    for runtime in request.runtimes:
        for precision in request.precisions or precisions_for(bundle, runtime):
            for batch_size in request.batch_sizes:
                yield _Measurement(runtime=runtime, precision=precision, batch_size=batch_size)


def _model(chosen: _Measurement, request: ProfileRequest) -> dict[str, Any]:
    """Return what `open_session` takes beside the bundle."""
    return {
        "runtime": chosen.runtime,
        "precision": chosen.precision,
        "provider": request.provider,
        "threads": request.threads,
    }


def _measured(
    bundle: Bundle, chosen: _Measurement, request: ProfileRequest, progress: Progress
) -> dict[str, Any]:
    size = chosen.batch_size
    name = f"{chosen.precision} on {chosen.runtime}, batch {size}"
    folder, model = str(bundle.path.resolve()), _model(chosen, request)
    config, load = asdict(replace(request.latency, batch_size=size)), request.load(size)

    def named(part: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(f"{name}{part}", done, total)

    with FreshProcess() as process:
        process.ask("open", folder=folder, model=model, batch_size=size)
        record: dict[str, Any] = process.ask("measure", named(""), config=config)
        if load is not None:
            record["sustained"] = process.ask("sustain", named(", arriving"), load=asdict(load))
        if request.end_to_end and size == request.batch_sizes[0]:
            record["end_to_end"] = process.ask("end_to_end", named(", end to end"), config=config)
        if request.layers:
            record.update(process.ask("layers", named(", by node"), batch_size=size))
        if request.power:
            seconds = request.latency.duration_s
            how = {"idle_s": min(_IDLE_S, seconds), "load_s": seconds, "sensor": request.power_sensor}
            record["power"] = process.ask("power", named(", power"), batch_size=size, **how)
    if request.cold_start and size == request.batch_sizes[0]:
        started = measure_cold_start(bundle.path, model, size, REPEATS, named(", cold start"))
        record["cold_start"] = started.to_json()
    return record


def _with_hashes(comparison: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say of each alternative which file it is, as the records of its own measurement do."""
    hashes = {(record["runtime"], record["precision"]): record["model_sha256"] for record in records}
    alternatives = [
        {**each, "model_sha256": hashes[each["runtime"], each["precision"]]}
        for each in comparison["alternatives"]
    ]
    return {**comparison, "bundle": records[0]["bundle"], "alternatives": alternatives}


def _write(bundle: Bundle, record: Mapping[str, Any]) -> Path:
    batch = "" if record["batch_size"] == 1 else f"-b{record['batch_size']}"
    path = record_path(
        bundle.path,
        "latency",
        record["device"]["name"],
        record["runtime"],
        f"{record['precision']}{batch}",
        record["provider"],
    )
    write_json(path, record)
    return path


def _tell_nobody(name: str, done: int, total: int) -> None:
    return None


def _roles(precision: str, runtime: str) -> tuple[str, ...]:
    if runtime == "tensorrt" and precision in _ROLES_OF_TENSORRT:
        return _ROLES_OF_TENSORRT[precision]
    return (model_role(precision),)


def _require_known(record: Mapping[str, Any], kind: Any) -> None:
    known = [each.name for each in fields(kind)]
    for name in record:
        if name not in known:
            raise UsageError(f"A profile request has no {name!r}.{nearest_names(name, known)}")
