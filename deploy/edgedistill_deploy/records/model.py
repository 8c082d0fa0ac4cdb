"""The subject of a record: a model file, the precision it computes in, and where it was measured."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from edgedistill_deploy.records.values import as_text

# The kernels of an INT8 model: "exact" by default, "made_exact" by an option, or "saturating" in spite of the option.
# "unfused": the model mixes INT8 and FP16 and is computed as it is written.
Int8Kernels = Literal["exact", "made_exact", "saturating", "unfused"]

TEACHER = "teacher"  # the precision of the teacher's own file, the baseline of the others

Place = tuple[str, str, str]  # device, runtime, provider


def as_device_name(value: Any) -> str:
    """Accept a device's name, or an object with the key "name"."""
    return as_text(value["name"] if isinstance(value, dict) else value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """The identity of a measured model; `device` is the device's name."""

    device: Annotated[str, as_device_name]
    runtime: str
    provider: str
    precision: str
    model_sha256: str

    def __str__(self) -> str:
        return f"{self.precision} on {self.device}, {self.runtime} {self.provider}, model {self.model_sha256[:12]}"

    @property
    def place(self) -> Place:
        """The place of the measurement."""
        return self.device, self.runtime, self.provider

    @property
    def is_teacher(self) -> bool:
        """True for the baseline."""
        return self.precision == TEACHER

    @property
    def short_name(self) -> str:
        """Its name in sentences about one device: the precision, and the runtime or provider if it is unusual."""
        where = self.runtime if self.provider == "cpu" else self.provider
        return self.precision if where == "onnxruntime" else f"{self.precision} on {where}"
