"""What machine this is, and its state during a measurement.

Everything is read from files under /proc, /sys and /etc. The readers take the root of that tree, and tests give them
recorded trees of other boards. What a machine does not offer is None, never 0. Nothing here needs root or changes
anything.
"""

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path("/")

Command = Callable[[Sequence[str]], "str | None"]

_LONGEST_NAME = 40
_MOST_BYTES = 1 << 20
_LOADS = ("avg_1min", "avg_5min", "avg_15min")
_LIBRARIES = ("numpy", "Pillow", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "tensorrt")

# Linux names an ARM core by number only (MIDR implementer and part).
_ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x4e", "0x004"): "NVIDIA Carmel",
}

# Instructions for products of 8 bits, by the names that Linux gives them in /proc/cpuinfo.
_INT8_INSTRUCTIONS = {
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx_vnni_int8": "AVX-VNNI-INT8",
    "amx_int8": "AMX",
    "asimddp": "dot product",
    "i8mm": "i8mm",
}

_NOISE_IN_NAMES = re.compile(
    r"\((R|TM|C)\)|@.*|\bCPU\b|\bProcessor\b|\d+-Core\b|\bEngineering Reference\b|\bDeveloper Kit\b", re.IGNORECASE
)

_COLDEST_CELSIUS = -100.0  # Jetsons report -256 for a sensor whose part of the chip is switched off

