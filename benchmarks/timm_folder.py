"""The networks of the benchmarks' teachers, as the config.json of a folder in timm's layout describes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmNetwork:
    """A ResNet of timm for square grey images.

    `mean` and `std` are those of its input; `reduction` is how many pixels of a side its last map has a position for.
    """

    architecture: str
    model_args: Mapping[str, Any]
    input_size: int
    mean: float
    std: float
    reduction: int

    def folder_config(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the config.json of a teacher folder; `label_names` is in output order."""
        classes = len(class_names)
        return {
            "architecture": self.architecture,
            "num_classes": classes,
            "num_features": self.model_args["channels"][-1],
            "global_pool": "avg",
            "model_args": {"num_classes": classes, **self.model_args},
            "pretrained_cfg": {
                "input_size": [3, self.input_size, self.input_size],
                "fixed_input_size": False,
                "interpolation": "bilinear",
                "crop_pct": 1.0,
                "crop_mode": "center",
                "mean": [self.mean] * 3,
                "std": [self.std] * 3,
                "num_classes": classes,
                "pool_size": [self.input_size // self.reduction] * 2,
                "first_conv": "conv1",
                "classifier": "fc",
            },
            "label_names": list(class_names),
        }
