from pathlib import Path

import pytest

from edgedistill_deploy.hardware.memory import begin_memory_peak, read_free_memory_bytes, read_peak_memory_bytes

MACHINE = {"proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable:    8000 kB\n"}
SECOND = {
    "proc/self/cgroup": "0::/user/job\n",
    "sys/fs/cgroup/user/job/memory.max": "max\n",
    "sys/fs/cgroup/user/job/memory.current": "900\n",
    "sys/fs/cgroup/user/memory.max": "5000000\n",
    "sys/fs/cgroup/user/memory.current": "3000000\n",
    "sys/fs/cgroup/user/memory.stat": "anon 1000\ninactive_file 1000000\n",
}
FIRST = {
    "proc/self/cgroup": "5:cpu:/\n4:memory:/job\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "4000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000000\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (MACHINE, 8_192_000),
        ({**MACHINE, **SECOND}, 3_000_000),
        ({**MACHINE, **FIRST}, 2_500_000),
        ({**MACHINE, **SECOND, "sys/fs/cgroup/user/memory.current": "9000000\n"}, 0),
        ({**MACHINE, "proc/self/cgroup": "0::/../../etc\nnonsense\n"}, 8_192_000),
        ({}, None),
    ],
    ids=["machine", "second version", "first version", "over its limit", "strange", "not Linux"],
)
def test_free_memory_is_what_the_machine_and_every_limit_leave(
    tmp_path: Path, files: dict[str, str], free: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")
    assert read_free_memory_bytes(tmp_path) == free


def test_a_peak_counts_from_where_it_was_begun() -> None:
    block = bytearray(b"1" * (192 << 20))
    whole = read_peak_memory_bytes()
    del block
    if not begin_memory_peak():
        pytest.skip("this system does not let a process count its peak anew")
    assert whole is not None
    assert (read_peak_memory_bytes() or 0) < whole - (64 << 20)


def test_a_system_without_it_is_no_error(tmp_path: Path) -> None:
    assert begin_memory_peak(tmp_path) is False
