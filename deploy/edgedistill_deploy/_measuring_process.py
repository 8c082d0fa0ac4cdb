"""The process that measures: requests on stdin, answers on stdout; see `_fresh_process`."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from edgedistill_deploy.errors import EdgeDistillError

Progress = Callable[[int, int], None]


def main() -> None:
    """Answer requests until the input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    answers = _private_stdout()
    for line in sys.stdin:
        _answer(json.loads(line), answers)


def _private_stdout() -> IO[str]:
    """Keep stdout for the answers; what a runtime prints there goes to stderr."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _answer(request: Mapping[str, Any], answers: IO[str]) -> None:
    def send(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer, allow_nan=False) + "\n")
        answers.flush()

    arguments = {key: value for key, value in request.items() if key != "task"}
    try:
        task = _TASKS[request["task"]]
        send({"result": task(lambda done, total: send({"progress": [done, total]}), **arguments)})
    except EdgeDistillError as error:
        send({"error": {"kind": type(error).__name__, "message": str(error)}})


def _measure(progress: Progress, *, folder: str, model: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Open a model of a bundle and measure it on the images that the bundle carries; the latency record."""
    from edgedistill_deploy.bundle import open_bundle
    from edgedistill_deploy.engine_options import DEFAULT_ENGINE
    from edgedistill_deploy.latency import LatencyConfig, measure_latency
    from edgedistill_deploy.reference import read_golden
    from edgedistill_deploy.session import open_session

    bundle = open_bundle(Path(folder), verify=False)
    images, _ = read_golden(bundle.file("golden"))
    engine = DEFAULT_ENGINE.tuned_for(config["batch_size"])
    with open_session(bundle, **model, engine=engine) as session:
        return measure_latency(session, images, LatencyConfig(**config), progress=progress).to_json()


def _identify(progress: Progress) -> int:
    """Return this process's number: it is there and listens."""
    return os.getpid()


_TASKS: dict[str, Callable[..., Any]] = {"measure": _measure, "identify": _identify}

if __name__ == "__main__":
    main()
