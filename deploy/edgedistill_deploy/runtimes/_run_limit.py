"""Stops a run that takes too long, from a thread beside it, because nobody else can while the runtime computes."""

import threading
from collections.abc import Callable

from edgedistill_deploy.clock import MACHINE_CLOCK

_LOOKS = 20  # at the clock, within the limit
_RAREST_S = 5.0  # looking disturbs what is measured


class RunLimit:
    """Calls `stop` once when a run lasts longer than `limit_s`; `expired` tells whether the last run did."""

    def __init__(self, limit_s: float, stop: Callable[[], None]) -> None:
        self.limit_s, self.expired = limit_s, False
        self._stop = stop
        self._until_ns: int | None = None
        self._changing = threading.Lock()  # so that no run is stopped for the one before
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Note that a run begins. The first one starts the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        with self._changing:
            self.expired = False
            self._until_ns = MACHINE_CLOCK.now_ns() + int(self.limit_s * 1e9)

    def end(self) -> None:
        """Note that the run has ended."""
        with self._changing:
            self._until_ns = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(self.limit_s / _LOOKS, _RAREST_S)):
            with self._changing:
                if self._until_ns is not None and MACHINE_CLOCK.now_ns() > self._until_ns:
                    self.expired, self._until_ns = True, None
                    self._stop()
