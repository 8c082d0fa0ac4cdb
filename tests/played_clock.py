"""A clock that tests play, in place of the machine's."""

from collections.abc import Iterator
from itertools import repeat


class PlayedClock:
    """Stands still but for what is played on it, the waits, and what each reading takes."""

    def __init__(self, at_ns: int = 0, readings_ns: Iterator[int] | None = None) -> None:
        self.at_ns = at_ns
        self._readings_ns = repeat(0) if readings_ns is None else readings_ns

    def now_ns(self) -> int:
        self.at_ns += next(self._readings_ns)
        return self.at_ns

    def sleep(self, seconds: float) -> None:
        self.at_ns += round(seconds * 1e9)

    def wait_until(self, moment_ns: int) -> None:
        self.at_ns = max(self.at_ns, moment_ns)
