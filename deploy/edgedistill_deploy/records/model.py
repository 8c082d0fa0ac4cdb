"""What a record is about: a model file, the precision it computes in, and where it was measured."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from edgedistill_deploy.records.values import as_text

# What the kernels of an INT8 model do: "exact" as they are, "made_exact" by an option, or "saturating" in spite of it.
Int8Kernels = Literal["exact", "made_exact", "saturating"]

TEACHER = "teacher"  # the precision of the teacher's own file, the baseline of the others

Place = tuple[str, str, str]  # device, runtime, provider


def as_device_name(value: Any) -> str:
    """Accept a device by its name, or an object that describes it and has the name."""
    return as_text(value["name"] if isinstance(value, dict) else value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """The identity of a measured model: the device by name, the runtime and its provider, the precision, and the file's
    sha256."""

    device: Annotated[str, as_device_name]
    runtime: str
    provider: str
    precision: str
    model_sha256: str

    def __str__(self) -> str:
        return f"{self.precision} on {self.device}, {self.runtime} {self.provider}, model {self.model_sha256[:12]}"

    @property
    def place(self) -> Place:
        """Where it was measured."""
        return self.device, self.runtime, self.provider

    @property
    def is_teacher(self) -> bool:
        """Whether this is the baseline."""
        return self.precision == TEACHER

    @property
    def short_name(self) -> str:
        """What sentences about one device call it: the precision, and where it ran unless that is the usual place."""
        where = self.runtime if self.provider == "cpu" else self.provider
        return self.precision if where == "onnxruntime" else f"{self.precision} on {where}"
