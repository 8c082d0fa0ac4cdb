import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.runtimes import _onnxruntime
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import has_provider, open_model, providers_beside_cpu
from edgedistill_deploy.runtimes.providers import PROVIDERS, nodes_elsewhere, on_processor, parse_provider, plain_name
from edgedistill_deploy.runtimes.session import SessionRequest, TensorSpec
from reference.measured_models import images_of, logits_of_images, write_model

_NATIVES = {name: parse_provider(name).natives for name in PROVIDERS}
_IMAGES = images_of([0, 1, 2])


def _native_options() -> Any:
    return onnxruntime.SessionOptions


# Names and options


def test_a_provider_may_name_its_device_and_options() -> None:
    provider = parse_provider("qnn:htp,soc_model=60,strict")
    assert (provider.name, provider.device, provider.given, provider.strict) == (
        "qnn",
        "htp",
        {"soc_model": "60"},
        True,
    )
    assert parse_provider("cpu") == parse_provider("cpu:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cdua", r"ONNX Runtime has no provider 'cdua' here\. Did you mean cuda\?"),
        ("", r"ONNX Runtime has no provider '' here\. Known: cpu, cuda"),
        ("openvino:GPU,NPU", r"The provider 'openvino:GPU,NPU' names GPU, NPU; openvino takes one device, options as"),
        ("cpu:0", r"The provider 'cpu:0' names 0; cpu takes options as KEY=VALUE, or strict\."),
    ],
)
def test_other_spellings_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_provider(text)


@pytest.mark.parametrize(
    ("text", "precision", "expected"),
    [
        ("cpu", "fp32", [{}]),
        ("cuda", "fp32", [{"device_id": "0", "use_tf32": "0"}]),
        ("cuda:1", "int8", [{"device_id": "1", "use_tf32": "0"}]),
        ("cuda:use_tf32=1", "fp32", [{"device_id": "0", "use_tf32": "1"}]),
        ("tensorrt", "fp32", [{"device_id": "0"}, {"device_id": "0", "use_tf32": "0"}]),
        ("tensorrt:1", "int8", [{"device_id": "1", "trt_int8_enable": "1"}, {"device_id": "1", "use_tf32": "0"}]),
        (
            "tensorrt",
            "int8-fp16-tensorrt",
            [{"device_id": "0", "trt_fp16_enable": "1", "trt_int8_enable": "1"}, {"device_id": "0", "use_tf32": "0"}],
        ),
        ("openvino", "fp32", [{"device_type": "CPU", "precision": "ACCURACY", "num_of_threads": "3"}]),
        ("openvino:GPU", "fp32", [{"device_type": "GPU", "precision": "ACCURACY"}]),
        ("xnnpack", "fp32", [{"intra_op_num_threads": "3"}]),
        ("qnn", "int8", [{"backend_type": "htp", "htp_performance_mode": "burst"}]),
        ("qnn:gpu", "fp32", [{"backend_type": "gpu"}]),
        ("coreml", "fp16", [{"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}]),
        ("coreml:CPUAndGPU", "fp16", [{"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"}]),
    ],
)
def test_each_provider_gets_its_documented_options(text: str, precision: str, expected: list[dict[str, str]]) -> None:
    provider = parse_provider(text)
    assert [provider.options(native, 3, precision) for native in provider.natives] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu", True),
        ("openvino", True),
        ("openvino:CPU", True),
        ("openvino:strict", True),
        ("openvino:GPU", False),
        ("xnnpack", True),
        ("cuda", False),
        ("tensorrt", False),
        ("coreml", False),
        ("qnn", False),
        ("nonsense", False),
    ],
)
def test_a_provider_computes_on_the_processor_or_elsewhere(text: str, expected: bool) -> None:
    assert on_processor(text) is expected


def test_the_providers_beside_cpu_are_those_that_this_onnx_runtime_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert providers_beside_cpu() == ()
    for others, expected in (
        (["OpenVINOExecutionProvider"], ("openvino",)),
        (["CUDAExecutionProvider", "OpenVINOExecutionProvider", "XnnpackExecutionProvider"], ("openvino", "xnnpack")),
    ):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*others, "CPUExecutionProvider"])  # noqa: B023
        assert providers_beside_cpu() == expected
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert providers_beside_cpu() == ()


def test_a_plug_in_makes_a_provider_usable_but_is_not_measured_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its first device may be a GPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for module in ("onnxruntime_ep_openvino", "onnxruntime_qnn"):
        monkeypatch.setitem(sys.modules, module, None)
    assert [has_provider(name) for name in ("cpu", "openvino", "qnn")] == [True, False, False]
    plugin = ModuleType("onnxruntime_ep_openvino")
    plugin.__spec__ = ModuleSpec("onnxruntime_ep_openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", plugin)
    assert has_provider("openvino")
    assert providers_beside_cpu() == ()


