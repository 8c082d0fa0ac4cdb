"""What is asked for when a float model is brought to INT8."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedistill_calibration.config import CalibrationConfig
from edgedistill_calibration.judging.judge import Images, Judge
from edgedistill_calibration.ranges.measurement import Ranges
from edgedistill_deploy.images.sets import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Request:
    """The float model that `judge` compares with, and how its INT8 files are made.

    Attributes:
        judge: has the float model and the held-out images.
        images: to measure ranges on.
        folder: where the files go.
        config: settings.
        metadata: for the files, beside the float model's.
        accuracy: that the goal is measured from; None takes the float model's.
        trained_ranges: to try beside those that are measured, see `read_ranges`; None where the student was not trained
            within ranges.
    """

    judge: Judge
    images: ImageSet
    folder: Path
    config: CalibrationConfig
    metadata: Mapping[str, str]
    accuracy: float | None = None
    trained_ranges: Mapping[str, Ranges] | None = None

    def batches(self, batch_size: int) -> Iterator[Images]:
        """Yield the images that ranges are measured on, prepared (n, H, W, 3)."""
        return self.judge.prepared.batches(self.images, batch_size)
