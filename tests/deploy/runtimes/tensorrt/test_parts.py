"""The parts of the TensorRT adapter that need neither TensorRT nor its stand-in."""

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.progress import silent
from edgedistill_deploy.runtimes.engine_options import EngineOptions, default_cache
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.tensorrt._cache import (
    Place,
    UnfitEngineError,
    engine_path,
    read_engine,
    timing_cache_path,
    write_engine,
)
from edgedistill_deploy.runtimes.tensorrt._cudart import Gpu
from edgedistill_deploy.runtimes.tensorrt._proof import (
    describe_proof,
    prove_precision,
    read_layers,
    read_precisions,
    require_precision,
)
from edgedistill_deploy.runtimes.tensorrt._steps import BuildSteps
from edgedistill_deploy.runtimes.tensorrt.session import _dtype, _layer_times
from tensorrt_standin.models import write_network

# Options


@pytest.mark.parametrize("batches", [(0, 1, 1), (2, 1, 4), (1, 8, 4)])
def test_batch_sizes_out_of_order_are_refused(batches: tuple[int, int, int]) -> None:
    low, opt, high = batches
    with pytest.raises(
        UsageError, match=rf"batch sizes are {low}, {opt} and {high} \(smallest, tuned for, largest\); they must be"
    ):
        EngineOptions(min_batch=low, opt_batch=opt, max_batch=high)


def test_a_workspace_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"workspace_bytes is 0; it must be 1 or more"):
        EngineOptions(workspace_bytes=0)


def test_options_tuned_for_a_batch_size_take_it() -> None:
    for size in (1, 8, 200):
        tuned = EngineOptions(min_batch=4, opt_batch=8).tuned_for(size)
        assert tuned.min_batch <= size == tuned.opt_batch <= tuned.max_batch
    assert EngineOptions().tuned_for(1) == EngineOptions()


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "edgedistill" / "tensorrt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EngineOptions().folder == tmp_path / ".cache" / "edgedistill" / "tensorrt"
    assert EngineOptions(cache=tmp_path).folder == tmp_path


# Progress


def test_phases_within_phases_make_one_progress() -> None:
    told: list[tuple[int, int, str]] = []
    steps = BuildSteps(lambda done, total, note="": told.append((done, total, note)))
    steps.start("build", None, 2)
    steps.start("tactics", "build", 4)
    assert all(steps.complete("tactics", place) for place in range(4))
    steps.finish("tactics")
    assert steps.complete("build", 0)
    steps.start("serialise", "build", 1)
    assert steps.complete("serialise", 0)
    steps.finish("serialise")
    assert steps.complete("build", 1)
    steps.finish("build")
    assert [done for done, _, _ in told] == [0, 0, 125, 250, 375, 500, 500, 500, 1000, 1000]
    assert {name for _, _, name in told} == {"build", "tactics", "serialise"}
    steps.raise_if_stopped()


def test_a_phase_that_never_began_or_does_too_much_does_no_harm() -> None:
    told: list[int] = []
    steps = BuildSteps(lambda done, total, note="": told.append(done))
    assert steps.complete("unknown", 3)
    steps.start("build", "unknown", 0)
    assert steps.complete("build", 7)
    steps.finish("other")
    assert told == [0, 1000]


def test_stopping_answers_the_next_step() -> None:
    steps = BuildSteps(silent)
    steps.start("build", None, 2)
    assert steps.complete("build", 0)
    steps.stop()
    assert not steps.complete("build", 1)
    with pytest.raises(KeyboardInterrupt):
        steps.raise_if_stopped()


def test_an_exception_out_of_the_progress_is_kept_for_the_caller() -> None:
    def fail(done: int, total: int, note: str = "") -> None:
        raise ValueError("enough")

    steps = BuildSteps(fail)
    steps.start("build", None, 2)
    assert not steps.complete("build", 0)
    with pytest.raises(ValueError, match="enough"):
        steps.raise_if_stopped()


# The proof


def inspected(*layers: dict[str, Any] | str) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": ["image", "logits"]})


