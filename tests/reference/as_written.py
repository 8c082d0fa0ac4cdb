"""What an ONNX file means: its graph computed node by node, in float32, whatever INT8 kernels the processor has."""

from pathlib import Path

import onnx
import onnxruntime


def open_as_written(model: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Load a model without any graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
