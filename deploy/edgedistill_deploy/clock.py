"""The one clock of this package: every duration that is measured or recorded is the difference of two of its readings.

Time limits are counted on it too. No other module reads a clock but `remote._keeper`, which a device gets as source and
which therefore imports nothing of ours: it times how long it waits for its lock, and how old files are. Dates, such as
that of a report, are no durations and are taken where they are written.
"""

import time
from typing import Protocol

_SPIN_NS = 500_000


class Clock(Protocol):
    """Tells the time and lets it pass. Tests play one; everything else uses `MACHINE_CLOCK`."""

    def now_ns(self) -> int:
        """Return nanoseconds since some moment, which is the same for all processes of a machine."""

    def sleep(self, seconds: float) -> None:
        """Leave the processor to others for so long, or a little longer."""

    def wait_until(self, moment_ns: int) -> None:
        """Return when `now_ns` has reached the moment, and no later than that where the machine can."""


class _MachineClock:
    # The functions themselves: a method of ours around them would be measured too.
    now_ns = staticmethod(time.perf_counter_ns)
    sleep = staticmethod(time.sleep)

    def wait_until(self, moment_ns: int) -> None:
        """Sleep, and spend the last half millisecond awake, because sleep wakes late."""
        left_ns = moment_ns - self.now_ns()
        if left_ns > _SPIN_NS:
            self.sleep((left_ns - _SPIN_NS) / 1e9)
        while self.now_ns() < moment_ns:
            pass


MACHINE_CLOCK: Clock = _MachineClock()