def layer(name: str, reads: str, **more: Any) -> dict[str, Any]:
    tensors = [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": reads}]
    return {"Name": name, "LayerType": "CaskConvolution", "Inputs": tensors, "Outputs": [], **more}


# As TensorRT's versions write it, from NVIDIA's documentation and from engines that people have posted.
@pytest.mark.parametrize(
    ("described", "precision", "evidence"),
    [
        (layer("c", "Thirty-two wide channel vectorized row major Int8 format."), "int8", "inputs"),
        (layer("c", "Row major linear FP16 format"), "fp16", "inputs"),
        (layer("c", "Half"), "fp16", "inputs"),
        (layer("c", "Float"), "fp32", "inputs"),
        (layer("c", "Row major linear FP32"), "fp32", "inputs"),
        (layer("c", "BFloat16"), "bf16", "inputs"),
        (layer("c", "FP8"), "fp8", "inputs"),
        (layer("c", "UInt8"), None, None),
        (layer("c", "Int32"), None, None),
        (layer("c", "N/A due to dynamic shapes"), None, None),
        (layer("c", "Int8", Weights={"Type": "Float", "Count": 27}), "fp32", "weights"),
        (layer("c", "Int8", Weights={"Type": "Int8", "Count": 27}), "int8", "weights"),
        (layer("c", "Float", Weights={"Type": "Half", "Count": 27}), "fp16", "weights"),
        (layer("c", "Float", TacticName="sm80_xmma_gemm_i8f32_i8i32_f32_tn"), "int8", "kernel"),
        (layer("c", "Int8", TacticName="sm80_xmma_fprop_f16f16_f16f32_f32"), "fp16", "kernel"),
        (layer("c", "Half", TacticName="ampere_scudnn_128x64_f32f32_f32"), "fp32", "kernel"),
        (layer("c", "Half", TacticName="__myl_tactic"), "fp16", "inputs"),
        ("c", None, None),
    ],
)
def test_each_spelling_of_a_precision_is_read(described: Any, precision: str | None, evidence: str | None) -> None:
    (read,) = read_layers(inspected(described))
    assert (read.name, read.precision, read.evidence) == ("c", precision, evidence)


def test_fused_nodes_come_from_the_metadata_or_the_name() -> None:
    named, marked = read_layers(
        inspected(
            layer("conv_1 + relu_1", "Half"),
            layer("__myl_fused", "Half", Metadata="[ONNX Layer: conv_2]\x1e[ONNX Layer: relu_2]"),
        )
    )
    assert named.nodes == ("conv_1", "relu_1")
    assert marked.nodes == ("conv_2", "relu_2")


@pytest.mark.parametrize(("precision", "said"), [("fp32", "fp32"), ("fp16", "fp16"), ("int8", "int8")])
def test_the_file_says_what_each_weighted_node_is_in(tmp_path: Path, precision: str, said: str) -> None:
    path = write_network(tmp_path / "m.onnx", precision)
    assert read_precisions(path) == dict.fromkeys(("conv_1", "conv_2", "head"), said)


@pytest.fixture
def int8_network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "m.onnx", "int8")


def test_a_layer_that_runs_wider_makes_the_proof_mixed(int8_network: Path) -> None:
    layers = read_layers(inspected(layer("conv_1 + relu", "Int8"), layer("conv_2", "Float"), layer("quantize", "Int8")))
    proof = prove_precision(int8_network, "int8-tensorrt", layers)
    assert (proof.verdict, proof.as_said, proof.otherwise, proof.unknown) == (
        "mixed", ("conv_1",), {"conv_2": "fp32"}, ("head",),
    )  # fmt: skip
    require_precision(int8_network, proof)
    assert describe_proof(proof) == ("1 of 3 weighted layers run in int8; TensorRT runs wider conv_2 (fp32).")


def test_layers_that_move_data_prove_nothing(int8_network: Path) -> None:
    moved = {**layer("conv_1", "Float"), "LayerType": "Reformat"}
    whole = [layer(name, "Int8") for name in ("conv_1", "conv_2", "head")]
    proof = prove_precision(int8_network, "int8", read_layers(inspected(moved, *whole)))
    assert proof.verdict == "proven"
    assert describe_proof(proof) == "The inspector shows 3 of 3 weighted layers, in int8 as the file says."


