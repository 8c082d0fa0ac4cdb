"""Other processes that need not load torch and timm: they are forked from one that has done so, once a session.

For tests about what a process does or how it ends. What is about its start begins with a new Python.
"""

import functools
import gc
import importlib.util
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from command import call_command
from waiting_threads import keep_threads_from_spinning

# The commands load these when they run.
LOADED = [
    "edgedistill_cli.runs.building",
    "edgedistill_cli.studies.comparing",
    "edgedistill.distillation.subdistill",
    "edgedistill.export.bundle",
    "edgedistill_calibration.quantize",
    "onnxruntime",
]


@functools.cache
def _server() -> ForkServerContext | SpawnContext:
    if not hasattr(os, "fork"):
        return multiprocessing.get_context("spawn")
    # The server goes on without a module that it does not find.
    assert all(importlib.util.find_spec(name) for name in LOADED)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def fork(work: Callable[..., object], *arguments: Any, output: Path, **environment: str) -> BaseProcess:
    """Start `work(*arguments)` in another process; what it prints, on stdout and stderr, goes to a file.

    `work` is a function of a module. `environment` is added to this process's own.
    """
    whole = {**os.environ, **environment}
    process = _server().Process(target=_begin, args=(work, arguments, output, whole))
    process.start()
    return process


def fork_command(*argv: str | Path, output: Path, **environment: str) -> BaseProcess:
    """Start `edgedistill ARGV...` in another process."""
    return fork(call_command, *argv, output=output, **environment)


def fork_two(work: Callable[..., object], *arguments: Any, folder: Path) -> list[tuple[int, str]]:
    """Run `work(*arguments)` in two processes that train together; return the exit code and the output of each.

    They find what torch's launchers tell the processes that they start, and no GPU.
    """
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    outputs = [folder / f"output-{rank}.txt" for rank in range(2)]
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""} for rank in range(2)]
    processes = [fork(work, *arguments, output=output, **rank) for output, rank in zip(outputs, ranks, strict=True)]
    codes = [finish(process, within_s=300) for process in processes]
    return list(zip(codes, (output.read_text(encoding="utf-8") for output in outputs), strict=True))


def finish(process: BaseProcess, within_s: float) -> int:
    """Wait for the end of a process and return its exit code, or minus the signal that ended it."""
    process.join(within_s)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"a process was still at work after {within_s} s")
    return process.exitcode


def wait_until(reached: Callable[[], bool], process: BaseProcess, within_s: float = 240.0) -> None:
    """Wait for a moment that comes while the process runs."""
    deadline = time.monotonic() + within_s
    while not reached():
        assert process.exitcode is None, "the process ended before that moment"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.005)


def send(number: int, process: BaseProcess) -> None:
    """Send a signal to a process that runs."""
    assert process.pid is not None
    os.kill(process.pid, number)


def _begin(
    work: Callable[..., object], arguments: tuple[Any, ...], output: Path, environment: Mapping[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    # A suite that runs in the background hands an ignored Ctrl-C on to its children; a user's terminal does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # what the server has loaded stays, and need not be searched for garbage
    keep_threads_from_spinning()
    work(*arguments)
