"""Python on an x86 processor without VNNI, emulated: the real ONNX Runtime with the kernels that it has there."""

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EMULATOR = "qemu-x86_64"
PROCESSOR = "Haswell"  # AVX2, no VNNI


@functools.cache
def require_emulator() -> None:
    """Skip the test where the emulator is missing or has nothing to emulate."""
    if platform.machine() != "x86_64" or shutil.which(EMULATOR) is None:
        pytest.skip(f"needs {EMULATOR} (Debian's qemu-user) on x86")


def run_without_vnni(code: str, *arguments: object) -> str:
    """Run Python code on the emulated processor and return what it prints."""
    require_emulator()
    python = str(Path(sys.executable).resolve())  # the emulator opens no links to another place's libraries
    done = subprocess.run(
        [EMULATOR, "-cpu", PROCESSOR, python, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
