"""Progress as lines, by a clock that the test sets."""

import itertools
import re
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from edgedistill_cli.console import PlainLines
from edgedistill_deploy.progress import Phases


@dataclass
class Terminal:
    """Lines with the second in which they were written."""

    now: float = 0.0
    lines: list[tuple[float, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append((self.now, text))

    def progress(self) -> PlainLines:
        return PlainLines(self.say, "export", clock=lambda: self.now)


STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 60), st.integers(0, 50), st.sampled_from(["", "images"])), max_size=40
)


@given(STEPS)
def test_lines_come_once_in_ten_seconds_and_their_share_never_falls(steps: list[tuple[float, int, int, str]]) -> None:
    terminal = Terminal()
    lines = terminal.progress()
    for wait, done, total, note in steps:
        terminal.now += wait
        lines.report(done, total, note)
    times = [0.0, *(at for at, _ in terminal.lines)]
    assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(times))
    shares = [int(found[1]) for _, text in terminal.lines if (found := re.search(r"(\d+) %", text))]
    assert shares == sorted(shares)
    assert all(0 <= share <= 100 for share in shares)


def test_no_time_left_is_claimed_where_nothing_is_left_to_count() -> None:
    terminal = Terminal()
    lines = terminal.progress()
    for second in range(15, 195, 15):
        terminal.now = second
        lines.report(40, 40)
    assert terminal.lines
    assert not any("left" in text for _, text in terminal.lines)


def test_a_phase_without_a_count_is_named_and_the_time_left_is_that_of_the_finished_part() -> None:
    terminal = Terminal()
    phases = Phases(terminal.progress().report, {"writing model.fp32.onnx": 1, "writing teacher.fp32.onnx": 3})
    terminal.now = 20
    phases.begin("writing model.fp32.onnx")
    terminal.now = 40
    phases.begin("writing teacher.fp32.onnx")
    assert terminal.lines == [
        (20, "export: 0 %, writing model.fp32.onnx"),
        (40, "export: 25 %, writing teacher.fp32.onnx, about 120 s left"),
    ]


def test_the_time_left_is_right_where_the_shares_are() -> None:
    terminal = Terminal()
    phases = Phases(terminal.progress().report, {"quick": 20, "slow": 80})
    for name, seconds in (("quick", 20), ("slow", 80)):
        report = phases.begin(name)
        for done in range(1, seconds + 1):
            terminal.now += 1
            report(done, seconds)
    for at, text in terminal.lines:
        found = re.search(r"about (\d+) s left", text)
        assert found is not None
        assert abs(int(found[1]) - (100 - at)) <= 1
