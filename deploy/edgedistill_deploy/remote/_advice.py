"""The commands to type on a device for what it lacks. EdgeDistill never runs them."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.remote.inventory import Device

_PACKAGES = {"numpy": "numpy", "PIL": "pillow", "onnxruntime": "onnxruntime"}
_INSTALLERS = {"apt-get": "sudo apt-get install -y {}", "dnf": "sudo dnf install -y {}", "apk": "sudo apk add {}"}
_PYTHON = {"apt-get": "python3 python3-venv", "dnf": "python3", "apk": "python3 py3-pip"}
_PROVIDER_NAMES = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LITTLE_BYTES = 200 << 20
_VENV = "~/edgedistill-venv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Something a device lacks, why it matters, and the command for it; None where no single command is enough."""

    what: str
    why: str
    command: str | None


def missing_on(device: Device, found: Mapping[str, Any]) -> Iterator[Missing]:
    """Yield what a device lacks to measure as it is set up, from what `check` found."""
    if found["free_bytes"] is not None and found["free_bytes"] < _LITTLE_BYTES:
        free, wanted = found["free_bytes"] / 1e6, _LITTLE_BYTES / 1e6
        why = f"{free:.0f} MB are free where {device.work} lies; {wanted:.0f} are needed."
        yield Missing(what="disk", why=why, command="df -h")
    if found["open_folder"]:
        path, why = found["open_folder"]
        why = f"{why}, so they could change what is measured there; or choose another folder with work in devices.toml."
        yield Missing(what="a private work folder", why=why, command=f"chmod go-w {shlex.quote(path)}")
    if not found["sftp"]:
        why = "Files are sent by SFTP, which its SSH server does not offer."
        yield Missing(what="sftp", why=why, command=_INSTALLERS["apt-get"].format("openssh-sftp-server"))
    python = found["python"]
    if python is None:
        yield _no_python(device, found)
        return
    if tuple(python["version"]) < (3, 10):
        version = ".".join(map(str, python["version"]))
        why = f"{device.python} is Python {version}, and 3.10 or newer is needed. "
        why += "Name the new one with python in devices.toml."
        command = "curl -LsSf https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv python install 3.12"
        yield Missing(what="python", why=why, command=command)
        return
    if python["crashed"] is not None:
        why = (
            f"Importing numpy, PIL, onnxruntime or tensorrt ends {device.python} with code {python['crashed']}; one of "
            "them is made for another processor."
        )
        yield Missing(what="python", why=why, command=_pip_anew(device, "numpy pillow onnxruntime"))
        return
    yield from _modules(device, found)
    yield from _providers(device, found)


def _no_python(device: Device, found: Mapping[str, Any]) -> Missing:
    why = f"{device.python} does not start there."
    if others := found["other_pythons"]:
        why += f" It has {', '.join(others)}: name one with python in devices.toml."
        return Missing(what="python", why=why, command=None)
    installer = found["installer"]
    command = _INSTALLERS[installer].format(_PYTHON[installer]) if installer in _INSTALLERS else None
    return Missing(what="python", why=why, command=command)


def _modules(device: Device, found: Mapping[str, Any]) -> Iterator[Missing]:
    modules = defaultdict(lambda: {"missing": True}, found["modules"])  # what a device does not name, it does not have
    wanted = ["numpy", "PIL", *(["onnxruntime"] if device.runtime == "onnxruntime" else [])]
    lacking = [name for name in wanted if modules[name].get("missing", False)]
    broken = [name for name in wanted if modules[name].get("version") is None and name not in lacking]
    if lacking and found["architecture"] in ("armv7l", "armv6l", "i686"):
        system = f"A 32-bit system ({found['architecture']})"
        why = f"{system} has no wheel of onnxruntime; install the 64-bit system on the device."
        yield Missing(what=", ".join(lacking), why=why, command=None)
    elif lacking:
        packages = [_gpu_package(device, found, _PACKAGES[name]) for name in lacking]
        yield _pip_install(device, found, ", ".join(lacking), packages)
    for name in broken:
        why = f"{name} is installed but cannot be imported: {modules[name]['error']}."
        yield Missing(what=name, why=why, command=_pip_anew(device, _PACKAGES[name]))
    if device.runtime == "tensorrt" and modules["tensorrt"].get("version") is None:
        jetson = found["jetson"] is not None
        from_jetpack = _INSTALLERS["apt-get"].format("nvidia-jetpack python3-libnvinfer")
        command = from_jetpack if jetson else f"{device.python} -m pip install tensorrt"
        why = "The device must run TensorRT engines."
        if jetson and found["python"]["venv"]:
            why += " A venv sees JetPack's TensorRT only when made with --system-site-packages."
        yield Missing(what="tensorrt", why=why, command=command)


def _pip_install(device: Device, found: Mapping[str, Any], what: str, packages: list[str]) -> Missing:
    needed = " ".join(packages)
    if found["python"]["externally_managed"]:
        why = (
            "Its Python belongs to the system, which lets pip install nothing there; an environment of your own will "
            f'do. Then set python = "{_VENV}/bin/python" in devices.toml.'
        )
        # The system's numpy and TensorRT stay visible.
        command = f"{device.python} -m venv --system-site-packages {_VENV} && {_VENV}/bin/pip install {needed}"
        return Missing(what=what, why=why, command=command)
    command = f"{device.python} -m pip install {needed}"
    if not found["python"]["pip"]:
        command = f"{_INSTALLERS['apt-get'].format('python3-pip')} && {command}"
    return Missing(what=what, why="The device part needs it.", command=command)


def _pip_anew(device: Device, packages: str) -> str:
    return f"{device.python} -m pip install --force-reinstall --no-cache-dir {packages}"


def _gpu_package(device: Device, found: Mapping[str, Any], package: str) -> str:
    if package != "onnxruntime" or device.provider not in _PROVIDER_NAMES:
        return package
    # NVIDIA's own index for JetPack 6; PyPI's onnxruntime-gpu is for x86.
    index = " --extra-index-url https://pypi.jetson-ai-lab.io/jp6/cu126" if found["jetson"] else ""
    return f"onnxruntime-gpu{index}"


def _providers(device: Device, found: Mapping[str, Any]) -> Iterator[Missing]:
    if device.runtime != "onnxruntime" or found["providers"] is None or device.provider == "cpu":
        return
    wanted = _PROVIDER_NAMES.get(device.provider, f"{device.provider}ExecutionProvider")
    if wanted.lower() in (name.lower() for name in found["providers"]):
        return
    why = f"ONNX Runtime there has {', '.join(found['providers'])}, and {device.provider} is asked for."
    pip, package = f"{device.python} -m pip", _gpu_package(device, found, "onnxruntime")
    command = (
        f"{pip} uninstall -y onnxruntime && {pip} install {package}" if device.provider in _PROVIDER_NAMES else None
    )
    yield Missing(what=f"provider {device.provider}", why=why, command=command)
