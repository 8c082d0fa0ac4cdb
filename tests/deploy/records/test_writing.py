from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.records.writing import record_path

PARITY = {"kind": "parity", "device": "pi", "runtime": "onnxruntime", "provider": "cpu", "precision": "int8"}
LATENCY = {**PARITY, "kind": "latency", "device": {"name": "pi"}, "batch_size": 1}


@pytest.mark.parametrize(
    ("record", "path"),
    [
        (PARITY, "parity/pi-onnxruntime-int8.json"),
        ({**PARITY, "kind": "flips"}, "flips/pi-onnxruntime-int8.json"),
        ({**PARITY, "provider": "openvino:GPU"}, "parity/pi-onnxruntime_openvino_GPU-int8.json"),
        ({**PARITY, "runtime": "tensorrt", "provider": "tensorrt"}, "parity/pi-tensorrt-int8.json"),
        ({**PARITY, "device": "my pi/../x"}, "parity/my_pi_.._x-onnxruntime-int8.json"),
        (LATENCY, "latency/pi-onnxruntime-int8.json"),
        ({**LATENCY, "batch_size": 8, "provider": "cuda"}, "latency/pi-onnxruntime_cuda-int8-b8.json"),
    ],
)
def test_a_record_lies_where_its_own_values_say(record: dict[str, Any], path: str) -> None:
    assert record_path(Path("bundle"), record) == Path("bundle") / path
