import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.errors import BundleError, EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.runtimes._onnxruntime import open_onnx
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model, open_session
from edgedistill_deploy.runtimes.session import SessionRequest, TensorSpec, usable_cores
from played_clock import PlayedClock
from reference.measured_models import images_of, logits_of_images, write_model

_IMAGES = images_of([0, 1, 2, 1])


def _bundle(folder: Path, *roles: str) -> Bundle:
    bundle = create_bundle(
        folder,
        subtask={"name": "colours", "class_names": ["red", "green", "blue"], "class_indices": [0, 1, 2]},
        preprocess=Preprocess(size=(4, 4)),
        teacher={},
        student={},
        provenance={},
    )
    for role in roles:
        bundle = bundle.with_file(role, write_model(folder / f"{role}.onnx"))
    return bundle


def _edited(path: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(write_model(path))
    edit(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_logits_are_those_computed_without_a_runtime(tmp_path: Path) -> None:
    with open_session(_bundle(tmp_path, "model.fp32")) as session:
        logits = logits_of(session, _IMAGES)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, logits_of_images(_IMAGES), rtol=1e-5)


def test_a_session_says_what_it_runs(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, "model.fp32", "model.int8")
    with open_session(bundle, precision="int8", threads=1) as session:
        assert session.inputs == (TensorSpec("image", (None, 4, 4, 3), "uint8"),)
        assert session.outputs == (TensorSpec("logits", (None, 3), "float32"),)
        assert (session.runtime, session.provider, session.precision) == ("onnxruntime", "cpu", "int8")
        assert session.model_path == tmp_path / "model.int8.onnx"
        assert session.model_sha256 == sha256_of_file(session.model_path)
        assert session.threads == 1
        assert session.load_ms > 0


def test_the_teacher_is_a_precision_of_its_own(tmp_path: Path) -> None:
    with open_session(_bundle(tmp_path, "teacher.fp32"), precision="teacher") as session:
        assert session.model_path.name == "teacher.fp32.onnx"
        assert session.precision == "teacher"


@pytest.mark.parametrize(
    ("roles", "name"),
    [
        (("model.int8-fp16-tensorrt",), "model.int8-fp16-tensorrt.onnx"),
        (("model.int8-fp16-tensorrt", "model.int8-tensorrt", "model.int8"), "model.int8-tensorrt.onnx"),
    ],
)
def test_what_tensorrt_is_offered_as_int8_it_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roles: tuple[str, ...], name: str
) -> None:
    opened: list[SessionRequest] = []
    adapter = SimpleNamespace(open_onnx=opened.append)
    monkeypatch.setitem(sys.modules, "edgedistill_deploy.runtimes.tensorrt.adapter", adapter)
    bundle = _bundle(tmp_path, *roles)
    for precision in bundle.precisions_for("tensorrt"):
        open_session(bundle, runtime="tensorrt", precision=precision)
    assert [(request.precision, request.path.name) for request in opened] == [("int8", name)]


def test_a_folder_may_stand_for_its_bundle(tmp_path: Path) -> None:
    _bundle(tmp_path, "model.fp32")
    with open_session(tmp_path) as session:
        assert len(logits_of(session, _IMAGES)) == 4


