"""How long to train, and how long to warm up, for each start: trained weights, a shrunk teacher, nothing.

    python -m benchmarks.real.schedules photographs                  # all starts, two seeds
    python -m benchmarks.real.schedules photographs --start nothing

Every student learns eight animals from 304 images of 128 pixels by SubDistill's defaults. A line a run goes to
`benchmarks/results/schedules.jsonl`, with the accuracy on 96 validation images, and a run that is there is not
repeated. Test images are not used: this chooses settings.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from benchmarks.real.animals import CUT_OUTS
from benchmarks.real.cells import IMAGE_SIZE, PAIRS, SETTINGS, SHRUNK_PAIRS, Pair
from benchmarks.records import Record, add_line, is_recorded
from edgedistill import DistillConfig, build_student, distill, load_teacher, open_source, split_for_subtask
from edgedistill.data.splits import SubtaskImages
from edgedistill.models.names import STARTS
from edgedistill.models.start import begin_student, find_start
from edgedistill.models.student_names import CHANNEL_CHOICES, is_shrunk, shrunk_share
from edgedistill.models.teacher import Teacher
from edgedistill.shrinking.shrinking import shrink_teacher
from edgedistill_deploy.hardware.device import read_device

RESULTS = Path(__file__).parent.parent / "results" / "schedules.jsonl"
STUDENTS: Mapping[str, Pair] = {
    "trained": PAIRS["lite0-under-lite2"],
    "shrunk": SHRUNK_PAIRS[f"half-lite0-{CHANNEL_CHOICES[0]}"],
    "nothing": PAIRS["mobilenet-under-lite0"],
}
# The numbers of epochs are tried with the default warm-up, and the warm-ups with the second number of epochs.
EPOCHS: Mapping[str, tuple[int, ...]] = {"trained": (3, 6, 12), "shrunk": (4, 12, 30), "nothing": (12, 30, 90)}
DEFAULT_WARMUP = 0.1
WARMUPS = (0.0, 0.3)


def tried(start: str) -> Iterator[tuple[int, float]]:
    """Yield numbers of epochs and shares of warm-up."""
    yield from ((epochs, DEFAULT_WARMUP) for epochs in EPOCHS[start])
    yield from ((EPOCHS[start][1], warmup) for warmup in WARMUPS)


def begin(pair: Pair, teacher: Teacher, images: SubtaskImages, data: Path, seed: int) -> nn.Module:
    """Return a student as it starts."""
    subtask, size = teacher.subtask(tuple(CUT_OUTS)), teacher.preprocess.size
    if is_shrunk(pair.student):
        share = shrunk_share(pair.student)
        return shrink_teacher(teacher, subtask, images.train, share, channels=pair.channels, seed=seed).network
    student = build_student(pair.student, len(subtask), image_size=size, seed=seed)
    start = find_start(pair.student, pair.weights if pair.weights in STARTS else str(data / pair.weights))
    begin_student(student, start, teacher.aliases(subtask), size)
    return student


def measure(start: str, data: Path, seed: int, epochs: int, warmup: float) -> Record:
    """Train one student, and return what its validation images say."""
    pair = STUDENTS[start]
    teacher = load_teacher(str(data / pair.teacher), image_size=IMAGE_SIZE)
    images = split_for_subtask(open_source(str(data / "animals-300")), tuple(CUT_OUTS))
    began = time.process_time()
    config = DistillConfig(**{**SETTINGS, "epochs": epochs, "warmup": warmup, "seed": seed, "workers": 0})
    result = distill(
        teacher, begin(pair, teacher, images, data, seed), teacher.subtask(tuple(CUT_OUTS)), images, config
    )
    return {
        "validation_accuracy": result.validation_accuracy,
        "validation_images": len(images.validation),
        "teacher_validation_accuracy": result.teacher_validation_accuracy,
        "best_epoch": result.best_epoch,
        "cpu_seconds": round(time.process_time() - began),
        "machine": read_device().name,
    }


def main() -> None:
    """Run what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that benchmarks.real.prepare filled")
    parser.add_argument("--start", action="append", choices=tuple(STUDENTS))
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for start in given.start or STUDENTS:
        for seed in range(given.seeds):
            for epochs, warmup in tried(start):
                run: Record = {"start": start, "seed": seed, "epochs": epochs, "warmup": warmup}
                if is_recorded(RESULTS, run):
                    continue
                record = {**run, **measure(start, given.data, seed, epochs, warmup)}
                add_line(RESULTS, record)


if __name__ == "__main__":
    main()
