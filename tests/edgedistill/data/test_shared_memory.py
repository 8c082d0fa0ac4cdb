"""Too little shared memory for the processes that decode images: one sentence, with a number and two ways out."""

import os
import shutil
import subprocess
import sys

import pytest

from edgedistill.data._shared_memory import PLACE, naming_shared_memory
from edgedistill_deploy.errors import EdgeDistillError

SMALL = 'mount -t tmpfs -o size="$0" tmpfs /dev/shm && exec "$@"'
# Reads images of 64 x 64 in batches of 16 by two processes, first as they come, then without the look beforehand.
LOAD = """
import numpy as np
from edgedistill.data import _shared_memory, loader
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.arrays import ArrayImages

images = ArrayImages(
    class_names=("a",), labels=np.zeros(64, int), images=np.zeros((64, 64, 64, 3), np.uint8), rows=np.arange(64)
)

def read(workers):
    try:
        print(sum(1 for _ in loader.open_loader(images, Preprocess(size=(64, 64)), 16, workers=workers)), flush=True)
    except EdgeDistillError as error:
        print(error, flush=True)

read(2)
loader.require_shared_memory = lambda *_: None
read(2)
read(0)
"""
WAYS_OUT = (
    "Decode in this process with --workers 0, or give a container more: docker run --shm-size=1g, and run the same "
    "command again."
)


def mount(size: str) -> list[str] | None:
    """Return the beginning of a command line that has so much shared memory; None where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None or not PLACE.is_dir():
        return None
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    prefix = [unshare, "--mount", *own, "sh", "-c", SMALL, size]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else None


def test_too_little_shared_memory_is_named_without_a_traceback() -> None:
    mounted = mount("256k")
    if mounted is None:
        pytest.skip("this machine lets nobody mount a file system")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [*mounted, sys.executable, "-c", LOAD], capture_output=True, text=True, check=True, env=environment, timeout=300
    )
    before, during, without = done.stdout.splitlines()
    assert before == (
        "Shared memory is too small: 2 processes that decode images need 0.8 MB of it, and /dev/shm has 0.3 MB free. "
        f"{WAYS_OUT}"
    )
    assert during == f"A process that decodes images found no room in shared memory (/dev/shm). {WAYS_OUT}"
    assert without == "4"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "message",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out.",
        "unable to allocate shared memory(shm) for file </torch_7_1_0>: No space left on device (28)",
        "unable to write to file </torch_7_1_0>: No space left on device (28)",
    ],
)
def test_all_messages_of_torch_about_it_are_known(message: str) -> None:
    with pytest.raises(EdgeDistillError, match="no room in shared memory"), naming_shared_memory(1, 10):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="another"), naming_shared_memory(1, 10):
        raise RuntimeError("another")
    with pytest.raises(RuntimeError, match=r"Bus error|unable to"), naming_shared_memory(0, 10):
        raise RuntimeError(message)
