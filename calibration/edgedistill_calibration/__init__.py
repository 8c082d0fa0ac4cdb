"""INT8 calibration of a bundle: onnx and onnxruntime, no torch.

A name is loaded at its first use, so that an import of the package loads neither onnx nor onnxruntime.
"""

from typing import TYPE_CHECKING

from edgedistill_deploy.faces import build_face

if TYPE_CHECKING:
    from edgedistill_calibration.config import CalibrationConfig as CalibrationConfig
    from edgedistill_calibration.quantize import calibrate as calibrate
    from edgedistill_calibration.recovered import calibrate_recovered as calibrate_recovered
else:
    __getattr__, __dir__, __all__ = build_face(
        __name__, {"config": "CalibrationConfig", "quantize": "calibrate", "recovered": "calibrate_recovered"}
    )
