"""What a process answers arrives as it was meant: errors by kind and text, progress when it is due, noise nowhere."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from edgedistill_deploy import errors, lines
from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError
from edgedistill_deploy.lines import Silence, read_error
from edgedistill_deploy.remote._connection import DeviceError
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import _require_done

RAISED: dict[str, tuple[str, ...]] = {
    "EdgeDistillError": ("The machine is at fault.",),
    "UsageError": ("The flag is wrong.",),
    "DataError": ("The image is damaged.",),
    "BundleError": ("It is no bundle.",),
    "MissingDependencyError": ("tensorrt", "tensorrt", "Running a model with TensorRT"),
}
SENTENCES = {name: str(getattr(errors, name)(*arguments)) for name, arguments in RAISED.items()}

# In place of a task, either part raises the error that the request names.
MEASURING = """
from edgedistill_deploy import errors, lines
from edgedistill_deploy.profiling import _measuring_process as part

def fail(worker, progress, kind, arguments):
    raise getattr(errors, kind)(*arguments)

part._TASKS = {"profile": fail}
part.main()
"""
DEVICE = """
from edgedistill_deploy import errors, lines
from edgedistill_deploy.remote import device_part as part

def fail(folder, request, progress):
    raise getattr(errors, request["kind"])(*request["arguments"])

part._TASKS = {"profile": fail}
part.main()
"""
NOISY = """
import os
from edgedistill_deploy import lines
from played_clock import PlayedClock

lines.MACHINE_CLOCK = clock = PlayedClock()
answers = lines.LineWriter(progress_every_s=2.0)
print("a library says hello", flush=True)
os.write(1, b"and so does its C")
for done in range(6):
    answers.progress(done, 6, "first")
    clock.sleep(0.75)
answers.progress(0, 1, "second")
answers.send(result=3)
"""


def lines_of(code: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(request) + "\n",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kind_of_error_is_tried() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds == set(RAISED)


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("part", [MEASURING, DEVICE], ids=["measuring process", "device part"])
def test_an_error_arrives_as_its_kind_with_its_text(part: str, kind: str) -> None:
    request = {"task": "profile", "folder": ".", "kind": kind, "arguments": RAISED[kind]}
    if part is MEASURING:
        del request["folder"]
    (line,) = lines_of(part, request)
    arrived = read_error(line["error"])
    assert (type(arrived).__name__, str(arrived)) == (kind, SENTENCES[kind])
    assert arrived.exit_code == getattr(errors, kind).exit_code
    with pytest.raises(DeviceError) as caught:
        _require_done(Device(name="orin", host="orin"), {}, line["error"])
    assert str(caught.value) == f"orin: {SENTENCES[kind]}"
    assert type(caught.value.__cause__).__name__ == kind


def test_an_error_of_a_class_of_its_own_arrives_as_the_nearest_known() -> None:
    code = """
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.lines import LineWriter

class OddError(UsageError):
    pass

LineWriter().send_error(OddError("odd"))
"""
    (line,) = lines_of(code, {})
    arrived = read_error(line["error"])
    assert (type(arrived), str(arrived)) == (errors.UsageError, "odd")
    unknown = read_error({"kind": "NoSuchError", "arguments": ["from elsewhere"]})
    assert (type(unknown), str(unknown)) == (EdgeDistillError, "from elsewhere")


def test_a_missing_library_is_raised_with_what_it_is_made_of() -> None:
    error = MissingDependencyError(*RAISED["MissingDependencyError"])
    assert error.args == RAISED["MissingDependencyError"]
    assert str(error) == (
        "Running a model with TensorRT needs tensorrt, which is not installed: pip install 'edgedistill[tensorrt]'."
    )


def test_progress_is_told_when_due_and_noise_goes_elsewhere() -> None:
    assert lines_of(NOISY, {}) == [
        {"progress": [0, 6, "first"]},
        {"progress": [3, 6, "first"]},
        {"progress": [0, 1, "second"]},
        {"result": 3},
    ]


def test_silence_is_told_after_a_while_and_then_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "QUIET_S", 0.02)
    told: list[float] = []
    silence = Silence(told.append)
    while len(told) < 3:
        silence.look()
    assert told[0] >= 0.02
    assert told[1] >= 2 * told[0]
    assert told[2] >= 2 * told[1]
    silence.heard()
    monkeypatch.setattr(lines, "QUIET_S", 1e9)
    silence.heard()
    silence.look()
    assert len(told) == 3
