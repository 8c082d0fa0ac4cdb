"""The one clock of this package: every measured or recorded duration is the difference of two of its readings.

Time limits use it too. Only `remote._keeper` reads another clock: a device gets it as source, so it imports nothing of
ours. It times its wait for a lock and the age of files. Dates, such as that of a report, are not durations.
"""

import time
from typing import Protocol

_SPIN_NS = 500_000


class Clock(Protocol):
    """Tells the time and waits. Tests bring their own; everything else uses `MACHINE_CLOCK`."""

    def now_ns(self) -> int:
        """Return nanoseconds since a moment that is the same for all processes of a machine."""

    def sleep(self, seconds: float) -> None:
        """Leave the processor to others for this time or a little longer."""

    def wait_until(self, moment_ns: int) -> None:
        """Return when `now_ns` has reached the moment, with as little delay as the machine can."""


class _MachineClock:
    # The functions themselves, because the time of a method around them would be measured too.
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
