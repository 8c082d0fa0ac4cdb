"""What goes wrong on a device or on the way there: a clear sentence, the lock freed, nothing running, no half
result."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy import lines
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.remote import _keeper, _push, jobs
from edgedistill_deploy.remote._connection import DeviceError
from edgedistill_deploy.remote._link import require_python
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import RemoteJob, run_on_devices
from reference.device_timing import BRIEF, LONG
from ssh_server import Proxy, SshServer, children_of, processes_naming

Make = Callable[..., Any]


def error_of(job: RemoteJob, device: Device, progress: Progress = silent) -> str:
    (outcome,) = run_on_devices([device], job, lambda device: progress)
    assert outcome.result is None
    assert outcome.error is not None
    return outcome.error


def wait_until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def when_measuring(act: Callable[[], object]) -> Progress:
    """Do something once, as soon as the device reports that it measures."""
    acted: list[object] = []

    def report(done: int, total: int, note: str = "") -> None:
        if note.startswith("fp32") and not acted:
            acted.append(act())

    return report


def test_a_connection_cut_while_measuring(device: Make, profiling: Make, server: SshServer, work: Path) -> None:
    with Proxy(target=server.port) as proxy:
        server.trust(proxy.port)
        target = device(port=proxy.port)
        message = error_of(profiling(target, latency=LONG), target, when_measuring(proxy.cut))
    assert message.startswith("The connection to loop was lost.")
    wait_until(lambda: not (work / "lock").exists())
    assert not list((work / "runs").iterdir()) if (work / "runs").exists() else True
    wait_until(lambda: not processes_naming(str(work)))


def test_sshd_killed_while_measuring(device: Make, profiling: Make, server: SshServer, work: Path) -> None:
    def kill_sessions() -> None:
        for pid in children_of(server.process.pid):
            with contextlib.suppress(OSError):
                if "sshd" in Path(f"/proc/{pid}/comm").read_text(encoding="utf-8"):
                    os.kill(pid, signal.SIGKILL)

    target = device()
    assert "was lost" in error_of(profiling(target, latency=LONG), target, when_measuring(kill_sessions))
    wait_until(lambda: not (work / "lock").exists())
    wait_until(lambda: not processes_naming(str(work)))


def test_the_measurement_killed_on_the_device(device: Make, profiling: Make, work: Path) -> None:
    def kill_runner() -> None:
        for pid in processes_naming("edgedistill_deploy.remote.device_part"):
            if str(work) in os.readlink(f"/proc/{pid}/cwd"):  # noqa: PTH115, a number is in the path
                os.kill(pid, signal.SIGKILL)

    target = device()
    message = error_of(profiling(target, latency=LONG), target, when_measuring(kill_runner))
    assert "was killed by signal 9" in message
    assert not work.exists()
    wait_until(lambda: not processes_naming(str(work)))


def test_the_keeper_killed_on_the_device_takes_the_measurement_with_it(
    device: Make, profiling: Make, work: Path
) -> None:
    def kill_keeper() -> None:
        owner = json.loads((work / "lock" / "owner.json").read_text(encoding="utf-8"))
        os.kill(owner["pid"], signal.SIGKILL)

    target = device()
    message = error_of(profiling(target, latency=LONG), target, when_measuring(kill_keeper))
    assert "ended by signal KILL before it was done" in message
    wait_until(lambda: not processes_naming(str(work)))
    (outcome,) = run_on_devices([target], profiling(target))  # the lock of a dead process holds nobody up
    assert outcome.error is None
    assert not work.exists()


def test_a_measurement_that_takes_too_long_is_stopped_there(device: Make, profiling: Make, work: Path) -> None:
    target = device(time_limit_s=2.0)
    message = error_of(profiling(target, latency=LONG), target)
    assert "was not done within 2 s and was stopped" in message
    wait_until(lambda: not processes_naming(str(work)))
    assert not work.exists()


@contextlib.contextmanager
def lock_held(work: Path) -> Iterator["subprocess.Popen[str]"]:
    """Somebody else's keeper on the same device."""
    source = Path(_keeper.__file__).read_text(encoding="utf-8")
    keeper = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    command = {"do": "open", "work": str(work), "owner": {"owner": "ada", "host": "desk"}, "wait_s": 0}
    keeper.stdin.write(json.dumps(command) + "\n")
    keeper.stdin.flush()
    events = [json.loads(keeper.stdout.readline())["event"] for _ in range(2)]
    assert events == ["ready", "opened"]
    with keeper:
        yield keeper
        keeper.stdin.close()


