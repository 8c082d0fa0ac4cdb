"""The program of a device: it reads one JSON request on stdin, measures as here, and answers JSON lines on stdout.

    python -m edgedistill_deploy.remote.device_part

The request is {"task": "profile" | "validate", "folder": BUNDLE, "device": NAME, ...}. The lines are those of `lines`,
with {"done": true} instead of the result when the request names a file for it. With "watch" the process and those it
started end when its input closes, because closing an SSH connection kills nothing.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import EdgeDistillError, UsageError, nearest_names
from edgedistill_deploy.lines import LineWriter
from edgedistill_deploy.progress import Progress

Request = Mapping[str, Any]

_PROGRESS_EVERY_S = 2.0  # writing a line disturbs the measurement
_FAILED, _OUT_OF_TIME = 1, 124


def main() -> None:
    """Answer the one request and end."""
    lines = LineWriter(_PROGRESS_EVERY_S)
    request = json.loads(sys.stdin.readline())
    if request.get("python"):
        sys.executable = request["python"]  # may be a wrapper script, without which the interpreter does not start
    if request.get("watch"):
        threading.Thread(target=_watch_input, daemon=True).start()
    if request.get("limit_s"):
        _limit(float(request["limit_s"]), lines)
    try:
        _deliver(answer(request, lines.progress), request.get("result"), lines)
    except (EdgeDistillError, OSError) as error:
        lines.send_error(error if isinstance(error, EdgeDistillError) else EdgeDistillError(str(error)))
        sys.exit(_FAILED)


def answer(request: Request, progress: Progress) -> dict[str, Any]:
    """Do the task and return its result. Raises UsageError for an unknown task, and the errors of the task."""
    task = request["task"]
    if task not in _TASKS:
        raise UsageError(f"The device part has no task {task!r}.{nearest_names(str(task), _TASKS)}")
    return _TASKS[task](Path(request["folder"]), request, progress)


def _deliver(result: Request, path: str | None, lines: LineWriter) -> None:
    from edgedistill_deploy.files.writing import write_json

    if path is None:
        lines.send(result=result)
        return
    write_json(Path(path), result)
    lines.send(done=True)


def _watch_input() -> None:
    # By the descriptor: a read of sys.stdin would hold its lock when the interpreter ends.
    while os.read(0, 4096):
        pass
    _end_all(_FAILED)


def _limit(seconds: float, lines: LineWriter) -> None:
    def expire() -> None:
        lines.send_error(EdgeDistillError(f"It was not done within {seconds:.0f} s and was stopped."))
        _end_all(_OUT_OF_TIME)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()


def _end_all(code: int) -> None:
    """End this process at once, and those it started when it leads its own group."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(code)


def _profile(folder: Path, request: Request, progress: Progress) -> dict[str, Any]:
    from edgedistill_deploy.profiling.request import ProfileRequest
    from edgedistill_deploy.profiling.run import run_profile

    profile = run_profile(folder, ProfileRequest.from_json(request["profile"]), progress)
    machine = _machine(request)
    for record in profile["records"]:
        record["bundle"] = request.get("bundle", record["bundle"])
        record["device"] = {**record["device"], "name": machine["name"]}
    return {**profile, "machine": machine}


def _validate(folder: Path, request: Request, progress: Progress) -> dict[str, Any]:
    """Judge the models of the request on the images recorded in the bundle."""
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.parity.chain import chain_record
    from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
    from edgedistill_deploy.records.parity import as_limits
    from edgedistill_deploy.runtimes.session import LIMIT_S

    bundle = open_bundle(folder)
    asked = ValidationRequest(
        limits=as_limits(request["limits"]),
        precisions=tuple(request["precisions"]),
        limit_s=request.get("run_limit_s", LIMIT_S),
        pictures=False,  # the images are those of the bundle, so the one who asks has them
        **{key: request[key] for key in ("runtime", "provider", "threads")},
    )
    found = validate_bundle(bundle, asked, progress=progress)
    machine = _machine(request)
    place = {"bundle": request.get("bundle", bundle.name), "device": machine["name"]}
    return {
        "kind": "parity-set",
        "schema": 1,
        "records": [{**report.to_json(), **place, "machine": machine} for report in found.reports],
        "answers": [{**answers.to_json(), **place} for answers in found.answers],
        "chain": {**chain_record(found.reports, found.chain), **place} if found.chain else None,
        "machine": machine,
    }


def _machine(request: Request) -> dict[str, Any]:
    """Describe this machine under the name in the request; an emulated one gets the ending "-emulated"."""
    from edgedistill_deploy.hardware.device import read_device

    info = read_device()
    name = str(request.get("device") or info.name)
    if info.emulated and not name.endswith("-emulated"):
        name += "-emulated"
    return {**info.to_json(), "name": name}


_TASKS: dict[str, Callable[[Path, Request, Progress], dict[str, Any]]] = {"profile": _profile, "validate": _validate}

if __name__ == "__main__":
    main()