def test_a_bare_model_opens_alike(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    with open_model(path, precision="fp16") as session:
        np.testing.assert_allclose(logits_of(session, _IMAGES), logits_of_images(_IMAGES), rtol=1e-5)
        assert session.model_sha256 == sha256_of_file(path)
        assert session.precision == "fp16"


def test_load_time_is_the_clocks_difference_in_milliseconds(tmp_path: Path) -> None:
    clock = PlayedClock(readings_ns=iter([5_000_000, 2_500_000]))
    path = write_model(tmp_path / "m.onnx")
    request = SessionRequest(path=path, sha256="", precision="fp32", provider="cpu", threads=1, clock=clock)
    with open_onnx(request) as session:
        assert session.load_ms == 2.5


def test_opening_and_running_writes_nothing_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with open_model(write_model(tmp_path / "m.onnx"), precision="fp32") as session, pytest.raises(EdgeDistillError):
        session.run({"image": _IMAGES[:, :2]})
    (tmp_path / "m.onnx").write_bytes(b"damaged")
    with pytest.raises(EdgeDistillError):
        open_model(tmp_path / "m.onnx", precision="fp32")
    assert capfd.readouterr() == ("", "")


# Threads and options


def test_all_usable_cores_are_used_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m.onnx")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    with open_model(path, precision="fp32") as session:
        assert session.threads == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_threads_reach_the_runtime_and_nothing_runs_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = onnxruntime.InferenceSession

    def recording(*args: Any, **options: Any) -> Any:
        seen.append(options)
        return real(*args, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", recording)
    with open_model(write_model(tmp_path / "m.onnx"), precision="fp32", threads=2):
        options = seen[0]["sess_options"]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert seen[0]["enable_fallback"] == 0


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_impossible_thread_counts_are_refused(tmp_path: Path, threads: int) -> None:
    with pytest.raises(UsageError, match=rf"threads is {threads}; it must lie between 1 and 1024, or be left out"):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", threads=threads)


# Names


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, "model.fp32")
    with pytest.raises(UsageError, match=r"There is no runtime 'onnxruntme'\. Did you mean onnxruntime\?"):
        open_session(bundle, runtime="onnxruntme")
    with pytest.raises(UsageError, match=r"There is no precision 'fp8'\."):
        open_session(bundle, precision="fp8")
    with pytest.raises(UsageError, match=r"There is no precision 'fp8'\."):
        open_model(tmp_path / "model.fp32.onnx", precision="fp8")
    with pytest.raises(UsageError, match=r"ONNX Runtime has no provider 'cdua' here\. Did you mean cuda\?"):
        open_session(bundle, provider="cdua")


def test_a_precision_the_bundle_lacks_names_those_it_has(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, "model.fp32", "teacher.fp32")
    with pytest.raises(BundleError, match=r"has no model of precision int8; it has fp32, teacher\."):
        open_session(bundle, precision="int8")
    with pytest.raises(BundleError, match=r"has no model of precision fp32; it has none\."):
        open_session(Bundle(path=tmp_path, manifest={**bundle.manifest, "files": {}}))


def test_a_changed_model_is_not_run(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, "model.fp32")
    _edited(tmp_path / "model.fp32.onnx", lambda model: setattr(model.graph, "name", "evil"))
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx was changed after"):
        open_session(bundle)


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeDistillError, match=r"There is no model file .*gone\.onnx"):
        open_model(tmp_path / "gone.onnx", precision="fp32")


# Files that cannot be opened


def test_without_the_runtime_its_install_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs onnxruntime, which is not installed: pip install 'edgedistill\[ort\]'"
    ):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32")


def _set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set_opset, r"Opset 99 .* To go on, upgrade onnxruntime, or export the model again\."),
        (lambda model: setattr(model, "ir_version", 99), r"IR version: 99, .* To go on, upgrade onnxruntime"),
        (
            lambda model: setattr(model.graph.node[0], "op_type", "Csat"),
            r"No Op registered for Csat.* To go on, upgrade onnxruntime",
        ),
        (lambda model: model.graph.ClearField("node"), r"To go on, rebuild or restore the file"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], object], message: str
) -> None:
    path = _edited(tmp_path / "m.onnx", edit)
    with pytest.raises(EdgeDistillError, match=rf"ONNX Runtime [\d.]+ cannot load .*m\.onnx: .*{message}") as caught:
        open_model(path, precision="fp32")
    assert "\n" not in str(caught.value)
    assert "[ONNXRuntimeError]" not in str(caught.value)


@pytest.mark.parametrize("data", [b"\x08\x08", b"\x08\x08" * 50])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(EdgeDistillError, match=r"cannot load .*m\.onnx: .* To go on, rebuild or restore the file"):
        open_model(tmp_path / "m.onnx", precision="fp32")


# Runs that fail


