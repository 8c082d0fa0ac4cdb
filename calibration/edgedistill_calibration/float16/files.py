"""The files in FP16: the float model, and the INT8 file for TensorRT where it is not INT8."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgedistill_calibration.float16.conversion import write_float16
from edgedistill_calibration.judging.judge import Images, Preparation
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.images.golden import limit_images
from edgedistill_deploy.images.sets import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Float16Files:
    """The FP16 files that could be made, by precision, and why others could not."""

    files: dict[str, Path] = field(default_factory=dict)
    details: dict[str, dict[str, object]] = field(default_factory=dict)  # for the ledger
    left_out: dict[str, str] = field(default_factory=dict)  # {precision: why there is no file of it}

    @property
    def notes(self) -> list[str]:
        """A sentence for each file that could not be made."""
        return [f"There is no file of precision {name}: {reason}" for name, reason in self.left_out.items()]


def write_float16_files(
    sources: Mapping[str, Path], prepared: Preparation, images: ImageSet, folder: Path
) -> Float16Files:
    """Write FP16 files to the folder; a file that is refused is left out with the reason.

    `sources` is {precision to write: the float model, or the INT8 file for TensorRT, as its source}. The calibration
    images, and those at the limits of the input, show which values must stay in FP32.
    """

    def groups(count: int) -> Iterator[Images]:
        yield from prepared.batches(images, count)
        yield limit_images(prepared.preprocess.size)

    made = Float16Files()
    for precision, source in sources.items():
        path = folder / f"{precision}.onnx"
        try:
            record = write_float16(source, path, groups)
        except EdgeDistillError as error:
            made.left_out[precision] = str(error)
        else:
            made.files[precision] = path
            made.details[precision] = {"float16": asdict(record)}
    return made
