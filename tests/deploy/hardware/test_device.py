import builtins
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from edgedistill_deploy.hardware.device import (
    read_conditions,
    read_device,
    read_involuntary_switches,
    read_peak_memory_bytes,
    run_command,
)

PI_4 = {
    "proc/cpuinfo": (
        "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
        "processor\t: 1\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n"
        "Revision\t: d03114\nSerial\t\t: 100000000fffffff\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
    ),
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
    "proc/meminfo": "MemTotal:        7998536 kB\nMemFree:         6000000 kB\nMemAvailable:    7400000 kB\n",
    "proc/loadavg": "0.52 0.41 0.30 1/160 1234\n",
    "proc/pressure/cpu": "some avg10=12.34 avg60=3.21 avg300=0.50 total=123456\n",
    "proc/stat": "cpu  100 0 50 1000 5 0 1 0 0 0\ncpu0 50 0 25 500 2 0 1 0 0 0\n",
    "proc/self/status": "Name:\tpython3\nVmHWM:\t   51200 kB\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1800000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1800000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48686\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
}

JETSON_ORIN_NANO = {
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": (
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC "
        "2025\n# KERNEL_VARIANT: oot\n"
    ),
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "47312\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone3/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone3/temp": "46000\n",
}

XEON = {
    "proc/cpuinfo": (
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz\nflags\t\t: fpu hypervisor avx2\n"
    ),
    "proc/stat": "cpu  100 0 50 1000 5 0 1 250 0 0\n",
    "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 3080\nIRQ:   \t\t 77\n",
    "sys/class/dmi/id/product_name": "PowerEdge R730\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
}


def tree(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def test_a_raspberry_pi_names_itself(tmp_path: Path) -> None:
    info = read_device(tree(tmp_path, PI_4))
    assert info.name == "raspberry-pi-4-model-b-rev-1-4"
    assert info.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert info.cpu == "Cortex-A72"
    assert (info.cpu_count, info.memory_bytes) == (2, 7998536 * 1024)
    assert (info.accelerator, info.board_release, info.virtual, info.emulated) == (None, None, False, False)
    assert info.system == "Debian GNU/Linux 12 (bookworm)"


@pytest.mark.parametrize(
    ("cpuinfo", "instructions"),
    [
        ("flags\t\t: fpu avx2 avx512f", ()),
        ("flags\t\t: fpu avx2 avx512_vnni amx_int8 amx_tile", ("AVX512-VNNI", "AMX")),
        ("flags\t\t: fpu avx_vnni avx_vnni_int8", ("AVX-VNNI", "AVX-VNNI-INT8")),
        ("Features\t: fp asimd asimddp i8mm", ("dot product", "i8mm")),
        ("Features\t: fp asimd", ()),
        ("processor\t: 0", None),
    ],
)
def test_the_instructions_for_int8_are_named(
    cpuinfo: str, instructions: tuple[str, ...] | None, tmp_path: Path
) -> None:
    info = read_device(tree(tmp_path, {"proc/cpuinfo": cpuinfo}))
    assert info.int8_instructions == instructions
    assert info.to_json()["int8_instructions"] == (None if instructions is None else list(instructions))


def test_the_serial_number_stays_on_the_board(tmp_path: Path) -> None:
    assert "100000000fffffff" not in json.dumps(read_device(tree(tmp_path, PI_4)).to_json())


def test_the_board_is_found_in_cpuinfo_without_a_device_tree(tmp_path: Path) -> None:
    without_tree = {name: text for name, text in PI_4.items() if "device-tree" not in name}
    assert read_device(tree(tmp_path, without_tree)).board == "Raspberry Pi 4 Model B Rev 1.4"


def test_conditions_of_a_raspberry_pi(tmp_path: Path) -> None:
    conditions = read_conditions(tree(tmp_path, PI_4))
    assert conditions == {
        "clock": {"mean_mhz": 1200.0, "lowest_mhz": 600.0, "highest_mhz": 1800.0, "limit_mhz": 1800.0},
        "governor": "ondemand",
        "temperature": {"cpu-thermal": 48.686},
        "throttling": {"active": ["under-voltage", "throttled"], "since_boot": ["under-voltage", "throttled"]},
        "power_mode": None,
        "load": {"avg_1min": 0.52, "avg_5min": 0.41, "avg_15min": 0.30},
        "pressure": {"some_avg10": 12.34, "some_avg60": 3.21},
        "stolen_s": 0.0,
        "memory_available_bytes": 7400000 * 1024,
    }


@pytest.mark.parametrize(
    ("answer", "active"), [("throttled=0x50000\n", []), ("throttled=0x8\n", ["soft temperature limit"])]
)
def test_throttling_is_asked_of_vcgencmd_when_no_file_tells(tmp_path: Path, answer: str, active: list[str]) -> None:
    def command(arguments: Sequence[str]) -> str | None:
        return answer if list(arguments) == ["vcgencmd", "get_throttled"] else None

    throttling = read_conditions(tmp_path, command)["throttling"]
    assert isinstance(throttling, dict)
    assert throttling["active"] == active


def test_a_jetson_names_itself_its_release_and_its_gpu(tmp_path: Path) -> None:
    info = read_device(tree(tmp_path, JETSON_ORIN_NANO))
    assert info.name == "nvidia-jetson-orin-nano-super"
    assert info.cpu == "Cortex-A78AE"
    assert info.accelerator == "NVIDIA tegra234 integrated GPU"
    assert info.board_release == "L4T 36.4.3"


def test_conditions_of_a_jetson(tmp_path: Path) -> None:
    conditions = read_conditions(tree(tmp_path, JETSON_ORIN_NANO))
    assert conditions["power_mode"] == "MAXN_SUPER"
    assert conditions["temperature"] == {"cpu-thermal": 47.312, "cpu-thermal (thermal_zone3)": 46.0}


def test_the_power_mode_is_asked_of_nvpmodel_when_no_file_tells(tmp_path: Path) -> None:
    assert read_conditions(tmp_path, lambda _: "NV Power Mode: 15W\n0\n")["power_mode"] == "15W"


def test_a_server_is_named_by_its_cpu_and_counts_thermal_events(tmp_path: Path) -> None:
    root = tree(tmp_path, XEON)
    info = read_device(root)
    assert info.name == "intel-xeon-e5-2680-v4"
    assert (info.board, info.virtual) == ("PowerEdge R730", True)
    assert info.accelerator == "NVIDIA GeForce RTX 3080"
    conditions = read_conditions(root)
    assert conditions["throttling"] == {"core_events": 7}
    assert conditions["stolen_s"] == 250 / os.sysconf("SC_CLK_TCK")


def test_an_emulated_board_says_so(tmp_path: Path) -> None:
    emulated = {**PI_4, "proc/self/status": "Name:\tqemu-aarch64-st\n"}
    info = read_device(tree(tmp_path, emulated))
    assert info.emulated is True
    assert info.name == "raspberry-pi-4-model-b-rev-1-4-emulated"


def test_what_is_absent_is_none_and_never_zero(tmp_path: Path) -> None:
    assert set(read_conditions(tmp_path).values()) == {None}
    info = read_device(tmp_path)
    assert (info.board, info.memory_bytes, info.accelerator, info.virtual, info.emulated) == (None,) * 5


def test_unreadable_and_absurd_files_count_as_absent(tmp_path: Path) -> None:
    broken = {
        "sys/class/thermal/thermal_zone0/temp": "n/a\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "<unknown>\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "what\n",
        "proc/pressure/cpu": "\xff\xfe",
        "proc/loadavg": "",
    }
    root = tree(tmp_path, broken)
    (root / "proc/device-tree/model").mkdir(parents=True)
    assert set(read_conditions(root).values()) == {None}
    assert read_device(root).board is None


@pytest.mark.parametrize(
    "model",
    ["Ünïcode Bôard", "../../etc/passwd", "a/b\\c:d*e?f", "x" * 200, "The Quite Long Name Of A Board That Never Ends"],
)
def test_the_name_is_safe_in_a_file_name(tmp_path: Path, model: str) -> None:
    name = read_device(tree(tmp_path, {"proc/device-tree/model": model})).name
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name)


