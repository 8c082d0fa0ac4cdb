"""INT8 calibration of a bundle: onnx and onnxruntime, no torch."""
