"""Who should teach: one teacher, another one, both together, or an assistant that learnt from the teacher first.

    python -m benchmarks.teaching --source embedded:digits --teacher embedded:glyphs100 --classes 0,1,2,3,4 \
        --student plain:8-8 --assistant plain:24-24 --epochs 20 --images 200
    python -m benchmarks.teaching --source PHOTOS --teacher LITE2 --teacher LITE0 --classes ... --image-size 128 \
        --student timm:tf_efficientnet_lite0 --student-weights LITE0 --epochs 6

Every student starts from the same weights of a seed, and sees the same images for the same epochs. One record a run is
added to `benchmarks/results/teaching.jsonl`, with the test accuracy; runs that are there are not repeated.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.records import Record, add_line, is_recorded
from edgedistill import DistillConfig, build_student, load_teacher, open_source, split_for_subtask
from edgedistill.comparison.subsets import draw_training_images
from edgedistill.comparison.testing import measure_answers
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.assistance.assistant import Beginner, teach, train_assistant
from edgedistill.distillation.lesson import Guide, Lesson
from edgedistill.distillation.training import true_classes
from edgedistill.models.names import START_FROM_NOTHING
from edgedistill.models.start import begin_student, find_start
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.hardware.device import read_device

RESULTS = Path(__file__).parent / "results" / "teaching.jsonl"
Train = Callable[[], torch.nn.Module]


def main() -> None:
    """Run what is not recorded yet."""
    given = read_arguments()
    torch.set_num_threads(1)
    classes = given.classes.split(",")
    teachers = [load_teacher(name, image_size=given.image_size) for name in given.teacher]
    whole = split_for_subtask(open_source(given.source), classes)
    for seed in range(given.seeds):
        images = SubtaskImages(
            train=draw_training_images(whole.train, given.images, seed), validation=whole.validation, test=whole.test
        )
        for what, train in ways(given, teachers, classes, images, seed).items():
            run(given, what, seed, teachers[0], images, train)


def ways(
    given: argparse.Namespace, teachers: Sequence[Teacher], classes: Sequence[str], images: SubtaskImages, seed: int
) -> dict[str, Train]:
    """Return each way to train a student, by what teaches it."""
    config = DistillConfig(epochs=given.epochs, seed=seed, augment=given.augment, teacher_cache="4", compute="cpu")
    guides = [Guide(teacher=each, subtask=each.subtask(classes)) for each in teachers]

    def under(first: Guide, *beside: Guide) -> Lesson:
        return Lesson(teacher=first.teacher, subtask=first.subtask, images=images, beside=beside)

    def student(name: str = given.student) -> torch.nn.Module:
        size = teachers[0].preprocess.size
        network = build_student(name, len(classes), image_size=size, seed=seed)
        weights = given.student_weights if name == given.student else START_FROM_NOTHING
        begin_student(network, find_start(name, weights), teachers[0].aliases(guides[0].subtask), size)
        return network

    def by_assistant(name: str) -> torch.nn.Module:
        first = under(guides[0])
        beginner = Beginner(network=student(name), mean=teachers[0].mean, std=teachers[0].std)
        with tempfile.TemporaryDirectory() as folder:
            assistant = train_assistant(name, beginner, first, config, Path(folder))
        return teach(student(), first, config, assistant=assistant.guide).student

    def by_teachers(*chosen: Guide) -> torch.nn.Module:
        return teach(student(), under(*chosen), config).student

    found: dict[str, Train] = {label(each): functools.partial(by_teachers, each) for each in guides}
    if len(guides) > 1:
        found[" + ".join(map(label, guides))] = functools.partial(by_teachers, *guides)
    return found | {f"assistant {name}": functools.partial(by_assistant, name) for name in given.assistant}


def label(guide: Guide) -> str:
    """Return a teacher's name without the folder that it lies in."""
    return Path(guide.teacher.name).name


def run(given: argparse.Namespace, what: str, seed: int, teacher: Teacher, images: SubtaskImages, train: Train) -> None:
    """Train and test one student, unless that is recorded."""
    described: Record = {
        "source": Path(given.source).name,
        "classes": given.classes,
        "student": given.student,
        "images": len(images.train),
        "image_size": list(teacher.preprocess.size),
        "epochs": given.epochs,
        "augment": given.augment,
        "seed": seed,
        "taught_by": what,
        **({} if given.student_weights == START_FROM_NOTHING else {"weights": Path(given.student_weights).name}),
    }
    if is_recorded(RESULTS, described):
        return
    started = time.monotonic()
    student = train()
    tested = images.evaluation
    truth = true_classes(teacher, teacher.subtask(given.classes.split(",")), tested)
    found = measure_answers(student, teacher, tested, truth)
    record = {
        **described,
        "test_accuracy": found["test_accuracy"],
        "test_images": found["test_images"],
        "seconds": round(time.monotonic() - started, 1),
        "machine": read_device().name,
    }
    add_line(RESULTS, record)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--teacher", action="append", required=True)
    parser.add_argument("--classes", required=True)
    parser.add_argument("--student", required=True)
    parser.add_argument("--student-weights", default=START_FROM_NOTHING)
    parser.add_argument("--assistant", action="append", default=[])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--images", type=int)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--augment", default="crop")
    parser.add_argument("--seeds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
