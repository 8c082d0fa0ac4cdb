"""Groups in an ONNX file: the probability of each is the sum of its members', in the runtime too."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgedistill.export.deployed import Deployed
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise

OUTPUTS = 60
REST = tuple(range(20, OUTPUTS))


@pytest.mark.parametrize(("opset", "scale"), [(17, 1.0), (17, 1000.0), (20, 1000.0)])
def test_a_runtime_adds_the_probabilities_of_members(tmp_path: Path, opset: int, scale: float) -> None:
    torch.manual_seed(0)
    head = nn.Linear(4 * 7 * 7, OUTPUTS)
    with torch.no_grad():
        head.weight.mul_(scale)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), head).eval()
    normalise = Normalise((0.5,) * 3, (0.5,) * 3)
    samples = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    path = tmp_path / "teacher.onnx"
    write_onnx(
        Deployed(model, normalise, ((3, 1, 4), 7, REST)), (16, 16), path, opset=opset, metadata={}, samples=samples
    )
    (given,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"image": samples[:2]}
    )
    with torch.no_grad():
        every = model(normalise(torch.from_numpy(samples[:2]))).double()
    kept = torch.softmax(every[:, [3, 1, 4, 7, *REST]], dim=1)
    sums = torch.stack([kept[:, :3].sum(1), kept[:, 3], kept[:, 4:].sum(1)], dim=1)
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(given).double(), 1), sums, atol=1e-4)
    assert scale == 1 or float(every.max()) > 100, "such logits overflow in a sum that is not shifted"
    assert np.isfinite(given).all()