def test_a_device_in_use_is_left_alone(device: Make, profiling: Make, work: Path) -> None:
    target = device()
    with lock_held(work) as keeper:
        message = error_of(profiling(target), target)
        assert message.startswith("loop is being measured by ada on desk since ")
        assert f"(process {keeper.pid} there)" in message
        assert (work / "lock").exists()


def test_waiting_for_a_device_in_use(device: Make, profiling: Make, work: Path) -> None:
    target = device()
    with lock_held(work) as keeper:
        stopping = subprocess.Popen(["sh", "-c", f"sleep 1; kill -9 {keeper.pid}"])
        (outcome,) = run_on_devices([target], profiling(target, wait_s=120.0))
        stopping.wait()
        assert outcome.error is None


@pytest.mark.parametrize(
    "owner",
    [
        {"pid": 2**22 + 1, "owner": "ada", "host": "desk"},
        {"pid": os.getpid(), "started": 1, "owner": "ada", "host": "desk"},  # a number that was given again
        {"pid": os.getpid(), "boot": "another", "owner": "ada", "host": "desk"},
    ],
)
def test_a_stale_lock_is_taken_over(work: Path, owner: dict[str, Any]) -> None:
    (work / "lock").mkdir(parents=True)
    (work / "lock" / "owner.json").write_text(json.dumps(owner), encoding="utf-8")
    with lock_held(work) as keeper:
        held = json.loads((work / "lock" / "owner.json").read_text(encoding="utf-8"))
        assert (held["owner"], held["pid"]) == ("ada", keeper.pid)


def test_a_lock_without_an_owner_is_young_or_stale(work: Path) -> None:
    (work / "lock").mkdir(parents=True)
    assert _keeper._take_lock(work, "token", {}) == {}
    os.utime(work / "lock", (0, 0))
    assert _keeper._take_lock(work, "token", {}) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root and the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_noticed_before_anything_is_sent(device: Make, validating: Make, small_disk: Path) -> None:
    target = device(work=str(small_disk / "work"))
    message = error_of(validating(target), target)
    assert message.startswith(f"The disk of loop is full where {target.work} lies (")
    assert not list(small_disk.iterdir())


def test_a_disk_that_fills_while_files_are_sent(
    device: Make, validating: Make, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_push, "RESERVE_BYTES", -(1 << 40))
    (small_disk / "other").write_bytes(os.urandom(700_000))
    target = device(work=str(small_disk / "work"))
    assert error_of(validating(target), target).startswith("The disk of loop is full")
    assert [path.name for path in small_disk.iterdir()] == ["other"]


