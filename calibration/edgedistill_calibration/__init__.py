"""INT8 calibration of a bundle: onnx and onnxruntime, no torch.

The names are loaded when they are first asked for, so that importing the package costs nothing and reading
settings needs neither onnx nor onnxruntime.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedistill_calibration.config import CalibrationConfig
    from edgedistill_calibration.quantize import calibrate
    from edgedistill_calibration.recovered import calibrate_recovered

__all__ = ["CalibrationConfig", "calibrate", "calibrate_recovered"]

_HOMES = {"CalibrationConfig": "config", "calibrate": "quantize", "calibrate_recovered": "recovered"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
