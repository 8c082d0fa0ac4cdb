"""What goes wrong with TensorRT, imitated by the stand-in, and the sentence that the adapter makes of it."""

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import tensorrt as trt

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.latency.measurement import measure_latency
from edgedistill_deploy.runtimes.tensorrt._cudart import open_cuda
from tensorrt_standin.check_path import opened
from tensorrt_standin.models import images, write_network

MAJOR = int(trt.__version__.partition(".")[0])


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "m.onnx")


def built_engine(network: Path, **options: Any) -> Path:
    with opened(network, **options) as session:
        return Path(session.engine_record["path"])


def edit_sidecar(engine: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    sidecar = engine.with_suffix(".json")
    record = json.loads(sidecar.read_bytes())
    edit(record)
    sidecar.write_text(json.dumps(record), encoding="utf-8")


# What is measured through the stand-in is nothing


def test_a_stand_in_runs_but_refuses_to_be_timed(network: Path) -> None:
    with opened(network) as session:
        assert session.run({"image": images(1)})["logits"].shape == (1, 3)
        with pytest.raises(EdgeDistillError, match=r"stand in for TensorRT's in the tests and refuse to be timed"):
            measure_latency(session, images(1))


# Precision


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_in_plain_fp32_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setenv("STANDIN_BUILDS", "float")
    with pytest.raises(
        EdgeDistillError,
        match=(
            rf"TensorRT built m\.onnx, whose layers are {precision}, entirely in fp32: conv_1, "
            r"conv_2, head; nothing is measured"
        ),
    ):
        opened(write_network(tmp_path / "m.onnx", precision), precision)
    assert not list(tmp_path.glob("cache/*.engine"))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_file_of_another_precision_than_it_is_said_to_have_is_refused(network: Path, precision: str) -> None:
    with pytest.raises(
        EdgeDistillError, match=rf"m\.onnx is said to be {precision}, but none of its convolutions and matrix"
    ):
        opened(network, precision)


def test_an_inspector_that_tells_nothing_proves_nothing(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_BUILDS", "silent")
    with opened(network, tf32=True) as session:
        proof = session.engine_record["proof"]
    assert proof["verdict"] == "unproven"
    assert "does not tell the precision" in proof["detail"]


# Files that do not fit


def test_a_plan_that_was_changed_is_built_anew(network: Path) -> None:
    engine = built_engine(network)
    engine.write_bytes(engine.read_bytes()[:-1] + b"!")
    with opened(network) as session:
        assert "was changed after it was built" in session.engine_record["rebuilt_because"]
        assert session.run({"image": images(1)})["logits"].shape == (1, 3)
    with opened(network) as session:
        assert session.engine_record["cached"]


def test_a_plan_that_tensorrt_refuses_is_built_anew(network: Path) -> None:
    engine = built_engine(network)
    engine.write_bytes(b"no plan at all, but the sidecar says that it is this")
    from edgedistill_deploy.files.writing import sha256_of_file

    edit_sidecar(engine, lambda record: record["engine"].update(sha256=sha256_of_file(engine)))
    with opened(network) as session:
        reason = session.engine_record["rebuilt_because"]
    assert f"TensorRT {trt.__version__} cannot load" in reason
    assert "magicTagRead" in reason


@pytest.mark.parametrize("damage", ["missing", "cut", "another", "versionless"])
def test_an_engine_without_a_sound_sidecar_is_built_anew(network: Path, damage: str) -> None:
    engine = built_engine(network)
    sidecar = engine.with_suffix(".json")
    if damage == "missing":
        sidecar.unlink()
    elif damage == "cut":
        sidecar.write_text(sidecar.read_text(encoding="utf-8")[:40], encoding="utf-8")
    elif damage == "another":
        sidecar.write_text('{"kind": "latency", "schema": 1}', encoding="utf-8")
    else:
        edit_sidecar(engine, lambda record: record.update(tensorrt="new"))
    with opened(network) as session:
        reason = session.engine_record["rebuilt_because"]
    assert ("no readable" if damage == "missing" else "does not describe an engine") in reason


OTHER = "11.2.0.5" if MAJOR == 10 else "10.3.0"


def set_version(engine: Path, version: str) -> None:
    edit_sidecar(engine, lambda record: record.update(tensorrt=version))


def test_a_plan_of_another_version_is_refused_before_it_is_loaded(network: Path) -> None:
    engine = built_engine(network)
    set_version(engine, OTHER)
    with pytest.raises(
        EdgeDistillError,
        match=(
            rf"was built by TensorRT {OTHER}, and this is TensorRT {MAJOR}\.[\d.]+: a plan runs on "
            r"the version that built it"
        ),
    ):
        opened(network, file=engine)
    with opened(network) as session:
        assert f"was built by TensorRT {OTHER}" in session.engine_record["rebuilt_because"]


def test_a_version_compatible_plan_runs_on_later_versions_alone(network: Path) -> None:
    engine = built_engine(network, version_compatible=True)
    for version, fits in ((f"{MAJOR}.0.0", True), (f"{MAJOR}.99.0", False), ("10.3.0", True), ("8.6.1", False)):
        set_version(engine, version)
        if fits:
            with opened(network, file=engine, version_compatible=True) as session:
                assert session.run({"image": images(1)})["logits"].shape == (1, 3)
        else:
            with pytest.raises(EdgeDistillError, match=r"version-compatible, and this is TensorRT .* runs on later"):
                opened(network, file=engine, version_compatible=True)


def test_another_gpu_needs_another_engine(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = built_engine(network)
    monkeypatch.setenv("STANDIN_SM", "72")
    with pytest.raises(
        EdgeDistillError, match=r"was built for stand-in .* \(compute capability 8\.7\), and this is .* \(7\.2\); build"
    ):
        opened(network, file=engine)
    with opened(network) as session:
        assert not session.engine_record["cached"]
        assert session.engine_record["gpu"]["compute_capability"] == "7.2"


def test_a_hardware_compatible_engine_runs_from_ampere_on(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = built_engine(network, hardware_compatible=True)
    monkeypatch.setenv("STANDIN_SM", "90")
    with opened(network, file=engine) as session:
        assert session.run({"image": images(1)})["logits"].shape == (1, 3)
    monkeypatch.setenv("STANDIN_SM", "75")
    with pytest.raises(EdgeDistillError, match=r"hardware-compatible, which begins with Ampere \(8\.0\), and this is"):
        opened(network, file=engine)


def test_the_engine_of_another_model_is_refused(network: Path, tmp_path: Path) -> None:
    engine = built_engine(network)
    other = write_network(tmp_path / "other.onnx", batch=3)
    with pytest.raises(EdgeDistillError, match=r"was built from another model, m\.onnx; build it again"):
        opened(other, file=engine)


# Models that do not build


def test_pixels_that_are_not_cast_first_are_pointed_out(tmp_path: Path) -> None:
    path = write_network(tmp_path / "m.onnx", first="Transpose")
    with pytest.raises(
        EdgeDistillError,
        match=r"cannot parse m\.onnx: node to_planes \(Transpose\): .* a uint8 input must be cast to "
        r"float first, and here Transpose"
        r" reads it before; export the model again\.$",
    ):
        opened(path)


def test_a_free_image_size_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path / "m.onnx", width="width")
    with pytest.raises(
        EdgeDistillError, match=r"leaves more free than the batch size: its input image is \(-1, 8, -1, 3\); export it"
    ):
        opened(path)


def test_an_output_whose_size_depends_on_the_values_is_refused(network: Path) -> None:
    model = onnx.load(network)
    model.graph.node.append(onnx.helper.make_node("NonZero", ["logits"], ["spots"], name="spots"))
    spots = onnx.helper.make_tensor_value_info("spots", onnx.TensorProto.INT64, [2, "count"])
    model.graph.output.append(spots)
    onnx.save(model, network)
    with (
        opened(network) as session,
        pytest.raises(EdgeDistillError, match=r"The output spots of m\.onnx has a size that depends on the values"),
    ):
        session.run({"image": images(1)})


def test_a_build_that_fails_gives_tensorrts_reason(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_BUILDS", "nothing")
    with pytest.raises(
        EdgeDistillError,
        match=r"TensorRT 1[01]\.[\d.]+ cannot build an engine from m\.onnx: Could not find any implementation for node",
    ):
        opened(network)


# The GPU


def test_without_a_gpu_the_sentence_says_what_to_check(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_GPUS", "0")
    with pytest.raises(
        EdgeDistillError, match=r"needs an NVIDIA GPU, and CUDA finds none here \(cudaErrorNoDevice\); check"
    ):
        opened(network)


@pytest.mark.parametrize(
    ("function", "doing"),
    [
        ("cudaMalloc", "allocating 192 bytes on the GPU"),
        ("cudaMemcpyAsync", "copying to the GPU"),
        ("cudaGetLastError", r"starting m\.onnx"),
        ("cudaStreamSynchronize", "computing"),
    ],
)
def test_an_error_of_cuda_is_raised_with_its_name(
    network: Path, monkeypatch: pytest.MonkeyPatch, function: str, doing: str
) -> None:
    with opened(network) as session:
        monkeypatch.setenv("STANDIN_FAIL", function)
        with pytest.raises(
            EdgeDistillError, match=rf"CUDA failed while {doing}: cudaErrorIllegalAddress \(error 700\)\."
        ):
            session.run({"image": images(1)})
        monkeypatch.delenv("STANDIN_FAIL")


def test_too_little_memory_comes_with_advice() -> None:
    with pytest.raises(
        EdgeDistillError,
        match=r"allocating 1099511627776 bytes on the GPU: cudaErrorMemoryAllocation .* Free device memory, or build",
    ):
        open_cuda().allocate(1 << 40)


def test_all_device_memory_is_given_back(network: Path) -> None:
    alive = ctypes.CDLL(open_cuda().library, mode=os.RTLD_NOLOAD).standin_alive
    before = alive()
    with opened(network) as session:
        for count in (1, 9, 3):
            session.run({"image": images(count)})
        session.layer_times({"image": images(2)}, 2)
        assert alive() == before + 4  # a stream, and memory for an input and two outputs
    assert alive() == before


def test_the_workspace_is_half_of_the_free_memory_unless_said(network: Path) -> None:
    with opened(network) as session:
        assert session.engine_record["workspace_bytes"] == 3 << 30
    with opened(network, workspace_bytes=5 << 20) as session:
        assert session.engine_record["workspace_bytes"] == 5 << 20