def test_a_device_without_the_libraries(device: Make, profiling: Make, work: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    target = device(python=str(tmp_path / "bare" / "bin" / "python"))
    message = error_of(profiling(target), target)
    assert "loop has no numpy, pillow, onnxruntime in" in message
    assert f"`edgedistill devices check {target.address}`" in message
    assert not work.exists()


def test_a_wheel_for_another_processor(device: Make, profiling: Make, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('wrong ELF class: ELFCLASS32')")
    target = device(environment={"PYTHONPATH": str(tmp_path)})
    message = error_of(profiling(target), target)
    assert "onnxruntime on loop cannot be imported: wrong ELF class: ELFCLASS32" in message
    (tmp_path / "onnxruntime.py").write_text("import os; os.kill(os.getpid(), 4)")
    message = error_of(profiling(target), target)
    assert "ended Python on loop with code -4" in message


def test_a_python_for_another_processor(device: Make, profiling: Make, tmp_path: Path) -> None:
    program = tmp_path / "python"
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + (243).to_bytes(2, "little")
    program.write_bytes(header + bytes(200))  # RISC-V
    program.chmod(0o755)
    target = device(python=str(program))
    assert "is built for another kind of processor" in error_of(profiling(target), target)


def test_a_device_without_python(device: Make, profiling: Make) -> None:
    target = device(python="/nowhere/python3")
    assert "loop has no Python at /nowhere/python3" in error_of(profiling(target), target)


def test_an_old_python() -> None:
    with pytest.raises(DeviceError, match=r"pi has Python 3\.8\.10 as python3; the device part needs 3\.10"):
        require_python(Device(name="pi", host="pi"), [3, 8, 10])


def test_a_work_folder_that_others_may_write_to(device: Make, profiling: Make, work: Path) -> None:
    (work / "store").mkdir(parents=True)
    (work / "store").chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
    target = device()
    message = error_of(profiling(target), target)
    assert "belongs to somebody else, or others may write to it" in message


@pytest.mark.parametrize(("name", "mode"), [("work", 0o777), ("work", 0o1777), ("device", 0o777), ("device", 0o757)])
def test_a_work_folder_or_one_above_it_that_others_may_write_to(
    device: Make, profiling: Make, work: Path, name: str, mode: int
) -> None:
    work.mkdir(parents=True)
    opened = {"work": work, "device": work.parent}[name]
    opened.chmod(mode)
    target = device()
    message = error_of(profiling(target), target)
    assert f"loop could not do it: others may write to {opened}, so they could change what is measured" in message
    assert f"chmod go-w {opened}" in message
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(("name", "mode"), [("work", 0o755), ("device", 0o1777), ("device", 0o755)])
def test_a_work_folder_that_is_safe(work: Path, name: str, mode: int) -> None:
    work.mkdir(parents=True)
    {"work": work, "device": work.parent}[name].chmod(mode)
    assert _keeper.find_open_folder(work) is None
    assert _keeper.find_open_folder(work / "not" / "yet") is None


def test_a_work_folder_behind_a_link_in_an_open_folder(tmp_path: Path, work: Path) -> None:
    work.mkdir(parents=True)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "link").symlink_to(work)
    found = _keeper.find_open_folder(tmp_path / "open" / "link")
    assert found == (tmp_path / "open", f"others may write to {tmp_path / 'open'}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_a_work_folder_of_somebody_else(work: Path) -> None:
    work.mkdir(parents=True)
    os.chown(work.parent, 12345, 12345)
    assert _keeper.find_open_folder(work) == (work.parent, f"{work.parent} belongs to another user")


def test_a_group_of_others_may_not_write_either(work: Path) -> None:
    work.mkdir(parents=True)
    work.chmod(0o775)
    assert _keeper.find_open_folder(work) is None  # the user's private group
    if os.getuid() == 0:
        os.chown(work, 0, 12345)
        assert _keeper.find_open_folder(work) == (work, f"others may write to {work}")


def test_a_measurement_that_is_stopped_is_told_and_goes_on(
    device: Make, profiling: Make, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lines, jobs):
        monkeypatch.setattr(module, "QUIET_S", 1.0)
    told: list[str] = []

    def signal_all(number: signal.Signals) -> None:
        for pid in processes_naming("edgedistill_deploy"):
            if str(work) in os.readlink(f"/proc/{pid}/cwd"):  # noqa: PTH115, a number is in the path
                os.kill(pid, number)

    stop = when_measuring(lambda: signal_all(signal.SIGSTOP))

    def report(done: int, total: int, note: str = "") -> None:
        if note.startswith("nothing has come"):
            told.append(note)
            signal_all(signal.SIGCONT)
        stop(done, total, note)

    target = device()
    latency = replace(BRIEF, duration_s=5)  # time enough to be stopped in, however late the first line comes
    (outcome,) = run_on_devices([target], profiling(target, latency=latency), lambda device: report)
    assert outcome.error is None
    assert "on loop for " in told[0]


def test_a_link_that_stalls(device: Make, validating: Make, server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_push, "STALL_S", 1.0)
    with Proxy(target=server.port) as proxy:
        server.trust(proxy.port)
        target = device(port=proxy.port)

        def stall(done: int, total: int, note: str = "") -> None:
            if note == "sending":
                proxy.stalled = True

        message = error_of(validating(target), target, stall)
    assert "The link to loop took nothing for 1 s" in message


def test_a_server_that_is_not_ssh(device: Make, profiling: Make) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        target = device(port=listener.getsockname()[1])

        def hang_up() -> None:
            client, _ = listener.accept()
            client.close()

        threading.Thread(target=hang_up, daemon=True).start()
        message = error_of(profiling(target), target)
    assert "closed the connection before it was set up" in message
