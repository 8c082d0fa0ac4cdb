"""The providers that this machine can install, each with its own ONNX Runtime in an environment of its own, on a real
model."""

import json
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.reference import write_golden
from reference.measured_bundles import bundle_of
from reference.measured_models import images_of, logits_of_images, write_model

pytestmark = [pytest.mark.slow, pytest.mark.network]

_DEPLOY = Path(__file__).parents[3] / "deploy"
_ANSWER = """
import json, sys
from pathlib import Path
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.runtimes.logits import logits_of; from edgedistill_deploy.runtimes.opening import open_model
folder, provider = Path(sys.argv[1]), sys.argv[2]
images, expected = read_golden(folder / "golden.npz")
try:
    with open_model(folder / "m.onnx", precision="fp32", provider=provider, threads=1) as session:
        error = float(abs(logits_of(session, images) - expected).max())
        print(json.dumps({"placement": dict(session.placement), "error": error}))
except EdgeDistillError as refusal:
    print(json.dumps({"refused": str(refusal)}))
"""


def _environment(folder: Path, *packages: str) -> Path:
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = subprocess.run(
        check=False,
        args=[python, "-m", "pip", "install", "--quiet", "numpy", "Pillow", *packages],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"{packages[0]} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return python


def _answers(python: Path, folder: Path, provider: str) -> Mapping[str, Any]:
    done = subprocess.run(
        [python, "-c", _ANSWER, str(folder), provider],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(_DEPLOY), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    answer: Mapping[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return answer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "m.onnx")
    images = images_of([0, 1, 2, 1])
    write_golden(tmp_path / "golden.npz", images, logits_of_images(images))
    return tmp_path


def test_openvino_takes_every_node_and_a_device_that_is_not_there_is_refused(model: Path) -> None:
    python = _environment(model / "venv", "onnxruntime-openvino")
    answer = _answers(python, model, "openvino")
    assert set(answer["placement"]) == {"openvino"}
    assert answer["error"] < 1e-4
    assert (
        "loaded m.onnx on CPUExecutionProvider where openvino:GPU" in _answers(python, model, "openvino:GPU")["refused"]
    )


_PROFILE = """
import json, sys
from pathlib import Path
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.profiling.run import run_profile
from edgedistill_deploy.runtimes.opening import providers_beside_cpu
quick = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.0, min_runs=20)
added = providers_beside_cpu()
if __name__ == "__main__":
    profile = run_profile(Path(sys.argv[1]), ProfileRequest(latency=quick, precisions=("fp32",), added=added))
    places = [[record["provider"], record["placement"]] for record in profile["records"]]
    print(json.dumps({"beside": added, "places": places, "left_out": profile["left_out"]}))
"""


def test_openvino_is_measured_beside_the_cpu_where_it_is_installed(model: Path) -> None:
    bundle, _ = bundle_of(model, [0, 1], [0, 1], [0, 1])
    python = _environment(model / "venv", "onnxruntime-openvino")
    done = subprocess.run(
        [python, "-c", _PROFILE, str(bundle.path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(_DEPLOY), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    found = json.loads(done.stdout)
    assert (found["beside"], found["left_out"]) == (["openvino"], [])
    assert [(provider, set(placed)) for provider, placed in found["places"]] == [
        ("cpu", {"cpu"}),
        ("openvino", {"openvino"}),
    ]


def test_qnn_comes_as_a_plug_in_and_takes_what_has_a_fixed_shape(model: Path) -> None:
    # Off Qualcomm's chips its compiler and a simulator run. What the simulator answers is not what the model computes;
    # that the nodes are placed and a batch goes through image by image is what can be seen here.
    python = _environment(model / "venv", "onnxruntime", "onnxruntime-qnn")
    answer = _answers(python, model, "qnn:soc_model=60")
    assert answer["placement"]["qnn"] > 0
