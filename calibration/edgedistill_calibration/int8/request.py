"""The input of a quantisation to INT8."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedistill_calibration.config import CalibrationConfig
from edgedistill_calibration.judging.judge import Images, Judge
from edgedistill_calibration.ranges.measurement import Ranges
from edgedistill_deploy.images.sets import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Request:
    """The float model of `judge`, and how its INT8 files are made."""

    judge: Judge
    images: ImageSet  # to measure ranges on
    folder: Path
    config: CalibrationConfig
    metadata: Mapping[str, str]  # for the files, besides the float model's
    accuracy: float | None = None  # the start of the goal's drop; None takes the float model's accuracy
    trained_ranges: Mapping[str, Ranges] | None = None  # also tried, see `read_ranges`

    def batches(self, batch_size: int) -> Iterator[Images]:
        """Yield the images that ranges are measured on, prepared (n, H, W, 3)."""
        return self.judge.prepared.batches(self.images, batch_size)
