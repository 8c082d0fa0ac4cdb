"""A board's own power sensors, as far as every user can read them. Nothing here needs root or changes anything.

A counter of the processor gives the joules since it was made; a sensor gives the watts of the moment.
"""

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from edgedistill_deploy.hardware.device import ROOT, Command, read_number, read_text, run_command

# The rail of the whole module is the first of these that a board has; else these rails are added up.
_INPUT_RAILS = ("VDD_IN", "POM_5V_IN")
_SUMMED_RAILS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
_TEGRASTATS_PERIOD_MS = 100
_TEGRASTATS_PATIENCE_S = 5.0


class PowerReader(Protocol):
    """A board's power meter.

    Attributes:
        name: of the sensor, as in records.
        scope: the parts of the board that it measures, in words.
        period_s: the shortest useful time between two readings.
    """

    name: str
    scope: str
    period_s: float

    def read(self) -> float | None:
        """Return watts now, or for a counter joules since it was made; None where the sensor does not answer."""


class RaplReader:
    """The energy counters of x86 processors' packages (Linux powercap), in microjoules that wrap around."""

    name = "rapl"
    period_s = 0.1

    def __init__(self, zones: tuple[Path, ...]) -> None:
        self._zones = zones
        self.scope = "processor package" + ("s" if len(zones) > 1 else "")
        self._last = {zone: read_number(zone / "energy_uj") for zone in zones}
        self._joules = 0.0

    def read(self) -> float | None:
        """Return joules since the reader was made."""
        for zone in self._zones:
            now, last = read_number(zone / "energy_uj"), self._last[zone]
            if now is None or last is None:
                return None
            grown = now - last
            if grown < 0:
                limit = read_number(zone / "max_energy_range_uj")
                if limit is None:
                    return None
                grown += limit
            self._joules += grown / 1e6
            self._last[zone] = now
        return self._joules


class RailReader:
    """Sensors of a board's supply rails. The watts of the chosen rails add up to what the module takes."""

    def __init__(self, name: str, period_s: float, rails: Callable[[], Mapping[str, float] | None]) -> None:
        self.name, self.period_s = name, period_s
        self._rails = rails
        self._chosen = _choose_rails(rails() or {})
        self.scope = " + ".join(self._chosen)

    def read(self) -> float | None:
        """Return watts now."""
        rails = self._rails()
        if not self._chosen or rails is None or any(name not in rails for name in self._chosen):
            return None
        return sum(rails[name] for name in self._chosen)


class PmicReader:
    """The power chip of a Raspberry Pi 5, read through `vcgencmd`. The sum lacks the rails that it does not measure."""

    name = "vcgencmd-pmic"
    scope = "sum of the rails that the power chip measures; the board takes more"
    period_s = 0.5  # every answer takes a process of its own

    def __init__(self, command: Command) -> None:
        self._command = command

    def read(self) -> float | None:
        """Return watts now."""
        return parse_pmic(self._command(["vcgencmd", "pmic_read_adc"]) or "")


class TegrastatsRails:
    """The rails in the last line of a running `tegrastats`, which runs until `close`."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program, "--interval", str(_TEGRASTATS_PERIOD_MS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._rails: dict[str, float] | None = None
        self._seen = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()
        self._seen.wait(_TEGRASTATS_PATIENCE_S)

    def __call__(self) -> dict[str, float] | None:
        """Return watts by rail; None once the program has ended."""
        return self._rails if self._process.poll() is None else None

    def close(self) -> None:
        """Stop the program."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        assert self._process.stdout is not None  # it is a pipe
        self._process.stdout.close()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while this thread waits
            for line in self._process.stdout:
                self._rails = parse_tegrastats(line) or self._rails
                self._seen.set()


def find_power_reader(
    stack: contextlib.ExitStack, root: Path = ROOT, command: Command = run_command, wanted: str = "auto"
) -> PowerReader | None:
    """Return the reader of this board's power; None where there is no sensor, or only one for root.

    Args:
        stack: closes what the reader keeps open.
        root: the tree with /sys and /proc.
        command: runs a board's query tool.
        wanted: one of `remote.inventory.POWER_READERS`. Only this one is tried, but "auto" tries all.
    """
    finders: dict[str, Callable[[], PowerReader | None]] = {
        "ina3221": lambda: _ina3221(root),
        "rapl": lambda: _rapl(root),
        "vcgencmd": lambda: PmicReader(command),
        "tegrastats": lambda: _tegrastats(stack) if root == ROOT else None,
    }
    for name, find in finders.items():
        reader = find() if wanted in ("auto", name) else None
        if reader is not None and reader.read() is not None:
            return reader
    return None


def parse_tegrastats(line: str) -> dict[str, float]:
    """Return watts by rail from a line of `tegrastats`, such as `VDD_IN 4761mW/4777mW`.

    The first number is the present one, the second an average. Before JetPack 5 they have no unit.
    """
    found = re.finditer(r"\b((?:VDD|VIN|POM|VDDQ)_\w+) (\d+)(?:mW)?/\d+(?:mW)?", line)
    return {match[1]: int(match[2]) / 1000 for match in found}


def parse_pmic(text: str) -> float | None:
    """Return the watts of all rails with a current and a voltage in `vcgencmd pmic_read_adc`; None for no rail."""
    readings = {
        (match[1], match[2]): float(match[3])
        for match in re.finditer(r"(\w+)_([AV]) (?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]", text)
    }
    watts = [
        amperes * readings[rail, "V"]
        for (rail, unit), amperes in readings.items()
        if unit == "A" and (rail, "V") in readings
    ]
    return sum(watts) if watts else None


def read_ina3221(folder: Path) -> dict[str, float]:
    """Return watts by rail from the files of one INA3221, as the kernel's or NVIDIA's older driver names them."""
    rails: dict[str, float] = {}
    for channel in (1, 2, 3):
        label = read_text(folder / f"in{channel}_label")
        millivolts, milliamperes = (read_number(folder / f"{kind}{channel}_input") for kind in ("in", "curr"))
        if label and millivolts is not None and milliamperes is not None:
            rails[label] = millivolts * milliamperes / 1e6
    for channel in (0, 1, 2):
        label, milliwatts = read_text(folder / f"rail_name_{channel}"), read_number(folder / f"in_power{channel}_input")
        if label and milliwatts is not None:
            rails[label] = milliwatts / 1000
    return rails


def _ina3221(root: Path) -> PowerReader | None:
    drivers = root / "sys/bus/i2c/drivers"
    folders = sorted((*drivers.glob("ina3221/*/hwmon/hwmon*"), *drivers.glob("ina3221x/*/iio:device*")))
    if not folders:
        return None
    return RailReader(
        "ina3221", 0.05, lambda: {name: watts for each in folders for name, watts in read_ina3221(each).items()}
    )


def _rapl(root: Path) -> PowerReader | None:
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    packages = tuple(zone for zone in zones if (read_text(zone / "name") or "").startswith("package"))
    return RaplReader(packages) if packages else None


def _tegrastats(stack: contextlib.ExitStack) -> PowerReader | None:
    program = shutil.which("tegrastats")
    if program is None:
        return None
    rails = TegrastatsRails(program)
    stack.callback(rails.close)
    return RailReader("tegrastats", _TEGRASTATS_PERIOD_MS / 1000, rails)


def _choose_rails(rails: Mapping[str, float]) -> tuple[str, ...]:
    for name in _INPUT_RAILS:
        if name in rails:
            return (name,)
    return tuple(name for name in _SUMMED_RAILS if name in rails)
