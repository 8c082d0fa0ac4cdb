"""The adapter on a real GPU with a real TensorRT: the same path as over the stand-in, and what only a GPU can show.

Not run yet: nobody of the project has had such a machine. `pytest -m tensorrt
tests/deploy/runtimes/tensorrt/test_gpu.py` runs it on one.
"""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.latency.measurement import LatencyConfig, measure_latency
from tensorrt_standin.models import images, write_network

pytestmark = pytest.mark.tensorrt

CHECKS = Path(__file__).resolve().parents[3] / "tensorrt_standin"


@pytest.fixture(autouse=True, scope="module")
def _real_tensorrt() -> None:
    """Skip where there is no TensorRT or no GPU."""
    try:
        importlib.import_module("tensorrt")
    except ImportError:
        pytest.skip("TensorRT is not installed")
    from edgedistill_deploy.runtimes.tensorrt._cudart import open_cuda

    try:
        open_cuda().gpu()
    except EdgeDistillError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("checks", ["check_api.py", "check_path.py"])
def test_every_check_of_the_path_passes(checks: str) -> None:
    options = ("-q", "--noconftest", "-p", "no:cacheprovider", "-o", f"python_files={checks}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(CHECKS / checks)],
        cwd=CHECKS.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_latency_is_measured_and_layers_add_up_to_it(tmp_path: Path, precision: str) -> None:
    from tensorrt_standin.check_path import opened

    with opened(write_network(tmp_path / "m.onnx", precision), precision) as session:
        assert session.provider == "tensorrt"
        report = measure_latency(session, images(4), LatencyConfig(duration_s=0.5, warmup_s=0.2))
        layers = session.layer_times({"image": images(1)}, 20)
    assert (report.model.runtime, report.model.provider, report.model.precision) == ("tensorrt", "tensorrt", precision)
    assert 0 < report.times.p50_ms < 1000
    assert sum(sorted(layer.samples_ms)[10] for layer in layers) > 0
