"""Whether ONNX Runtime's INT8 kernels are exact on this processor, and the option that makes them exact.

x86 processors without VNNI add two products of 8 bits in 16 bits. Such a sum can saturate, and the file's answers are
then wrong. ONNX Runtime from 1.13 on has the option `session.x64quantprecision`: it makes the weights unsigned, whose
kernels are exact. Where the kernels are exact without it, the option only takes slower ones: 2.4 and 1.9 times the time
for ResNet-10t and MobileNetV4-small with AVX512-VNNI and ONNX Runtime 1.32. So it is set only where a tiny model of the
largest products shows the need; the processor's flags are not used.

A file that mixes INT8 and FP16 is another matter. ONNX Runtime moves its Q/DQ pairs together, and in half precision it
then computes something else than the file means: the logits of a small network were off by 13 % of the largest one.
With `session.disable_quant_qdq` they are those of the graph as it is written, bit by bit. Such files are for TensorRT;
here they are only judged, so they are always opened like that.
"""

import functools
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.onnx_files.content import read_arithmetic
from edgedistill_deploy.records.model import Int8Kernels

EXACT_OPTION = ("session.x64quantprecision", "1")
UNFUSED_OPTION = ("session.disable_quant_qdq", "1")
FIRST_VERSION = "1.13"  # of ONNX Runtime that knows the option

_PROBE = "int8_probe.onnx"  # written by scripts/make_int8_probe.py
_CPU = "CPUExecutionProvider"
_FATAL = 4
_PROBE_IMAGE = {"image": (1, 32, 4, 4)}
_PROBE_ANSWERS = {"wide": 288.0, "pointwise": 32.0, "product": 32.0}  # how many products of 1 each output adds
_ROUNDING = 0.01  # a saturated sum is off by half


@functools.cache
def find_int8_kernels(ort: Any) -> Int8Kernels | None:
    """Return what the INT8 kernels of the imported onnxruntime do on this processor, measured once in about 5 ms.

    None where the probe does not run, for example in a build with few operators.
    """
    try:
        if _is_exact(ort, exact_option=False):
            return "exact"
        return "made_exact" if _is_exact(ort, exact_option=True) else "saturating"
    except Exception:  # noqa: BLE001  # ONNX Runtime's errors have no common class
        return None


def set_exact_int8(ort: Any, options: Any) -> Int8Kernels | None:
    """Set the option on an onnxruntime.SessionOptions where the kernels need it; return what they do then."""
    kernels = find_int8_kernels(ort)
    if kernels == "made_exact":
        options.add_session_config_entry(*EXACT_OPTION)
    return kernels


def set_int8_options(ort: Any, options: Any, path: Path) -> Int8Kernels | None:
    """Set on an onnxruntime.SessionOptions what an INT8 file needs to be computed right; return what its kernels do.

    "unfused" is a file that mixes INT8 and FP16: it is computed as it is written, see above.
    """
    if read_arithmetic(path).mixes_half:
        leave_unfused(options)
        return "unfused"
    return set_exact_int8(ort, options)


def leave_unfused(options: Any) -> None:
    """Let a session compute each Q/DQ pair where the file has it."""
    options.add_session_config_entry(*UNFUSED_OPTION)


def unfused_sentence(name: str) -> str:
    """Return how a file of INT8 and FP16 is judged."""
    return (
        f"{name} mixes INT8 and FP16 for TensorRT. ONNX Runtime computes it without fusing Q/DQ pairs "
        f"({UNFUSED_OPTION[0]}={UNFUSED_OPTION[1]}), because its fusion gives other results in half precision."
    )


def read_probe() -> bytes:
    """Return the probe's ONNX file, which lies in a zip where a device runs the package from one."""
    return files(__package__).joinpath(_PROBE).read_bytes()


def probe_feeds() -> dict[str, np.ndarray]:
    """Return the input of the probe, float32 (1, 32, 4, 4), filled with the largest value that it quantises."""
    return {name: np.ones(shape, np.float32) for name, shape in _PROBE_IMAGE.items()}


def is_probe_exact(answers: dict[str, np.ndarray]) -> bool:
    """Return whether the probe's outputs, by name, are the sums of all products."""
    return all(
        bool(np.all(np.abs(answers[name] - wanted) <= _ROUNDING * wanted)) for name, wanted in _PROBE_ANSWERS.items()
    )


def saturation_sentence(provider: str = "cpu") -> str:
    """Return what saturating kernels of a provider mean for the reader, and what to do."""
    whose = "The INT8 kernels" if provider == "cpu" else f"The INT8 kernels of {provider}"
    advice = (
        f"This ONNX Runtime does not honour {EXACT_OPTION[0]} for this file; install {FIRST_VERSION} or newer and "
        "calibrate again, or deploy fp32 on this device."
        if provider == "cpu"
        else "Run this file on cpu, or deploy fp32 on this device."
    )
    return (
        f"{whose} saturate on this processor: sums of two products do not fit 16 bits, so the file computes something "
        f"else here than it means. {advice}"
    )


def _is_exact(ort: Any, *, exact_option: bool) -> bool:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _FATAL
    if exact_option:
        options.add_session_config_entry(*EXACT_OPTION)
    session = ort.InferenceSession(read_probe(), sess_options=options, providers=[_CPU])
    return is_probe_exact(dict(zip(_PROBE_ANSWERS, session.run(list(_PROBE_ANSWERS), probe_feeds()), strict=True)))
