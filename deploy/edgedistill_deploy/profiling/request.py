"""What to measure in a profile, checked before anything is measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.latency.interleaved import MARGIN
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.latency.sustained import Arrivals, Load
from edgedistill_deploy.runtimes.opening import RUNTIMES
from edgedistill_deploy.runtimes.providers import parse_provider
from edgedistill_deploy.runtimes.session import LIMIT_S, require_limit

_HAS_PROVIDERS = "onnxruntime"  # the runtime that can be measured on several


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """What to measure. Every runtime, provider, precision and batch size makes a latency record.

    Args:
        runtimes: names of `runtimes.opening.RUNTIMES`.
        precisions: names of `bundle.precisions`; None for all that the bundle has and the runtime takes, save those
            made for other devices.
        providers: back ends of the runtimes.
        added: further providers of ONNX Runtime that nobody asked for. A model that cannot be measured there is left
            out with its reason, and no gate counts them.
        threads: of one run. With two threads the times of small models depend on which processors the threads get: one
            file took 126 or 283 us in different processes, and 132 to 133 us in all of them with one thread.
        batch_sizes: images a run; the `batch_size` of `latency` is ignored.
        rate: images a second that arrive in a sustained run; None for no such run.
        arrivals: "poisson", or "constant" gaps.
        cold_start: time new processes from their start to the first answer.
        end_to_end: also time from the bytes of a JPEG to the logits.
        layers: time every node.
        power: read the board's power at rest and under load.
        power_sensor: one of `remote.inventory.POWER_READERS`.
        compare: compare each runtime, provider and precision with the first, by alternating blocks of the first batch
            size; without `added`.
        margin: of the comparison; smaller differences do not count.
        seed: of the arrivals, the order of the blocks and the bootstrap.
        limit_s: how long one run may take.

    Raises UsageError for values outside these.
    """

    runtimes: tuple[str, ...] = ("onnxruntime",)
    precisions: tuple[str, ...] | None = None
    providers: tuple[str, ...] = ("cpu",)
    added: tuple[str, ...] = ()
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
    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        for name in self.runtimes:
            if name not in RUNTIMES:
                raise UsageError(f"There is no runtime {name!r}.{nearest_names(name, RUNTIMES)}")
        for name in (*self.providers, *self.added):
            parse_provider(name)
        for name in self.precisions or ():
            model_role(name)
        for size in self.batch_sizes:
            replace(self.latency, batch_size=size)
            self.load(size)
        if not all((self.runtimes, self.providers, self.batch_sizes)) or self.precisions == ():
            raise UsageError("A profile needs at least one runtime, one provider, one precision and one batch size.")
        if len(self.providers) > 1 and (others := [each for each in self.runtimes if each != _HAS_PROVIDERS]):
            raise UsageError(
                f"Several providers belong to ONNX Runtime, and {others[0]} has none; name one provider, or measure "
                f"{others[0]} by itself."
            )
        require_limit(self.limit_s)
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}; it must be 1 or more.")
        if not 0 <= self.margin < 1:
            raise UsageError(f"margin is {self.margin}; it must be 0 or more and less than 1, such as 0.03.")

    def places(self) -> tuple[tuple[str, str], ...]:
        """Return the runtimes with the providers that were asked for, in the order of the records."""
        return tuple((runtime, provider) for runtime in self.runtimes for provider in self.providers)

    def added_places(self) -> tuple[tuple[str, str], ...]:
        """Return the runtimes with the providers that nobody asked for."""
        added = [each for each in self.added if each not in self.providers]
        return tuple((runtime, each) for runtime in self.runtimes if runtime == _HAS_PROVIDERS for each in added)

    def load(self, batch_size: int) -> Load | None:
        """Return what arrives in the sustained run of a batch size; None without such a run."""
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
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "ProfileRequest":
        """Read the values of `to_json`; absent keys keep their defaults. Raises UsageError for unknown keys."""
        _require_known(record, cls)
        values: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in record.items()}
        if "latency" in values:
            _require_known(values["latency"], LatencyConfig)
            values["latency"] = LatencyConfig(**values["latency"])
        return cls(**values)


def _require_known(record: Mapping[str, Any], kind: Any) -> None:
    known = [each.name for each in fields(kind)]
    for name in record:
        if name not in known:
            raise UsageError(f"A profile request has no {name!r}.{nearest_names(name, known)}")
