"""Makes a folder that has TensorRT's real bindings of one major version, over compiled libraries that stand in for its
own.

Put on PYTHONPATH, `import tensorrt` gives them. The folder is kept (.cache/tensorrt-standin in the repository) and made
anew when a source here or the version changes. Needs g++ and, the first time, PyPI.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parent.parent / ".cache" / "tensorrt-standin"

# JetPack 6.1 has TensorRT 10.3.
BINDINGS = {10: ("tensorrt-cu12-bindings", "10.3.0"), 11: ("tensorrt-cu13-bindings", "11.4.0.106")}
_SOURCES = ("nvinfer.cpp", "engine.h", "values.h", "objects.h", "slots.h", "cudart.c", "module.py", "build.py")
_CUDART = {10: "libcudart.so.12", 11: "libcudart.so.13"}


class UnavailableError(Exception):
    """The stand-in cannot be made on this machine; the message says why."""


def standin(major: int) -> Path:
    """Return the folder for PYTHONPATH. Raises UnavailableError without g++, or when PyPI has no bindings for this
    Python."""
    folder = _CACHE / f"{major}-{_digest(major)}"
    if (folder / "complete").exists():
        return folder
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise UnavailableError(f"the stand-in is for Linux on x86-64, not {sys.platform} on {platform.machine()}")
    if not (shutil.which("g++") and shutil.which("gcc")):
        raise UnavailableError("the stand-in for TensorRT's libraries needs g++, which is not installed")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as temporary:
        made = Path(temporary) / "site"
        _install_bindings(major, made)
        _compile(major, made / "tensorrt" / "libraries")
        shutil.copy(_HERE / "module.py", made / "tensorrt" / "__init__.py")
        (made / "complete").touch()
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            if not (folder / "complete").exists():
                raise
    return folder


def environment(major: int, **changes: str) -> dict[str, str]:
    """Return the environment of a process in which `import tensorrt` gives the stand-in; `changes` are variables to
    set."""
    paths = os.pathsep.join([str(standin(major)), *(path for path in sys.path if path)])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **changes}


def _digest(major: int) -> str:
    content = b"".join((_HERE / name).read_bytes() for name in _SOURCES)
    known = f"{BINDINGS[major]} {sys.version_info[:2]}".encode()
    return hashlib.sha256(content + known).hexdigest()[:12]


def _install_bindings(major: int, folder: Path) -> None:
    package, version = BINDINGS[major]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"),
            *("--only-binary=:all:", "--target", str(folder), f"{package}=={version}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"pip ended with {done.returncode}"
        raise UnavailableError(f"{package} {version} cannot be had from PyPI: {reason}")


def _compile(major: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    nvinfer = f"libnvinfer.so.{major}"
    _library(folder, nvinfer, ["g++", "-std=c++17", "-O0", f"-DTENSORRT_MAJOR={major}", str(_HERE / "nvinfer.cpp")])
    _library(folder, _CUDART[major], ["gcc", "-O1", str(_HERE / "cudart.c")])
    # The other two offer their symbols by needing the first.
    for name in ("libnvinfer_plugin", "libnvonnxparser"):
        empty = ["gcc", "-x", "c", "/dev/null", "-x", "none"]
        _library(folder, f"{name}.so.{major}", [*empty, "-Wl,--no-as-needed", f"-L{folder}", f"-l:{nvinfer}"])


def _library(folder: Path, name: str, command: list[str]) -> None:
    flags = ["-shared", "-fPIC", "-Wall", f"-Wl,-soname,{name}", "-o", str(folder / name)]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} does not compile: {done.stderr[:2000]}")