def test_a_board_without_letters_is_still_named(tmp_path: Path) -> None:
    assert read_device(tree(tmp_path, {"proc/device-tree/model": "中文"})).name == "device"


def test_a_system_without_proc_is_named_by_its_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert read_device(tmp_path).name == "windows-amd64"


def test_this_machine_can_be_described() -> None:
    json.dumps([read_device().to_json(), read_conditions()], allow_nan=False)
    assert read_device() == read_device()
    assert read_device().libraries["numpy"]


def test_a_missing_or_failing_query_tool_answers_nothing() -> None:
    assert run_command(["edgedistill-no-such-tool"]) is None
    assert run_command([sys.executable, "-c", "raise SystemExit(1)"]) is None
    assert run_command([sys.executable, "-c", "print('yes')"]) == "yes\n"


def test_a_tool_that_cannot_start_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(subprocess, "run", refuse)
    assert run_command([sys.executable]) is None


def test_peak_memory_is_the_kernels_high_water_mark(tmp_path: Path) -> None:
    assert read_peak_memory_bytes(tree(tmp_path, PI_4)) == 51200 * 1024


@pytest.mark.parametrize(("system", "unit"), [("Linux", 1024), ("Darwin", 1)])
def test_peak_memory_without_proc_comes_from_getrusage_in_the_systems_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, unit: int
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(platform, "system", lambda: system)
    peak = read_peak_memory_bytes(tmp_path)
    assert peak is not None
    assert peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert peak > 1_000_000 * unit // 1024


def test_a_system_without_getrusage_reports_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_resource(name: str, *arguments: object, **keywords: object) -> ModuleType:
        if name == "resource":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_resource)
    assert read_peak_memory_bytes(tmp_path) is None
    assert read_involuntary_switches() is None


def test_involuntary_switches_never_fall() -> None:
    first, second = read_involuntary_switches(), read_involuntary_switches()
    assert first is not None
    assert second is not None
    assert 0 <= first <= second
