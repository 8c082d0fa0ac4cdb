"""Energy an inference, on recorded sensors of real boards and with a clock and a power that are known."""

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.hardware._power_readers import RaplReader, find_power_reader, parse_pmic, parse_tegrastats
from edgedistill_deploy.hardware.power import EnergyReport, measure_energy
from played_clock import PlayedClock

# Lines that people published of their boards: an Orin Nano (JetPack 6), an AGX Orin (JetPack 5), a Nano and a TX1
# (JetPack 4).
ORIN_NANO = (
    "07-14-2025 10:29:36 RAM 2147/7620MB (lfb 2x4MB) SWAP 1476/3810MB (cached 1MB) CPU [0%@729,0%@729,0%@729,0%@729,"
    "0%@729,0%@729] GR3D_FREQ 0% cpu@47.687C soc2@46.718C soc0@47.468C gpu@48.625C tj@48.625C soc1@48.25C "
    "VDD_IN 4556mW/4600mW VDD_CPU_GPU_CV 483mW/483mW VDD_SOC 1451mW/1451mW"
)
AGX_ORIN = (
    "EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 NVDLA0_FREQ @1600 APE 174 CV0@73.625C CPU@77.281C "
    "Tboard@62C SOC2@70C Tdiode@62.25C SOC0@69.531C CV1@72.5C GPU@69.125C tj@77.281C SOC1@68.968C CV2@67.25C "
    "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW"
)
NANO = (
    "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) CPU [2%@102,1%@102,0%@102,0%@102] EMC_FREQ 0% GR3D_FREQ "
    "0% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C POM_5V_IN 900/943 POM_5V_GPU 0/0 POM_5V_CPU 123/123"
)
# A Raspberry Pi 5 at work.
PI_5 = """ 3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=10.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""


def nobody(_arguments: Sequence[str]) -> None:
    return None


def write(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n", encoding="utf-8")


def ina3221(root: Path, address: str, rails: Sequence[tuple[str, int, int] | None]) -> None:
    """Lay out one chip as the kernel does: label, millivolts and milliamperes by channel."""
    files: dict[str, object] = {}
    for channel, rail in enumerate(rails, 1):
        if rail is not None:
            files |= {f"in{channel}_label": rail[0], f"in{channel}_input": rail[1], f"curr{channel}_input": rail[2]}
    write(root / "sys/bus/i2c/drivers/ina3221" / address / "hwmon/hwmon3", files)


def watts_of(root: Path, command: Callable[[Sequence[str]], str | None] = nobody) -> tuple[str, str, float]:
    with contextlib.ExitStack() as stack:
        reader = find_power_reader(stack, root, command)
        assert reader is not None
        watts = reader.read()
        assert watts is not None
        return reader.name, reader.scope, watts


def test_an_orin_nano_tells_its_modules_input(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", [("VDD_IN", 5056, 904), ("VDD_CPU_GPU_CV", 5048, 96), ("VDD_SOC", 5048, 288)])
    name, scope, watts = watts_of(tmp_path)
    assert (name, scope) == ("ina3221", "VDD_IN")
    assert watts == pytest.approx(5.056 * 0.904)


def test_an_agx_orin_has_no_input_rail_and_the_rails_of_its_first_chip_are_summed(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", [("VDD_GPU_SOC", 843, 6170), ("VDD_CPU_CV", 780, 3437), ("VIN_SYS_5V0", 4968, 953)])
    ina3221(tmp_path, "1-0041", [None, ("VDDQ_VDD2_1V8AO", 1800, 341), None])
    name, scope, watts = watts_of(tmp_path)
    assert (name, scope) == ("ina3221", "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0")
    assert watts == pytest.approx(0.843 * 6.170 + 0.780 * 3.437 + 4.968 * 0.953)


def test_the_driver_of_jetpack_4_gives_milliwatts(tmp_path: Path) -> None:
    write(
        tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0",
        {"rail_name_0": "POM_5V_IN", "in_power0_input": 2532, "rail_name_1": "POM_5V_GPU", "in_power1_input": 41},
    )
    assert watts_of(tmp_path) == ("ina3221", "POM_5V_IN", 2.532)


@pytest.mark.parametrize(
    ("line", "rails"),
    [
        (ORIN_NANO, {"VDD_IN": 4.556, "VDD_CPU_GPU_CV": 0.483, "VDD_SOC": 1.451}),
        (
            AGX_ORIN,
            {"VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091},
        ),
        (NANO, {"POM_5V_IN": 0.9, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.123}),
        ("VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19", {"VDD_IN": 2.532, "VDD_CPU": 0.076, "VDD_GPU": 0.019}),
        ("RAM 1/2MB CPU [5%@102]", {}),
    ],
)  # fmt: skip
def test_tegrastats_gives_the_present_watts_of_every_rail(line: str, rails: dict[str, float]) -> None:
    assert parse_tegrastats(line) == rails


def test_the_pis_power_chip_gives_the_rails_it_measures_both_of() -> None:
    pairs = [
        (0.06245952, 3.306322), (0.1610285, 1.798289), (0.00780744, 1.102929), (0.1756674, 1.104394),
        (0.3279125, 0.8025633), (10.87674, 0.8974594), (0.0003663, 3.304942), (0.00042735, 3.302194),
        (0.00579975, 0.7973619), (0.0136752, 5.07056),
    ]  # fmt: skip
    assert parse_pmic(PI_5) == pytest.approx(sum(amperes * volts for amperes, volts in pairs))


@pytest.mark.parametrize(
    "text", ["", "error=1 error_msg=\"Command not registered\"", "EXT5V_V volt(24)=5.0678V"]
)  # fmt: skip
def test_a_board_without_such_a_chip_gives_nothing(text: str) -> None:
    assert parse_pmic(text) is None


def test_a_pi_5_is_asked_through_its_tool(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def command(arguments: Sequence[str]) -> str:
        asked.append(list(arguments))
        return PI_5

    name, scope, _ = watts_of(tmp_path, command)
    assert name == "vcgencmd-pmic"
    assert "the board takes more" in scope
    assert asked[0] == ["vcgencmd", "pmic_read_adc"]


def rapl(root: Path, microjoules: int, limit: int | None = 262_143_328_850) -> Path:
    zone = root / "sys/class/powercap/intel-rapl:0"
    write(zone, {"name": "package-0", "energy_uj": microjoules})
    if limit is not None:
        write(zone, {"max_energy_range_uj": limit})
    write(root / "sys/class/powercap/intel-rapl:0:0", {"name": "core", "energy_uj": 1})
    return zone


def test_a_processors_counter_wraps(tmp_path: Path) -> None:
    zone = rapl(tmp_path, 262_143_000_000)
    reader = RaplReader((zone,))
    assert reader.read() == 0
    rapl(tmp_path, 262_143_300_000)
    assert reader.read() == pytest.approx(0.3)
    rapl(tmp_path, 1_000_000)
    assert reader.read() == pytest.approx(0.328850 + 1)


def test_a_counter_that_wraps_at_an_unknown_limit_tells_nothing(tmp_path: Path) -> None:
    reader = RaplReader((rapl(tmp_path, 9_000_000, limit=None),))
    rapl(tmp_path, 1_000_000, limit=None)
    assert reader.read() is None


def test_a_counter_kept_for_root_is_not_zero_but_absent(tmp_path: Path) -> None:
    (rapl(tmp_path, 5) / "energy_uj").unlink()
    report = measure_energy(lambda: None, 1, root=tmp_path, command=nobody)
    assert report == EnergyReport(reason="not available: this machine shows no power sensor to this user")
    assert report.to_json()["energy_per_image_mj"] is None


def test_tegrastats_runs_while_it_is_read_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tegrastats"
    program.write_text(f'#!/bin/sh\necho $$ > {tmp_path}/pid\nwhile true; do echo "{ORIN_NANO}"; sleep 0.02; done\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with contextlib.ExitStack() as stack:
        reader = find_power_reader(stack, command=nobody)
        assert reader is not None
        if reader.name != "tegrastats":
            pytest.skip(f"this machine has a power sensor of its own ({reader.name})")
        assert (reader.scope, reader.read()) == ("VDD_IN", 4.556)
        assert not Path("/proc/self").exists() or Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


class Board(PlayedClock):
    """A board whose clock only work and waiting move, and a power that depends on which of them it is."""

    def __init__(self, root: Path, idle_w: float, load_w: float, run_s: float) -> None:
        self.root, self.idle_w, self.load_w, self.run_s = root, idle_w, load_w, run_s
        super().__init__()
        self.runs, self._shown = 0, -1.0
        self._shows(idle_w)

    def _shows(self, watts: float) -> None:
        if watts == self._shown:
            return
        self._shown = watts
        ina3221(self.root, "1-0040", [("VDD_IN", 5000, round(watts / 5 * 1000)), None, None])

    def run(self) -> None:
        self._shows(self.load_w)
        self.runs += 1
        super().sleep(self.run_s)

    def sleep(self, seconds: float) -> None:
        self._shows(self.idle_w)
        super().sleep(seconds)

    def measure(self, batch_size: int = 1) -> EnergyReport:
        return measure_energy(self.run, batch_size, root=self.root, command=nobody, clock=self)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 16))
@settings(max_examples=6, deadline=None)
def test_the_energy_is_the_power_above_rest_times_the_time_of_a_run(idle: int, extra: int, batch: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        report = Board(Path(root), idle * 0.5, (idle + extra) * 0.5, run_s=0.04).measure(batch)
    assert report.idle is not None
    assert report.load is not None
    assert report.idle.mean_w == pytest.approx(idle * 0.5, rel=0.02)
    assert report.net_w == pytest.approx(extra * 0.5, rel=0.05)
    assert report.energy_per_image_mj == pytest.approx(extra * 0.5 * 40 / batch, rel=0.05)
    assert report.gross_energy_per_image_mj == pytest.approx((idle + extra) * 0.5 * 40 / batch, rel=0.02)


def test_a_load_that_cannot_be_told_from_rest_has_no_energy(tmp_path: Path) -> None:
    report = Board(tmp_path, 3.0, 3.0, run_s=0.06).measure()
    assert report.energy_per_image_mj is None
    assert report.reason == "the power under load is not distinguishable from that at rest"
    assert report.gross_energy_per_image_mj == pytest.approx(3.0 * 60, rel=0.02)


def test_a_sensor_that_falls_silent_is_said_to(tmp_path: Path) -> None:
    board = Board(tmp_path, 2.0, 4.0, run_s=0.05)

    def run() -> None:
        board.run()
        if board.runs == 5:
            for file in tmp_path.rglob("curr1_input"):
                file.unlink()
            board.run = lambda: PlayedClock.sleep(board, 0.05)  # type: ignore[method-assign]

    report = measure_energy(run, 1, root=tmp_path, command=nobody, clock=board)
    assert report.reader == "ina3221"
    assert report.reason is not None
    assert report.reason.startswith("not available: ina3221 gave fewer than 10 readings")
    assert report.net_w is None


def test_a_sensor_that_is_named_is_the_only_one_tried(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", [("VDD_IN", 5000, 1000)])
    packages = {"name": "package-0", "energy_uj": 5, "max_energy_range_uj": 1000}
    write(tmp_path / "sys/class/powercap/intel-rapl:0", packages)
    found = {}
    for wanted in ("auto", "ina3221", "rapl", "vcgencmd", "none"):
        with contextlib.ExitStack() as stack:
            reader = find_power_reader(stack, tmp_path, nobody, wanted)
            found[wanted] = None if reader is None else reader.name
    assert found == {"auto": "ina3221", "ina3221": "ina3221", "rapl": "rapl", "vcgencmd": None, "none": None}
    reasons = {
        sensor: measure_energy(lambda: None, 1, root=tmp_path, command=nobody, sensor=sensor).reason
        for sensor in ("vcgencmd", "none")
    }
    assert reasons == {
        "vcgencmd": "not available: this machine shows no vcgencmd to this user",
        "none": "not available: this machine shows no power sensor to this user",
    }