# Bits of the Raspberry Pi firmware's get_throttled word; the same bit plus 16 says that it happened since boot.
_PI_THROTTLING = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """The machine and its software. `name` is short and safe in a file name; None means that the machine does not say.

    `int8_instructions` are the processor's instructions for products of 8 bits, such as "AVX512-VNNI" or "dot product".
    """

    name: str
    board: str | None
    cpu: str | None
    architecture: str
    cpu_count: int | None
    memory_bytes: int | None
    accelerator: str | None
    system: str
    kernel: str
    board_release: str | None
    virtual: bool | None
    emulated: bool | None
    python: str
    libraries: Mapping[str, str]
    int8_instructions: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain JSON values."""
        instructions = None if self.int8_instructions is None else list(self.int8_instructions)
        return {**asdict(self), "libraries": dict(self.libraries), "int8_instructions": instructions}


def read_device(root: Path = ROOT) -> DeviceInfo:
    """Describe this machine, or the one whose /proc, /sys and /etc lie under `root`."""
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    board, cpu, emulated = _board(root, cpuinfo), _cpu(cpuinfo), _is_emulated(root)
    return DeviceInfo(
        name=_short_name(board, cpu, emulated),
        board=board or read_text(root / "sys/class/dmi/id/product_name"),
        cpu=cpu,
        architecture=platform.machine(),
        cpu_count=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)) or os.cpu_count(),
        memory_bytes=_memory_bytes(root, "MemTotal"),
        accelerator=_accelerator(root),
        system=_field(read_text(root / "etc/os-release") or "", r'PRETTY_NAME="?([^"\n]+)') or platform.system(),
        kernel=platform.release(),
        board_release=_jetson_release(root),
        virtual=bool(re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE)) if cpuinfo else None,
        emulated=emulated,
        python=platform.python_version(),
        libraries=_library_versions(),
        int8_instructions=_int8_instructions(cpuinfo),
    )


def run_command(arguments: Sequence[str]) -> str | None:
    """Return what a query command prints, or None when it is missing, fails, or takes longer than 5 s."""
    program = shutil.which(arguments[0])
    if program is None:
        return None
    try:
        done = subprocess.run([program, *arguments[1:]], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def read_conditions(root: Path = ROOT, command: Command | None = None) -> dict[str, object]:
    """Read the state of the machine now: clocks in MHz, temperatures in degrees Celsius, load, pressure in percent.

    `stolen_s` is the CPU time that other guests took from this virtual machine since boot. Missing readings are None.
    `command` runs a board's own query tools (vcgencmd, nvpmodel) where no file answers. By default it runs only for the
    real root, because the tools describe the machine that they run on.
    """
    command = command or (run_command if root == ROOT else lambda _arguments: None)
    return {
        "clock": _clock(root),
        "governor": _governor(root),
        "temperature": _temperatures(root),
        "throttling": _throttling(root, command),
        "power_mode": _power_mode(root, command),
        "load": _load(root),
        "pressure": _pressure(root),
        "stolen_s": _stolen_s(root),
        "memory_available_bytes": _memory_bytes(root, "MemAvailable"),
    }


def read_peak_memory_bytes(root: Path = ROOT) -> int | None:
    """Return the most memory this process ever held resident, including Python, runtime, model and images.

    Linux's VmHWM is preferred: getrusage's ru_maxrss survives exec there, so a child would report its parent's peak.
    The value never falls, so only fresh processes can compare configurations. None on Windows, which has neither.
    """
    kilobytes = _field(read_text(root / "proc/self/status") or "", r"^VmHWM:\s*(\d+) kB")
    if kilobytes:
        return int(kilobytes) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def read_involuntary_switches() -> int | None:
    """Return how often the scheduler has taken the CPU from this process; None on Windows, which does not count."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def read_text(path: Path) -> str | None:
    """Return a small file's text without padding; None when it is missing, empty or unreadable.

    Device-tree strings end in NUL, and a sensor can exist but refuse a read.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None
    return text.strip("\0 \n\t") or None


def read_number(path: Path) -> float | None:
    """Return the decimal number in a small file; None where there is none."""
    text = read_text(path)
    return float(text) if text and re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def _field(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _board(root: Path, cpuinfo: str) -> str | None:
    for tree in ("proc/device-tree", "sys/firmware/devicetree/base"):
        if model := read_text(root / tree / "model"):
            return model
    return _field(cpuinfo, r"^Model\s*:\s*(.+)$")


def _cpu(cpuinfo: str) -> str | None:
    implementer = _field(cpuinfo, r"^CPU implementer\s*:\s*(\S+)") or ""
    named = _ARM_CORES.get((implementer, _field(cpuinfo, r"^CPU part\s*:\s*(\S+)") or ""))
    return named or _field(cpuinfo, r"^model name\s*:\s*(.+)$") or platform.processor() or None


def _int8_instructions(cpuinfo: str) -> tuple[str, ...] | None:
    flags = _field(cpuinfo, r"^(?:flags|Features)\s*:\s*(.+)$")
    if flags is None:
        return None
    return tuple(name for flag, name in _INT8_INSTRUCTIONS.items() if flag in flags.split())


def _accelerator(root: Path) -> str | None:
    """Name the NVIDIA GPU: a card by its driver's file, the one inside a Jetson by its chip."""
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        if model := _field(read_text(information) or "", r"^Model:\s*(.+)$"):
            return model
    chip = _field(read_text(root / "proc/device-tree/compatible") or "", r"nvidia,(tegra\d+)")
    return f"NVIDIA {chip} integrated GPU" if chip else None


def _jetson_release(root: Path) -> str | None:
    release = read_text(root / "etc/nv_tegra_release") or ""
    found = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"L4T {found.group(1)}.{found.group(2)}" if found else None


def _is_emulated(root: Path) -> bool | None:
    """Return whether QEMU runs this process: it imitates /proc/cpuinfo, but the process has the emulator's name."""
    status = read_text(root / "proc/self/status")
    return None if status is None else bool(re.search(r"^Name:\s*qemu-", status, re.MULTILINE))


def _short_name(board: str | None, cpu: str | None, emulated: bool | None) -> str:
    source = board or cpu or f"{platform.system()} {platform.machine()}"
    plain = _NOISE_IN_NAMES.sub(" ", source)
    words = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "device"
    if len(words) > _LONGEST_NAME:
        words = words[: _LONGEST_NAME + 1].rpartition("-")[0] or words[:_LONGEST_NAME]
    return f"{words}-emulated" if emulated else words


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _memory_bytes(root: Path, entry: str) -> int | None:
    kilobytes = _field(read_text(root / "proc/meminfo") or "", rf"^{entry}:\s*(\d+) kB")
    return int(kilobytes) * 1024 if kilobytes else None


