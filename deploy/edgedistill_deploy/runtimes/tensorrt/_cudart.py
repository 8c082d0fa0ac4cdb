"""The few calls of the CUDA runtime that an engine needs: memory, one stream, and the GPU's name.

They use cuda-python where it is installed, else the runtime library, which every Jetson has. Both have the same small
interface. Every error that CUDA returns is raised with its name.
"""

import ctypes
import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from numpy.typing import NDArray

from edgedistill_deploy.errors import EdgeDistillError

_UPLOAD, _DOWNLOAD = 1, 2  # cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, ...Minor
_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_CUDA_FOLDER = Path("/usr/local/cuda/lib64/libcudart.so")
# The name is the first field of cudaDeviceProp in every version; the whole has grown to about 1 kB.
_NAME_BYTES, _PROPERTIES_BYTES = 256, 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU: its name, and its compute capability as (major, minor)."""

    name: str
    compute_capability: tuple[int, int]

    @property
    def capability(self) -> str:
        """The compute capability as NVIDIA writes it, such as 8.7."""
        return ".".join(map(str, self.compute_capability))


class _Calls(Protocol):
    """The runtime's functions; each returns its error code and its result, if any."""

    library: str

    def count(self) -> tuple[int, int]: ...
    def current(self) -> tuple[int, int]: ...
    def name(self, device: int) -> tuple[int, str]: ...
    def attribute(self, which: int, device: int) -> tuple[int, int]: ...
    def memory(self) -> tuple[int, tuple[int, int]]: ...
    def allocate(self, size: int) -> tuple[int, int]: ...
    def free(self, address: int) -> tuple[int, None]: ...
    def make_stream(self) -> tuple[int, int]: ...
    def end_stream(self, stream: int) -> tuple[int, None]: ...
    def copy(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int, None]: ...
    def wait(self, stream: int) -> tuple[int, None]: ...
    def last_error(self) -> int: ...
    def error_name(self, code: int) -> str: ...


class Cuda:
    """The CUDA runtime; its errors are raised as EdgeDistillError with CUDA's name and the failed step."""

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls
        self.library = calls.library

    def gpu(self) -> Gpu:
        """Describe the current GPU. Raises EdgeDistillError when there is none or its driver does not answer."""
        code, count = self._calls.count()
        if code or count < 1:
            said = f" ({self._calls.error_name(code)})" if code else ""
            raise EdgeDistillError(
                f"TensorRT needs an NVIDIA GPU, and CUDA finds none here{said}; check with nvidia-smi that the driver "
                "is loaded, on a Jetson that this user may use the GPU, in a container that it was started with "
                "--gpus or --runtime nvidia."
            )
        device = self._check("naming the current GPU", self._calls.current())
        capability = [
            self._check("reading the compute capability", self._calls.attribute(which, device))
            for which in (_MAJOR, _MINOR)
        ]
        name = self._check("reading the GPU's name", self._calls.name(device))
        return Gpu(name=name, compute_capability=(capability[0], capability[1]))

    def memory(self) -> tuple[int, int]:
        """Return the free and the total device memory in bytes; a Jetson shares it with the CPU."""
        found: tuple[int, int] = self._check("asking for the free memory", self._calls.memory())
        return found

    def allocate(self, size: int) -> int:
        """Return the address of device memory."""
        return int(self._check(f"allocating {size} bytes on the GPU", self._calls.allocate(max(size, 1))))

    def free(self, address: int) -> None:
        """Free device memory."""
        self._check("freeing memory", self._calls.free(address))

    def make_stream(self) -> int:
        """Return a new stream."""
        return int(self._check("making a stream", self._calls.make_stream()))

    def end_stream(self, stream: int) -> None:
        """Free a stream."""
        self._check("ending a stream", self._calls.end_stream(stream))

    def upload(self, address: int, values: NDArray[Any], stream: int) -> None:
        """Copy a contiguous array to the device, in the stream's order."""
        self._check("copying to the GPU", self._calls.copy(address, values.ctypes.data, values.nbytes, _UPLOAD, stream))

    def download(self, values: NDArray[Any], address: int, stream: int) -> None:
        """Copy from the device into a contiguous array, in the stream's order."""
        done = self._calls.copy(values.ctypes.data, address, values.nbytes, _DOWNLOAD, stream)
        self._check("copying from the GPU", done)

    def wait(self, stream: int) -> None:
        """Wait for all work in the stream; errors of its kernels appear here."""
        self._check("computing", self._calls.wait(stream))

    def require_launched(self, doing: str) -> None:
        """Raise the error of the last launch, which the launch itself does not return."""
        self._check(doing, (self._calls.last_error(), None))

    def _check(self, doing: str, answer: tuple[int, Any]) -> Any:
        code, value = answer
        if code:
            raise EdgeDistillError(
                f"CUDA failed while {doing}: {self._calls.error_name(code)} (error {code}).{_advice(code)}"
            )
        return value


