"""ONNX Runtime's execution providers by the names that users type, with the options that each needs.

A provider is written NAME, NAME:DEVICE, or NAME:ITEM,ITEM,... An item is the device, an option of ONNX Runtime as
KEY=VALUE, or "strict": "openvino:GPU", "cuda:1", "qnn:htp,soc_model=60", "openvino:strict".

Options are those of https://onnxruntime.ai/docs/execution-providers/. Run so far: cpu, openvino and qnn (Qualcomm's
simulator on x86). cuda, tensorrt, xnnpack and coreml follow the documentation and were not run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from edgedistill_deploy.errors import UsageError, nearest_names

Options = dict[str, str]

CPU = "CPUExecutionProvider"
_STRICT = "strict"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What is known of a provider.

    `natives` are ONNX Runtime's names, the wanted one first; TensorRT passes what it does not take to CUDA. `package`
    is what to install. `plugin` is the module of a package that adds the provider to any ONNX Runtime. `fixed_batch`:
    it takes only graphs with fixed shapes, so images run one by one. `processor_devices` are its devices that are the
    processor itself, as for `cpu`; None is the device that it takes if none is named.
    """

    natives: tuple[str, ...]
    package: str
    options: Callable[["Provider", int, str], Options]
    plugin: str | None = None
    has_devices: bool = True
    fixed_batch: bool = False
    processor_devices: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider as the user asked for it: `device` is the provider's own name, and `given` options override ours.

    `strict` refuses a model if any of its nodes would run on the CPU provider.
    """

    name: str
    device: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False

    @property
    def natives(self) -> tuple[str, ...]:
        """ONNX Runtime's names for it, the wanted one first."""
        return self.kind.natives

    @property
    def kind(self) -> _Kind:
        """What is known of this provider."""
        return _KINDS[self.name]

    def options(self, native: str, threads: int, precision: str) -> Options:
        """Return the options for one of `natives`. Those that the user gave are for the first."""
        if native == self.natives[0]:
            return {**self.kind.options(self, threads, precision), **self.given}
        return _cuda(self, threads, precision)


def parse_provider(text: str) -> Provider:
    """Read what a user typed. Raises UsageError for an unknown name or an extra device."""
    name, _, rest = text.partition(":")
    if name not in _KINDS:
        raise UsageError(f"ONNX Runtime has no provider {name!r} here.{nearest_names(name, _KINDS)}")
    items = [item.strip() for item in rest.split(",") if item.strip()]
    options = dict(item.split("=", 1) for item in items if "=" in item)
    devices = [item for item in items if "=" not in item and item != _STRICT]
    if len(devices) > 1 or (devices and not _KINDS[name].has_devices):
        allowed = "one device, " if _KINDS[name].has_devices else ""
        raise UsageError(
            f"The provider {text!r} names {', '.join(devices)}; {name} takes {allowed}options as KEY=VALUE, or strict."
        )
    return Provider(name=name, device=devices[0] if devices else None, given=options, strict=_STRICT in items)


def usable_providers(available: list[str]) -> list[str]:
    """Return the names for which ONNX Runtime has all providers."""
    return [name for name, kind in _KINDS.items() if set(kind.natives) <= set(available)]


def on_processor(provider: str) -> bool:
    """Return whether a provider computes on the processor, as `cpu` does; False for a name that nobody knows."""
    try:
        found = parse_provider(provider)
    except UsageError:
        return False
    return found.device in found.kind.processor_devices


def is_usable(provider: str, available: list[str]) -> bool:
    """Return whether ONNX Runtime has a provider, or a package that adds it is installed."""
    kind = parse_provider(provider).kind
    added = kind.plugin is not None and find_spec(kind.plugin) is not None
    return added or set(kind.natives) <= set(available)


def beside_cpu(available: list[str]) -> tuple[str, ...]:
    """Return the other usable providers that compute on the processor unless another device is named."""
    return tuple(name for name in usable_providers(available) if name != "cpu" and on_processor(name))


def plain_name(native: str) -> str:
    """Return the user's name for one of ONNX Runtime's."""
    return next((name for name, kind in _KINDS.items() if kind.natives[0] == native), native)


def nodes_elsewhere(provider: str, placement: Mapping[str, int] | None) -> str:
    """Return a sentence on the nodes that do not run on the wanted provider; "" for none, or where it is unknown."""
    wanted, placed = provider.partition(":")[0], placement or {}
    others = {name: count for name, count in placed.items() if name != wanted and count}
    if not others:
        return ""
    total = sum(placed.values())
    told = " and ".join(f"{count} of {total} nodes on {name}" for name, count in sorted(others.items()))
    return f"A part runs elsewhere than on {wanted}: {told}."


def _cpu(provider: Provider, threads: int, precision: str) -> Options:
    return {}


def _cuda(provider: Provider, threads: int, precision: str) -> Options:
    # The ONNX file says the precision; TF32 would silently round fp32 to ten bits.
    return {"device_id": provider.device or "0", "use_tf32": "0"}


def _tensorrt(provider: Provider, threads: int, precision: str) -> Options:
    # TensorRT uses the types and the Q/DQ nodes of the file only with these flags.
    wanted = {"trt_fp16_enable": "fp16" in precision, "trt_int8_enable": "int8" in precision}
    flags = {name: "1" for name, needed in wanted.items() if needed}
    return {"device_id": provider.device or "0", **flags}


def _openvino(provider: Provider, threads: int, precision: str) -> Options:
    device = provider.device or "CPU"
    # Without ACCURACY, a GPU computes in fp16 instead of the model's precision.
    own = {"device_type": device, "precision": "ACCURACY"}
    return {**own, "num_of_threads": str(threads)} if device == "CPU" else own


def _xnnpack(provider: Provider, threads: int, precision: str) -> Options:
    return {"intra_op_num_threads": str(threads)}


def _qnn(provider: Provider, threads: int, precision: str) -> Options:
    backend = provider.device or "htp"
    return {"backend_type": backend, **({"htp_performance_mode": "burst"} if backend == "htp" else {})}


def _coreml(provider: Provider, threads: int, precision: str) -> Options:
    # The older format, the default, has no fp16 and leaves such nodes to the CPU.
    return {"ModelFormat": "MLProgram", "MLComputeUnits": provider.device or "ALL"}


_KINDS = {
    "cpu": _Kind(natives=(CPU,), package="onnxruntime", options=_cpu, has_devices=False, processor_devices=(None,)),
    "cuda": _Kind(natives=("CUDAExecutionProvider",), package="onnxruntime-gpu", options=_cuda),
    "tensorrt": _Kind(
        natives=("TensorrtExecutionProvider", "CUDAExecutionProvider"), package="onnxruntime-gpu", options=_tensorrt
    ),
    "openvino": _Kind(
        natives=("OpenVINOExecutionProvider",),
        package="onnxruntime-openvino",
        options=_openvino,
        plugin="onnxruntime_ep_openvino",
        processor_devices=(None, "CPU"),
    ),
    "xnnpack": _Kind(
        natives=("XnnpackExecutionProvider",),
        package="an ONNX Runtime built with --use_xnnpack",
        options=_xnnpack,
        has_devices=False,
        processor_devices=(None,),
    ),
    "qnn": _Kind(
        natives=("QNNExecutionProvider",),
        package="onnxruntime-qnn",
        options=_qnn,
        plugin="onnxruntime_qnn",
        fixed_batch=True,
    ),
    "coreml": _Kind(
        natives=("CoreMLExecutionProvider",), package="onnxruntime on a Mac", options=_coreml, fixed_batch=True
    ),
}
PROVIDERS = tuple(_KINDS)