def _cpufreq_files(root: Path, name: str) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}"))


def _clock(root: Path) -> dict[str, float] | None:
    current = [khz for path in _cpufreq_files(root, "scaling_cur_freq") if (khz := read_number(path))]
    if not current:
        return None
    limits = [khz for path in _cpufreq_files(root, "scaling_max_freq") if (khz := read_number(path))]
    clock = {"mean_mhz": sum(current) / len(current), "lowest_mhz": min(current), "highest_mhz": max(current)}
    if limits:
        clock["limit_mhz"] = max(limits)
    return {key: round(khz / 1000, 3) for key, khz in clock.items()}


def _governor(root: Path) -> str | None:
    names = {name for path in _cpufreq_files(root, "scaling_governor") if (name := read_text(path))}
    return ", ".join(sorted(names)) or None


def _temperatures(root: Path) -> dict[str, float] | None:
    readings: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        millidegrees = read_number(zone / "temp")
        if millidegrees is not None and millidegrees / 1000 > _COLDEST_CELSIUS:
            kind = read_text(zone / "type") or zone.name
            readings[kind if kind not in readings else f"{kind} ({zone.name})"] = millidegrees / 1000
    return readings or None


def _throttling(root: Path, command: Command) -> dict[str, object] | None:
    word = _pi_throttle_word(root, command)
    if word is not None:
        active = [name for bit, name in enumerate(_PI_THROTTLING) if word >> bit & 1]
        since_boot = [name for bit, name in enumerate(_PI_THROTTLING) if word >> (bit + 16) & 1]
        return {"active": active, "since_boot": since_boot}
    pattern = "cpu[0-9]*/thermal_throttle/core_throttle_count"
    paths = (root / "sys/devices/system/cpu").glob(pattern)
    known = [count for path in paths if (count := read_number(path)) is not None]
    return {"core_events": int(sum(known))} if known else None


def _pi_throttle_word(root: Path, command: Command) -> int | None:
    file = read_text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    answer = file or _field(command(["vcgencmd", "get_throttled"]) or "", r"throttled=(0x[0-9a-fA-F]+)")
    return int(answer, 16) if answer and re.fullmatch(r"(0x)?[0-9a-fA-F]+", answer) else None


def _power_mode(root: Path, command: Command) -> str | None:
    """Return the Jetson's power mode by name, from nvpmodel's own files or, failing these, from the tool."""
    number = _field(read_text(root / "var/lib/nvpmodel/status") or "", r"pmode:\s*0*(\d+)")
    modes = read_text(root / "etc/nvpmodel.conf") or ""
    named = _field(modes, rf"^<\s*POWER_MODEL\s+ID={number}\s+NAME=([^\s>]+)") if number else None
    return named or _field(command(["nvpmodel", "-q"]) or "", r"NV Power Mode:\s*(\S+)")


def _load(root: Path) -> dict[str, float] | None:
    values = re.match(r"([\d.]+) ([\d.]+) ([\d.]+)", read_text(root / "proc/loadavg") or "")
    if values:
        return dict(zip(_LOADS, map(float, values.groups()), strict=True))
    if root == ROOT and hasattr(os, "getloadavg"):
        return dict(zip(_LOADS, os.getloadavg(), strict=True))
    return None


def _pressure(root: Path) -> dict[str, float] | None:
    """Return the share of time, in percent, in which a task waited for a CPU (Linux pressure stall information)."""
    found = re.search(r"^some avg10=([\d.]+) avg60=([\d.]+)", read_text(root / "proc/pressure/cpu") or "")
    return {"some_avg10": float(found.group(1)), "some_avg60": float(found.group(2))} if found else None


def _stolen_s(root: Path) -> float | None:
    ticks = _field(read_text(root / "proc/stat") or "", r"^cpu +(?:\d+ +){7}(\d+)")
    return int(ticks) / os.sysconf("SC_CLK_TCK") if ticks and hasattr(os, "sysconf") else None
