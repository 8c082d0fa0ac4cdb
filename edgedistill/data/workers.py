"""How many processes decode images, where the settings leave it open."""

import math
import multiprocessing
import os
import statistics
import time
from typing import Literal, TypeAlias

import torch

from edgedistill.data._shared_memory import workers_that_fit
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet

Workers: TypeAlias = int | Literal["auto"]

_TRIED = 5  # images whose decoding is timed
# Less decoding than this, in seconds of one process, does not repay the start of others and the way between them.
_WORTH_S = 5.0
_MOST = 8  # more processes than these have fed every GPU that we know of, and each takes memory


def choose_workers(
    asked: Workers, images: ImageSet, preprocess: Preprocess, batch_size: int, *, passes: int, beside_gpu: bool
) -> int:
    """Return how many processes are to decode a set's images, none included.

    `auto` times the decoding of a few. It leaves short work in this process, gives the free processors beside a GPU to
    decoding, and half of them where the training needs them too, as far as shared memory holds their batches. The
    images are the same with any number.

    Args:
        asked: the setting.
        images: which images.
        preprocess: what is done to each.
        batch_size: images in a batch.
        passes: how often each is decoded.
        beside_gpu: the network runs elsewhere.
    """
    if asked != "auto":
        return asked
    cores = _free_cores(beside_gpu)
    if cores < 2 or not len(images) or multiprocessing.current_process().daemon:  # a daemon may have no children
        return 0
    if _decoding_seconds(images, preprocess) * len(images) * passes < _WORTH_S:
        return 0
    fitting = workers_that_fit(batch_size * math.prod(preprocess.size) * 3)
    return min(cores if beside_gpu else cores // 2, _MOST if fitting is None else min(_MOST, fitting))


def _free_cores(beside_gpu: bool) -> int:
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    present //= _processes_here()
    # Who limits torch's threads wants the other processors for something else.
    return present if beside_gpu else min(present, torch.get_num_threads())


def _processes_here() -> int:
    """Return how many processes of one training share this machine, as `torchrun` and `accelerate launch` tell them."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(told)) if told.isascii() and told.isdigit() else 1


def _decoding_seconds(images: ImageSet, preprocess: Preprocess) -> float:
    """Return the usual time to read, decode and prepare one image, in s."""
    taken = []
    for index in range(0, len(images), max(1, len(images) // _TRIED)):
        started = time.perf_counter()
        preprocess.apply(images.read(index))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
