"""There is one clock, and it is the machine's."""

import re
import subprocess
import sys
from pathlib import Path

import edgedistill_deploy
from edgedistill_deploy.clock import MACHINE_CLOCK

PACKAGE = Path(edgedistill_deploy.__file__).parent
READING = re.compile(r"\btime\.(perf_counter|monotonic|process_time|time)|\bfrom time import|\btimeit\b")


def test_no_other_module_reads_a_clock_but_what_is_sent_as_source() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if READING.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"clock.py", "remote/_keeper.py"}


def test_it_is_the_same_for_all_processes() -> None:
    code = "from edgedistill_deploy.clock import MACHINE_CLOCK; print(MACHINE_CLOCK.now_ns())"
    before = MACHINE_CLOCK.now_ns()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert before < int(told.stdout) < MACHINE_CLOCK.now_ns()


def test_a_moment_is_waited_for_and_a_past_one_is_not() -> None:
    began = MACHINE_CLOCK.now_ns()
    MACHINE_CLOCK.wait_until(began - 1_000_000_000)
    MACHINE_CLOCK.wait_until(began + 3_000_000)
    assert MACHINE_CLOCK.now_ns() - began >= 3_000_000