def open_cuda() -> Cuda:
    """Return the CUDA runtime of this machine. Raises EdgeDistillError when there is none; no GPU is needed yet."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return Cuda(_Library(_load_library()))
    return Cuda(_Bindings(runtime))


def _advice(code: int) -> str:
    out_of_memory = 2
    return " Free device memory, or build for smaller batches and a smaller workspace." if code == out_of_memory else ""


def _load_library() -> ctypes.CDLL:
    """Return the runtime that this process has already loaded, else the first that can be loaded."""
    for name, mode in (
        *((name, os.RTLD_NOLOAD) for name in _LIBRARIES),
        *((name, ctypes.DEFAULT_MODE) for name in (*_LIBRARIES, *_find_libraries())),
    ):
        with suppress(OSError):
            return ctypes.CDLL(name, mode=mode)
    raise EdgeDistillError(
        "TensorRT needs the CUDA runtime, and neither cuda-python nor libcudart.so was found; install CUDA (on a "
        "Jetson: JetPack) or pip install cuda-python."
    )


def _find_libraries() -> Iterator[str]:
    """Yield the paths of runtime libraries in CUDA's folder and NVIDIA's wheels, which the loader does not search."""
    if _CUDA_FOLDER.exists():
        yield str(_CUDA_FOLDER)
    found = importlib.util.find_spec("nvidia")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for library in sorted(Path(folder).glob("*/lib/libcudart.so.*"), reverse=True):
            yield str(library)


class _Library:
    """The runtime library by ctypes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._native = library
        self.library = str(library._name)
        library.cudaGetErrorName.restype = ctypes.c_char_p

    def count(self) -> tuple[int, int]:
        return self._number("cudaGetDeviceCount")

    def current(self) -> tuple[int, int]:
        return self._number("cudaGetDevice")

    def name(self, device: int) -> tuple[int, str]:
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        code = self._native.cudaGetDeviceProperties(properties, ctypes.c_int(device))
        return code, properties.raw[:_NAME_BYTES].partition(b"\0")[0].decode(errors="replace")

    def attribute(self, which: int, device: int) -> tuple[int, int]:
        return self._number("cudaDeviceGetAttribute", ctypes.c_int(which), ctypes.c_int(device))

    def memory(self) -> tuple[int, tuple[int, int]]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        code = self._native.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
        return code, (free.value, total.value)

    def allocate(self, size: int) -> tuple[int, int]:
        return self._pointer("cudaMalloc", ctypes.c_size_t(size))

    def free(self, address: int) -> tuple[int, None]:
        return self._native.cudaFree(ctypes.c_void_p(address)), None

    def make_stream(self) -> tuple[int, int]:
        return self._pointer("cudaStreamCreate")

    def end_stream(self, stream: int) -> tuple[int, None]:
        return self._native.cudaStreamDestroy(ctypes.c_void_p(stream)), None

    def copy(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int, None]:
        addresses = ctypes.c_void_p(to), ctypes.c_void_p(source)
        code = self._native.cudaMemcpyAsync(
            *addresses, ctypes.c_size_t(size), ctypes.c_int(kind), ctypes.c_void_p(stream)
        )
        return code, None

    def wait(self, stream: int) -> tuple[int, None]:
        return self._native.cudaStreamSynchronize(ctypes.c_void_p(stream)), None

    def last_error(self) -> int:
        return int(self._native.cudaGetLastError())

    def error_name(self, code: int) -> str:
        return str(self._native.cudaGetErrorName(ctypes.c_int(code)).decode())

    def _number(self, function: str, *arguments: Any) -> tuple[int, int]:
        value = ctypes.c_int()
        return getattr(self._native, function)(ctypes.byref(value), *arguments), value.value

    def _pointer(self, function: str, *arguments: Any) -> tuple[int, int]:
        value = ctypes.c_void_p()
        return getattr(self._native, function)(ctypes.byref(value), *arguments), value.value or 0


class _Bindings:
    """The runtime by cuda-python, whose functions return a tuple of the error and the results."""

    library = "cuda.bindings.runtime"

    def __init__(self, runtime: ModuleType) -> None:
        self._runtime: Any = runtime

    def count(self) -> tuple[int, int]:
        return _plain(self._runtime.cudaGetDeviceCount())

    def current(self) -> tuple[int, int]:
        return _plain(self._runtime.cudaGetDevice())

    def name(self, device: int) -> tuple[int, str]:
        code, properties = self._runtime.cudaGetDeviceProperties(device)
        return int(code), "" if int(code) else properties.name.partition(b"\0")[0].decode(errors="replace")

    def attribute(self, which: int, device: int) -> tuple[int, int]:
        return _plain(self._runtime.cudaDeviceGetAttribute(self._runtime.cudaDeviceAttr(which), device))

    def memory(self) -> tuple[int, tuple[int, int]]:
        code, free, total = self._runtime.cudaMemGetInfo()
        return int(code), (free or 0, total or 0)

    def allocate(self, size: int) -> tuple[int, int]:
        return _plain(self._runtime.cudaMalloc(size))

    def free(self, address: int) -> tuple[int, None]:
        return int(self._runtime.cudaFree(address)[0]), None

    def make_stream(self) -> tuple[int, int]:
        return _plain(self._runtime.cudaStreamCreate())

    def end_stream(self, stream: int) -> tuple[int, None]:
        return int(self._runtime.cudaStreamDestroy(stream)[0]), None

    def copy(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int, None]:
        direction = self._runtime.cudaMemcpyKind(kind)
        return int(self._runtime.cudaMemcpyAsync(to, source, size, direction, stream)[0]), None

    def wait(self, stream: int) -> tuple[int, None]:
        return int(self._runtime.cudaStreamSynchronize(stream)[0]), None

    def last_error(self) -> int:
        return int(self._runtime.cudaGetLastError()[0])

    def error_name(self, code: int) -> str:
        return str(self._runtime.cudaGetErrorName(self._runtime.cudaError_t(code))[1].decode())


def _plain(answer: tuple[Any, Any]) -> tuple[int, int]:
    code, value = answer
    return int(code), 0 if value is None else int(value)
