"""A table of timm's families: each exports with a free batch size, and computes on real images what torch does."""

import copy
import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import timm
import torch
from torch import nn

from edgedistill.data.sources import open_source
from edgedistill.export.deployed import Deployed
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model
from reference.architectures import ARCHITECTURES, SLOW_ARCHITECTURES, architecture

ROWS = ARCHITECTURES | SLOW_ARCHITECTURES
# Small ones that export differently: depthwise with hard swish, a transformer with registers, one with windows.
FAST = ("mobilenetv3_small_050", "vit_little_patch16_reg4_gap_256", "swin_tiny_patch4_window7_224")

# The quick ones have few blocks, of every kind that they have: a Swin's second window is shifted.
SHALLOW: dict[str, dict[str, object]] = {
    "vit_little_patch16_reg4_gap_256": {"depth": 2},
    "swin_tiny_patch4_window7_224": {"depths": (1, 2), "num_heads": (1, 2)},
}


def rows(fast: tuple[str, ...]) -> list[object]:
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in ROWS]


def deployed(name: str) -> Deployed:
    """One of the table as if trained a little: no branch at or near zero, where many families start, and the batch
    norms' own statistics, without which a deep one is deaf to its input."""
    model = shallow(name) if name in SHALLOW else copy.deepcopy(architecture(name))
    normalise = Normalise((0.5,) * 3, (0.5,) * 3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter, each in model.named_parameters():
            if each.ndim == 1 and "bias" not in parameter and float(each.abs().max()) < 0.1:
                each.uniform_(0.5, 1.0, generator=generator)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(normalise(torch.from_numpy(digits(ROWS[name].size, 8))))
    return Deployed(model.eval(), normalise)


def shallow(name: str) -> nn.Module:
    """Build one of the table with few blocks."""
    row = ROWS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(row.model, num_classes=10, **{**row.options, **SHALLOW[name]})
    return model


@functools.cache
def digits(size: int, count: int) -> npt.NDArray[np.uint8]:
    images = open_source("embedded:digits").test
    assert images is not None
    prepared = Preprocess(size=(size, size))
    return np.stack([prepared.apply(images.read(index)) for index in range(0, 40 * count, 40)])


@pytest.mark.parametrize("name", rows(FAST))
def test_the_file_computes_what_torch_does(name: str, tmp_path: Path) -> None:
    check(name, tmp_path / "m.onnx", opset=20, exporters={"dynamo", "torchscript"})


@pytest.mark.parametrize("name", rows(("mobilenetv3_small_050", "vit_little_patch16_reg4_gap_256")))
def test_so_does_that_of_the_other_exporter(name: str, tmp_path: Path) -> None:
    opset = 18 if name == "volo_d1_224" else 17  # its operator col2im begins with 18
    check(name, tmp_path / "m.onnx", opset=opset, exporters={"torchscript"} if opset < 18 else {"dynamo"})


def check(name: str, path: Path, opset: int, exporters: set[str]) -> None:
    model, samples = deployed(name), digits(ROWS[name].size, 3)
    record = write_onnx(model, (ROWS[name].size,) * 2, path, opset=opset, metadata={}, samples=samples)
    assert record.exporter in exporters
    with torch.no_grad():
        expected = model(torch.from_numpy(samples)).numpy()
    assert np.ptp(expected, axis=0).max() > 3e-3 * np.abs(expected).max(), "the images are told apart"
    with open_model(path, precision="fp32") as session:
        for count in (1, 2, 3):
            given = logits_of(session, samples[:count])
            assert np.abs(given - expected[:count]).max() <= 1e-3 * np.abs(expected).max()
    assert {entry.domain: entry.version for entry in onnx.load(path).opset_import} == {"": opset}