def test_weights_outweigh_what_a_neighbour_reads(int8_network: Path) -> None:
    pointwise = layer("bias", "Float", Metadata="[ONNX Layer: conv_1]")
    kernel = layer("conv", "Int8", Metadata="[ONNX Layer: conv_1]", Weights={"Type": "Int8"})
    proof = prove_precision(int8_network, "int8", read_layers(inspected(pointwise, kernel)))
    assert proof.as_said == ("conv_1",)
    assert describe_proof(proof).endswith("the inspector does not name conv_2, head.")


def test_an_engine_nowhere_as_the_file_says_is_refuted(int8_network: Path) -> None:
    layers = read_layers(inspected(layer("conv_1", "Float"), layer("conv_2", "Half"), layer("head", "Half")))
    proof = prove_precision(int8_network, "int8", layers)
    assert proof.verdict == "refuted"
    with pytest.raises(
        EdgeDistillError, match=r"whose layers are int8, entirely in fp16, fp32: conv_1, conv_2, head; nothing is"
    ):
        require_precision(int8_network, proof)


def test_without_detail_nothing_is_proven(int8_network: Path) -> None:
    proof = prove_precision(int8_network, "int8", read_layers(inspected("conv_1 + relu", "conv_2", "head")))
    assert (proof.verdict, len(proof.unknown)) == ("unproven", 3)
    require_precision(int8_network, proof)
    assert "does not tell" in describe_proof(proof)


# Engines on disk

ORIN = Place(version="10.3.0", gpu=Gpu(name="Orin", compute_capability=(8, 7)))


def record_for(place: Place) -> dict[str, Any]:
    return {
        "onnx": {"name": "m.onnx", "sha256": "a" * 64},
        "tensorrt": place.version,
        "gpu": {"name": place.gpu.name, "compute_capability": place.gpu.capability},
        "options": EngineOptions().to_json(),
    }


def test_the_name_depends_on_all_that_decides_over_the_engine(tmp_path: Path) -> None:
    options = EngineOptions(cache=tmp_path)
    model = Path("model.int8-tensorrt.onnx")
    newer = Place(version="10.4.0", gpu=ORIN.gpu)
    other = Place(version="10.3.0", gpu=Gpu(name="Orin", compute_capability=(8, 9)))
    named = Place(version="10.3.0", gpu=Gpu(name="Orin Nano", compute_capability=(8, 7)))
    paths = {engine_path(model, sha, ORIN, options) for sha in ("a", "b")}
    paths |= {engine_path(model, "a", place, options) for place in (newer, other, named)}
    paths |= {engine_path(model, "a", ORIN, EngineOptions(cache=tmp_path, hardware_compatible=True))}
    assert len(paths) == 6
    assert all(path.name.startswith("model.int8-tensorrt-") and path.suffix == ".engine" for path in paths)
    assert timing_cache_path(ORIN, options) == tmp_path / "timing-10.3.0-orin-sm8.7.cache"


def test_an_engine_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_engine(tmp_path / "m.engine", b"plan", record_for(ORIN))
    plan, record = read_engine(tmp_path / "m.engine", "a" * 64, ORIN)
    assert (plan, record) == (b"plan", written)


def test_a_plan_without_its_end_is_refused(tmp_path: Path) -> None:
    write_engine(tmp_path / "m.engine", b"plan", record_for(ORIN))
    (tmp_path / "m.engine").write_bytes(b"pla")
    with pytest.raises(UnfitEngineError, match=r"m\.engine is missing or was changed after it was built"):
        read_engine(tmp_path / "m.engine", "a" * 64, ORIN)


def test_a_sidecar_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    write_engine(tmp_path / "m.engine", b"plan", record_for(ORIN))
    with (tmp_path / "m.json").open("r+b") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(UnfitEngineError, match=r"m\.json is far too large for what describes an engine"):
        read_engine(tmp_path / "m.engine", "a" * 64, ORIN)


