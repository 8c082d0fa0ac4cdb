"""How much memory the names of many image files take, here and in each process that loads images.

    python -m benchmarks.folder_memory [--images 200000] [--classes 1000]

The set of images that a folder is opened as is compared with a tuple of paths, in fresh processes. The files are empty;
only their names matter. A worker is a forked process that asks for every path once, as an epoch does.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from edgedistill_deploy.images.encoded.sets import EncodedImages
from edgedistill_deploy.images.sources import open_images


def main() -> None:
    """Make the files, measure both ways, and print bytes for each image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name), asked.images, asked.classes)
        measured = {way: measure(way, Path(name)) for way in ("a tuple of paths", "the set of images")}
    print(f"{asked.images} images in {asked.classes} folders, bytes for each image:")
    for way, (held, worker) in measured.items():
        print(f"  {way:18} {held / asked.images:8.0f} in this process {worker / asked.images:8.0f} more in each worker")
    before, after = measured.values()
    print(f"  ratio              {before[0] / max(1, after[0]):8.1f} {before[1] / max(1, after[1]):24.1f}")


def make_files(root: Path, images: int, classes: int) -> None:
    """Write empty files with names like ImageNet's."""
    for label in range(classes):
        folder = root / f"n{label:08}"
        folder.mkdir()
        for number in range(label, images, classes):
            (folder / f"n{label:08}_{number}.JPEG").touch()


def measure(way: str, root: Path) -> tuple[int, int]:
    """Return the bytes that stay with a process that opened the folder, and those of a worker's own."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_open_and_fork, args=(way, root, there))
    process.start()
    held, worker = here.recv()
    process.join()
    return held, worker


def _open_and_fork(way: str, root: Path, answer: Connection) -> None:
    images = open_images(root).train
    assert isinstance(images, EncodedImages)
    before = private_bytes()
    if way == "the set of images":
        again = open_images(root).train  # the first one loaded the modules and filled the allocator
        assert isinstance(again, EncodedImages)
        path_of: Callable[[int], object] = again.source
    else:
        paths = tuple(images.source(row) for row in range(len(images)))
        path_of = paths.__getitem__
    held = private_bytes() - before
    answer.send((held, _in_worker(path_of, len(images))))


def _in_worker(path_of: Callable[[int], object], count: int) -> int:
    here, there = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_ask_all, args=(path_of, count, there))
    worker.start()
    own: int = here.recv()
    worker.join()
    return own


def _ask_all(path_of: Callable[[int], object], count: int, answer: Connection) -> None:
    before = private_bytes()
    for row in range(count):
        str(path_of(row))  # as opening the file does
    answer.send(private_bytes() - before)


def private_bytes() -> int:
    """Return the memory that this process shares with no other, as Linux counts it."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Dirty", "Private_Clean")))


if __name__ == "__main__":
    main()