@pytest.mark.parametrize(
    ("feeds", "given"),
    [
        ({"image": _IMAGES[:, :2]}, r"image uint8 \(4, 2, 4, 3\)"),
        ({"image": _IMAGES[0]}, r"image uint8 \(4, 4, 3\)"),
        ({"image": _IMAGES.astype(np.float32)}, r"image float32 \(4, 4, 4, 3\)"),
        ({"picture": _IMAGES}, r"picture uint8 \(4, 4, 4, 3\)"),
        ({"image": _IMAGES, "mask": _IMAGES[0]}, r"image uint8 \(4, 4, 4, 3\) and mask uint8 \(4, 4, 3\)"),
        ({}, r"nothing"),
        ({"image": "photo.jpg"}, r"image <U9 \(\)"),
    ],
)
def test_wrong_feeds_say_what_was_expected_and_given(tmp_path: Path, feeds: dict[str, Any], given: str) -> None:
    with (
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32") as session,
        pytest.raises(
            EdgeDistillError,
            match=rf"m\.onnx failed on ONNX Runtime: it takes image uint8 \(any, 4, 4, 3\) and was given {given}\.$",
        ),
    ):
        session.run(feeds)


def test_a_failure_inside_the_model_keeps_the_runtimes_reason(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", "four_rows_only")
    with (
        open_model(path, precision="fp32") as session,
        pytest.raises(EdgeDistillError, match=r"was given image uint8 \(3, 4, 4, 3\)\. .*Add"),
    ):
        session.run({"image": _IMAGES[:3]})


def test_a_closed_session_runs_no_more(tmp_path: Path) -> None:
    with open_model(write_model(tmp_path / "m.onnx"), precision="fp32") as session:
        pass
    with pytest.raises(EdgeDistillError, match=r"The session of m\.onnx is closed; open it again"):
        session.run({"image": _IMAGES})


def test_any_number_of_images_runs(tmp_path: Path) -> None:
    with open_model(write_model(tmp_path / "m.onnx"), precision="fp32") as session:
        for count in (1, 2, 7, 64):
            images = images_of([0] * count, seed=count)
            np.testing.assert_allclose(logits_of(session, images), logits_of_images(images), rtol=1e-5)


# Logits


def _write_identity(path: Path, input_name: str, output_name: str, axes: int) -> Path:
    nodes = [helper.make_node("Cast", [input_name], [output_name], to=TensorProto.FLOAT)]
    if axes == 2:
        nodes = [
            helper.make_node("Cast", [input_name], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["pixels"], [output_name], axis=2),
        ]
    graph = helper.make_graph(
        nodes,
        "identity",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [None] * axes)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("input", "logits"), r"m\.onnx takes input and gives logits; a bundle's model takes image and gives logits"),
        (("image", "output"), r"m\.onnx takes image and gives output; a bundle's model"),
    ],
)
def test_a_model_of_another_interface_is_refused(tmp_path: Path, names: tuple[str, str], message: str) -> None:
    path = _write_identity(tmp_path / "m.onnx", *names, 4)
    with open_model(path, precision="fp32") as session, pytest.raises(BundleError, match=message):
        logits_of(session, _IMAGES)


@pytest.mark.parametrize(("axes", "shape"), [(4, r"\(4, 4, 4, 3\)"), (2, r"\(16, 12\)")])
def test_logits_of_another_shape_are_refused(tmp_path: Path, axes: int, shape: str) -> None:
    path = _write_identity(tmp_path / "m.onnx", "image", "logits", axes)
    with (
        open_model(path, precision="fp32") as session,
        pytest.raises(EdgeDistillError, match=rf"gave logits of shape {shape} for 4 images on onnxruntime; it must"),
    ):
        logits_of(session, _IMAGES)


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", "not_finite_when_dark")
    images = np.concatenate([np.zeros((1, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 200, np.uint8)])
    with (
        open_model(path, precision="fp16") as session,
        pytest.raises(
            EdgeDistillError, match=r"not finite for 1 of 3 images on onnxruntime \(fp16\); try precision fp32"
        ),
    ):
        logits_of(session, images)


# The package


def test_importing_the_package_and_every_module_loads_no_runtime() -> None:
    code = (
        "import sys, edgedistill_deploy\nlight = not {'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)\nimport "
        "edgedistill_deploy.runtimes.opening, edgedistill_deploy.runtimes._onnxruntime, "
        "edgedistill_deploy.images.sources\nprint(light, {'onnxruntime', 'onnx', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "True set()"