def test_every_name_is_one_of_onnx_runtimes_own() -> None:
    assert {native for natives in _NATIVES.values() for native in natives} <= set(onnxruntime.get_all_providers())


def test_nodes_elsewhere_are_told_and_only_those() -> None:
    assert nodes_elsewhere("openvino:GPU", {"openvino": 49}) == ""
    assert nodes_elsewhere("openvino", None) == ""
    assert nodes_elsewhere("qnn:htp,soc_model=60", {"qnn": 118, "cpu": 4}) == (
        "A part runs elsewhere than on qnn: 4 of 122 nodes on cpu."
    )
    assert nodes_elsewhere("tensorrt", {"tensorrt": 5, "cuda": 2, "cpu": 1}) == (
        "A part runs elsewhere than on tensorrt: 1 of 8 nodes on cpu and 2 of 8 nodes on cuda."
    )
    assert plain_name("DmlExecutionProvider") == "DmlExecutionProvider"


# The real runtime


def test_the_cpu_runs_every_node_and_says_so(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    with open_model(path, precision="fp32", optimised=False) as session:
        assert session.placement == {"cpu": len(onnx.load(path).graph.node)}
    with open_model(path, precision="fp32", provider="cpu:strict") as session:
        np.testing.assert_allclose(logits_of(session, _IMAGES), logits_of_images(_IMAGES), rtol=1e-5)


def test_a_provider_that_is_not_installed_says_what_would_install_it(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(
        UsageError, match=r"has no provider cuda; it has cpu\. Choose one of these, or install onnxruntime-gpu\."
    ):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", provider="cuda")


@pytest.mark.parametrize("name", ["openvino", "qnn"])
def test_a_plug_in_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in ("onnxruntime_ep_openvino", "onnxruntime_qnn"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"has no provider {name}; it has cpu\. .* onnxruntime-{name}\."):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", provider=name)


def test_a_provider_without_its_library_is_dropped_by_onnx_runtime_and_refused_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ONNX Runtime knows the name and has no library for it: it falls back with a line in its log.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(_NATIVES["openvino"]))
    with pytest.raises(EdgeDistillError, match=r"(loaded m\.onnx on CPUExecutionProvider|cannot load .* on)"):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", provider="openvino")


def test_strict_reaches_the_runtime_where_it_means_something(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")

    def entries(provider: str, *, spinning: bool = True) -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []

        class Options(_native_options()):  # type: ignore[misc]
            def add_session_config_entry(self, key: str, value: str) -> None:
                seen.append((key, value))

        runtime = _FakeRuntime(["CPUExecutionProvider"])
        runtime.SessionOptions = Options
        request = SessionRequest(
            path=path, sha256="", precision="fp32", provider=provider, threads=1, spinning=spinning
        )
        _onnxruntime._options(runtime, request, parse_provider(provider))
        return seen

    refusal = ("session.disable_cpu_ep_fallback", "1")
    given = {provider: refusal in entries(provider) for provider in ("openvino:strict", "openvino", "cpu:strict")}
    assert given == {"openvino:strict": True, "openvino": False, "cpu:strict": False}
    sleeping = ("session.intra_op.allow_spinning", "0")
    asleep = {"xnnpack": sleeping in entries("xnnpack"), "cpu": sleeping in entries("cpu")}
    assert asleep == {"xnnpack": True, "cpu": False}
    assert sleeping in entries("cpu", spinning=False)


# What a machine without the devices can only play


@dataclass(frozen=True)
class _Part:
    ep_name: str
    count: int

    def get_nodes(self) -> list[None]:
        return [None] * self.count


class _FakeRuntime(ModuleType):
    """An ONNX Runtime with every provider, which then gives the ones in `granted` and places nodes as told."""

    __version__ = "1.99"
    SessionOptions: Any = onnxruntime.SessionOptions
    RunOptions: Any = onnxruntime.RunOptions
    ExecutionMode = onnxruntime.ExecutionMode
    GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel

    def __init__(self, granted: list[str], placed: Mapping[str, int] | None = None) -> None:
        super().__init__("onnxruntime")
        self.granted = granted
        self.placed = placed or {granted[0]: 7}
        self.asked: dict[str, Any] = {}

    def get_available_providers(self) -> list[str]:
        return [name for names in _NATIVES.values() for name in names]

    def InferenceSession(self, path: str, **options: Any) -> Any:  # noqa: N802  # the name of the class it stands for
        options["sess_options"].add_session_config_entry("session.disable_cpu_ep_fallback", "0")
        native = onnxruntime.InferenceSession(
            path, sess_options=options["sess_options"], providers=["CPUExecutionProvider"]
        )
        if options["providers"][0][0] != "CPUExecutionProvider":
            self.asked = options
            native.get_providers = lambda: self.granted
            native.get_provider_graph_assignment_info = lambda: [_Part(*item) for item in self.placed.items()]
        return native


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "cpu"])
def test_each_provider_is_asked_for_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    wanted = list(_NATIVES[name])
    runtime = _FakeRuntime([*wanted, "CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    path = write_model(tmp_path / "m.onnx")
    with open_model(path, precision="fp32", provider=name, threads=4) as session:
        assert (session.provider, session.threads, session.placement) == (name, 4, {name: 7})
        np.testing.assert_allclose(logits_of(session, _IMAGES), logits_of_images(_IMAGES), rtol=1e-5)
    assert [native for native, _ in runtime.asked["providers"]] == wanted
    assert runtime.asked["sess_options"].intra_op_num_threads == (1 if name == "xnnpack" else 4)


def test_a_provider_of_fixed_shapes_runs_image_by_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The model adds up to another answer for odd batches: one by one every image gets the odd one.
    monkeypatch.setitem(sys.modules, "onnxruntime", _FakeRuntime([*_NATIVES["qnn"], "CPUExecutionProvider"]))
    path = write_model(tmp_path / "m.onnx", "wrong_for_odd_batches")
    with open_model(path, precision="fp32", provider="qnn") as session:
        assert session.inputs == (TensorSpec("image", (None, 4, 4, 3), "uint8"),)
        assert session.outputs == (TensorSpec("logits", (None, 3), "float32"),)
        given = logits_of(session, _IMAGES[:2])
        with pytest.raises(EdgeDistillError, match=r"was given image uint8 \(2, 2, 4, 3\)\."):
            session.run({"image": _IMAGES[:2, :2]})
    np.testing.assert_allclose(given, logits_of_images(_IMAGES[:2]) + 1, rtol=1e-5)


def test_a_provider_that_took_no_node_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = _FakeRuntime([*_NATIVES["cuda"], "CPUExecutionProvider"], {"CPUExecutionProvider": 7})
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.raises(
        EdgeDistillError, match=r"cuda took no node of m\.onnx: ONNX Runtime runs 7 nodes on cpu\. Nothing is"
    ):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", provider="cuda")


def test_a_silent_fallback_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", _FakeRuntime(["CPUExecutionProvider"]))
    with pytest.raises(
        EdgeDistillError,
        match=(
            r"loaded m\.onnx on CPUExecutionProvider where cuda \(CUDAExecutionProvider\) was asked "
            r"for; its libraries"
        ),
    ):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", provider="cuda")


def test_an_older_runtime_does_not_tell_where_nodes_run(tmp_path: Path) -> None:
    assert _onnxruntime._placement(object()) is None


# Plug-ins


class _PluginRuntime(_FakeRuntime):
    """An ONNX Runtime that has a provider only once a plug-in's library is registered."""

    def __init__(self, device_types: list[str]) -> None:
        super().__init__(["QNNExecutionProvider", "CPUExecutionProvider"])
        self.device_types = device_types
        self.registered: list[tuple[str, str]] = []
        self.chosen: list[Any] = []

        class Options(_native_options()):  # type: ignore[misc]
            def add_provider_for_devices(options, devices: list[Any], given: dict[str, str]) -> None:  # noqa: N805
                self.chosen = [[each.device.type.name for each in devices], given]

        self.SessionOptions = Options

    def get_available_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return [
            SimpleNamespace(ep_name="QNNExecutionProvider", device=SimpleNamespace(type=SimpleNamespace(name=kind)))
            for kind in self.device_types
        ]

    def InferenceSession(self, path: str, **options: Any) -> Any:  # noqa: N802
        if options["providers"] is None:
            options["providers"] = [("QNNExecutionProvider", {})]
        return super().InferenceSession(path, **options)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("onnxruntime_qnn")
    module.get_library_path = lambda: "/opt/qnn.so"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", module)
    monkeypatch.setattr(_onnxruntime, "_registered", set())
    return module


@pytest.mark.parametrize(("provider", "device"), [("qnn", "NPU"), ("qnn:gpu", "GPU")])
def test_a_plug_in_is_registered_once_and_asked_for_by_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: ModuleType, provider: str, device: str
) -> None:
    runtime = _PluginRuntime(["NPU", "GPU"])
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    path = write_model(tmp_path / "m.onnx")
    for _ in range(2):
        with open_model(path, precision="fp32", provider=provider) as session:
            assert session.placement == {"qnn": 7}
    assert runtime.registered == [("QNNExecutionProvider", "/opt/qnn.so")]
    assert runtime.chosen == [[device], parse_provider(provider).options("QNNExecutionProvider", 1, "fp32")]


def test_a_plug_in_without_a_device_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: ModuleType
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", _PluginRuntime([]))
    with pytest.raises(
        EdgeDistillError, match=r"onnxruntime_qnn finds no device on this machine for the provider qnn; choose"
    ):
        open_model(write_model(tmp_path / "m.onnx"), precision="fp32", provider="qnn")