# What TensorRT tells


@pytest.mark.parametrize("rows", [[[]], [[("a", 1.0)], []], [[("a", 1.0), ("b", 2.0)], [("b", 1.0), ("a", 2.0)]]])
def test_times_that_do_not_line_up_are_refused(rows: list[list[tuple[str, float]]]) -> None:
    with pytest.raises(EdgeDistillError, match=r"profiler told no times, or those of other layers from run to run"):
        _layer_times(rows)


def test_layers_of_one_name_stay_apart() -> None:
    times = _layer_times([[("a", 1.0), ("b", 2.0), ("a", 3.0)], [("a", 4.0), ("b", 5.0), ("a", 6.0)]])
    assert [(layer.name, layer.samples_ms) for layer in times] == [
        ("a", (1.0, 4.0)), ("b", (2.0, 5.0)), ("a", (3.0, 6.0)),
    ]  # fmt: skip


def test_a_type_that_numpy_lacks_is_named() -> None:
    with pytest.raises(EdgeDistillError, match=r"The tensor logits is of TensorRT's type BF16, which numpy lacks"):
        _dtype(types.SimpleNamespace(name="BF16"), "logits")


# What is not installed


def test_without_tensorrt_its_install_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        MissingDependencyError,
        match=(
            r"Running a model with TensorRT needs tensorrt, which is not installed: pip install "
            r"'edgedistill\[tensorrt\]'"
        ),
    ):
        open_model(write_network(tmp_path / "m.onnx"), precision="fp32", runtime="tensorrt")


def test_another_major_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = "8.5.2.2"
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(
        EdgeDistillError, match=r"TensorRT 8\.5\.2\.2 is installed, and edgedistill runs with TensorRT 10"
    ):
        open_model(write_network(tmp_path / "m.onnx"), precision="fp32", runtime="tensorrt")


def test_a_tensorrt_without_its_libraries_says_so(tmp_path: Path) -> None:
    site = tmp_path / "site" / "tensorrt"
    site.mkdir(parents=True)
    model = write_network(tmp_path / "m.onnx")
    for body, reason in (
        ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10"),
        ("import tensorrt_libs_that_are_not_there", "tensorrt_libs_that_are_not_there"),
    ):
        (site / "__init__.py").write_text(body + "\n", encoding="utf-8")
        done = run_python(
            "from pathlib import Path; from edgedistill_deploy.runtimes.opening import open_model;"
            f"open_model(Path({str(model)!r}), precision='fp32', runtime='tensorrt')",
            tmp_path / "site",
        )
        assert "EdgeDistillError: TensorRT is installed but cannot be loaded" in done
        assert reason in done


@pytest.mark.parametrize("hidden", ["", "sys.modules['cuda'] = None;"])
def test_a_machine_without_a_driver_is_told_so_by_cuda_itself(hidden: str, tmp_path: Path) -> None:
    """The real runtime, by cuda-python and by ctypes, as far as a machine has either: that is all that runs without a
    GPU."""
    code = (
        f"import sys; {hidden} from edgedistill_deploy.runtimes.tensorrt._cudart import open_cuda; "
        "cuda = open_cuda(); print(cuda.library, cuda.gpu())"
    )
    said = run_python(code, tmp_path)
    assert "Gpu(name=" in said or "CUDA finds none here" in said or "nor libcudart.so was found" in said


def test_without_any_cuda_runtime_the_sentence_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import ctypes, sys; sys.modules['cuda'] = None\n"
        "def none(name, mode=0): raise OSError(name)\n"
        "ctypes.CDLL = none\n"
        "from edgedistill_deploy.runtimes.tensorrt._cudart import open_cuda\n"
        "open_cuda()"
    )
    said = run_python(code, tmp_path)
    assert "needs the CUDA runtime, and neither cuda-python nor libcudart.so was found; install CUDA" in said


def run_python(code: str, folder: Path) -> str:
    """Run code in a process whose path begins with a folder, and return what it printed and raised."""
    paths = ":".join([str(folder), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr
