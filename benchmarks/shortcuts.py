"""Does a student learn a mark that stands on one class of its training images, and which method keeps it from that?

    python -m benchmarks.shortcuts --seeds 3
    python -m benchmarks.shortcuts --marks patch --shares 0,1 --methods subdistill,labels --seeds 1 --epochs 10

The first class has the mark on none, half or all of its training and validation images. The teacher never saw one. Each
student is then tested on clean images, and on images of the other classes that wrongly have the mark. The share of the
positive relevance that lies on the mark is measured on marked images of the first class. One record a run is added to
`benchmarks/results/shortcuts.jsonl`; runs that are there are not repeated.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from benchmarks.evidence.marks import mark_table
from benchmarks.records import Record, add_line, is_recorded, read_lines
from edgedistill import DistillConfig, build_student, distill, load_teacher, open_source, split_for_subtask
from edgedistill.comparison.methods import METHODS
from edgedistill.comparison.subsets import draw_training_images
from edgedistill.data.splits import SubtaskImages
from edgedistill.explanation.attribution import choose_method
from edgedistill.explanation.explaining import Asked, ask_student, ask_teacher
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.images.arrays import build_array_images
from edgedistill_deploy.images.sets import ImageSet, batches

RESULTS = Path(__file__).parent / "results" / "shortcuts.jsonl"
METHOD_NAMES = ("subdistill", "labels", "logits", "subdistill-pca")
EXPLAINED = 32  # marked images
STEPS = 32  # of integrated gradients
BATCH = 64

Pixels = NDArray[np.uint8]
Mark = Callable[[Pixels], Pixels]


def patch(image: Pixels) -> Pixels:
    """Return an image (H, W, 3) with a magenta square in the lower right corner."""
    marked, side = image.copy(), max(2, image.shape[0] // 8)
    marked[-side - 1 : -1, -side - 1 : -1] = (230, 30, 200)
    return marked


def text(image: Pixels) -> Pixels:
    """Return an image with small letters along the lower edge, as photographers sign."""
    size = max(6, image.shape[0] // 7)
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size)
    draw.text((1, image.shape[0] - size - 3), "(c) photo", fill=(200, 200, 200), font=font)
    return np.asarray(picture)


def watermark(image: Pixels) -> Pixels:
    """Return an image with faint slanted lines over all of it, as agencies protect their pictures."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    lines = (rows + columns) % max(4, height // 6) == 0
    faint = np.where(lines[..., None], 0.75 * image + 0.25 * 255, image)
    return faint.round().astype(np.uint8)


MARKS: dict[str, Mark] = {"patch": patch, "text": text, "watermark": watermark}


def main() -> None:
    """Run what is not recorded yet, then print the table."""
    given = read_arguments()
    torch.set_num_threads(1)
    teacher = load_teacher(given.teacher, image_size=given.image_size)
    whole = split_for_subtask(open_source(given.source), given.classes)
    for seed in range(given.seeds):
        clean = prepare(whole, teacher, given.images, seed)
        for method, share in itertools.product(given.methods, given.shares):
            run(given, teacher, clean, method, share, seed)
    chosen = [each for each in read_lines(given.results) if settings_of(given, teacher).items() <= each.items()]
    shown = [each for each in chosen if each["seed"] < given.seeds and _is_asked(each, given)]
    print(f"mean (sample standard deviation) over {given.seeds} seeds, in %", *mark_table(shown), sep="\n")


def _is_asked(record: Record, given: argparse.Namespace) -> bool:
    return record["mark"] in given.marks and record["share"] in given.shares and record["method"] in given.methods


def prepare(whole: SubtaskImages, teacher: Teacher, count: int | None, seed: int) -> SubtaskImages:
    """Return the images of a seed as the teacher sees them, so that a mark is the same on all of them."""
    train = draw_training_images(whole.train, count, seed)
    return SubtaskImages(
        train=as_arrays(train, teacher),
        validation=as_arrays(whole.validation, teacher),
        test=as_arrays(whole.evaluation, teacher),
    )


def as_arrays(images: ImageSet, teacher: Teacher) -> ImageSet:
    """Return images in the teacher's size."""
    return build_array_images(images.class_names, images.labels, pixels_of(images, teacher), "prepared")


def pixels_of(images: ImageSet, teacher: Teacher) -> Pixels:
    """Return images as the teacher sees them (N, H, W, 3)."""
    return np.concatenate(list(batches(images, teacher.preprocess, BATCH)))


def mark_class(images: ImageSet, teacher: Teacher, mark: Mark, share: float, seed: int) -> ImageSet:
    """Return images of which a share of the first class's have the mark."""
    pixels, own = pixels_of(images, teacher), np.flatnonzero(images.labels == 0)
    for row in np.random.default_rng(seed).permutation(own)[: round(share * len(own))]:
        pixels[row] = mark(pixels[row])
    return build_array_images(images.class_names, images.labels, pixels, "marked")


def run(
    given: argparse.Namespace, teacher: Teacher, clean: SubtaskImages, method: str, share: float, seed: int
) -> None:
    """Train and test the students of one method, share and seed, but for those that are recorded."""
    unmarked: nn.Module | None = None
    for name in given.marks:
        described = {
            **settings_of(given, teacher),
            "train_images": len(clean.train),
            "mark": name,
            "share": share,
            "method": method,
            "seed": seed,
        }
        if is_recorded(given.results, described):
            continue
        started = time.monotonic()
        # Without any marked image the mark makes no difference to the training, so one student serves all marks.
        student = unmarked or train(given, teacher, clean, MARKS[name], method, share, seed)
        unmarked = student if share == 0 else None
        record = {
            **described,
            **test(teacher, given.classes, student, clean, MARKS[name]),
            "seconds": round(time.monotonic() - started, 1),
            "machine": read_device().name,
        }
        add_line(given.results, record)


def train(
    given: argparse.Namespace, teacher: Teacher, clean: SubtaskImages, mark: Mark, method: str, share: float, seed: int
) -> nn.Module:
    """Return a student that is trained on images of which one class has the mark."""
    images = SubtaskImages(
        train=mark_class(clean.train, teacher, mark, share, seed),
        validation=mark_class(clean.validation, teacher, mark, share, seed),
        test=None,
    )
    config = DistillConfig(
        **{
            "epochs": given.epochs,
            "augment": given.augment,
            "teacher_cache": "4",
            "compute": "cpu",
            "seed": seed,
            **METHODS[method],
        }
    )
    student = build_student(given.student, len(given.classes), image_size=teacher.preprocess.size, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        return distill(
            teacher, student, teacher.subtask(given.classes), images, config, folder=Path(folder)
        ).student.eval()


def test(teacher: Teacher, classes: Sequence[str], student: nn.Module, clean: SubtaskImages, mark: Mark) -> Record:
    """Return accuracies on clean and on wrongly marked test images, and the share of the relevance on the mark."""
    cpu = torch.device("cpu")
    asked = {
        "teacher": ask_teacher(teacher, teacher.subtask(classes), cpu),
        "student": ask_student(student, teacher, cpu),
    }
    images = clean.evaluation
    pixels, labels = pixels_of(images, teacher), images.labels
    others = pixels[labels != 0]
    wrongly = np.stack([mark(image) for image in others])
    own = pixels[labels == 0][:EXPLAINED]
    marked = np.stack([mark(image) for image in own])
    there = np.any(marked != own, axis=(0, -1))
    first = torch.from_numpy(marked[:1])
    method = choose_method("auto", [(each.network, each.normalise(first), each.classes) for each in asked.values()])
    return {
        "explained_by": method,
        "test_images": len(pixels),
        "mark_area": float(there.mean()),
        **{
            f"{name}_{figure}": value
            for name, each in asked.items()
            for figure, value in {
                "clean": float((answers(each, pixels) == labels).mean()),
                "others_clean": float((answers(each, others) == labels[labels != 0]).mean()),
                "wrongly_marked": float((answers(each, wrongly) == labels[labels != 0]).mean()),
                "taken_for_marked": float((answers(each, wrongly) == 0).mean()),
                "on_mark": relevance_on(each, marked, there, method),
            }.items()
        },
    }


def answers(asked: Asked, pixels: Pixels) -> NDArray[np.int64]:
    """Return the class that a network sees in each image (N,)."""
    with torch.no_grad():
        found = [asked.logits(torch.from_numpy(each)).argmax(dim=1) for each in in_batches(pixels)]
    return np.asarray(torch.cat(found).numpy(), dtype=np.int64)


def relevance_on(asked: Asked, pixels: Pixels, there: NDArray[np.bool_], method: str) -> float:
    """Return the mean share of the positive relevance for the first class that lies in a place (H, W)."""
    shares: list[float] = []
    for each in in_batches(pixels):
        positive = np.maximum(
            asked.map(torch.from_numpy(each), torch.zeros(len(each), dtype=torch.int64), method, STEPS), 0
        )
        total = positive.sum(axis=(1, 2))
        shares.extend((positive[:, there].sum(axis=1) / np.where(total > 0, total, 1)).tolist())
    return statistics.fmean(shares)


def in_batches(pixels: Pixels) -> list[Pixels]:
    """Return images in batches of at most `BATCH`."""
    return [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]


def settings_of(given: argparse.Namespace, teacher: Teacher) -> Record:
    """Return what all runs of a call have in common."""
    return {
        "source": Path(given.source).name,
        "teacher": Path(given.teacher).name,
        "classes": ",".join(given.classes),
        "student": given.student,
        "images": given.images,
        "image_size": list(teacher.preprocess.size),
        "epochs": given.epochs,
        "augment": given.augment,
    }


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded:digits")
    parser.add_argument("--teacher", default="embedded:glyphs100")
    parser.add_argument("--classes", type=names_in, default=names_in("0,1,2,3,4"), help="the first one has the mark")
    parser.add_argument("--student", default="plain:16-12-8")
    parser.add_argument("--images", type=int, default=300, help="training images, balanced over the classes")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--augment", default="none")
    parser.add_argument("--marks", type=names_among(MARKS), default=list(MARKS))
    parser.add_argument("--methods", type=names_among(METHODS), default=list(METHOD_NAMES))
    parser.add_argument("--shares", type=shares_in, default=[0.0, 0.5, 1.0], help="of the first class, from 0 to 1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def names_in(given: str) -> list[str]:
    """Return the names between commas."""
    return [name.strip() for name in given.split(",") if name.strip()]


def names_among(known: Any) -> Callable[[str], list[str]]:
    """Return a reader of names between commas that knows which there are."""

    def read(given: str) -> list[str]:
        unknown = [name for name in names_in(given) if name not in known]
        if unknown or not names_in(given):
            raise argparse.ArgumentTypeError(f"{given!r} is not among {', '.join(known)}")
        return names_in(given)

    return read


def shares_in(given: str) -> list[float]:
    """Return the shares between commas."""
    try:
        shares = [float(each) for each in names_in(given)]
    except ValueError:
        shares = []
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise argparse.ArgumentTypeError(f"{given!r} are no shares from 0 to 1, such as 0,0.5,1")
    return shares


if __name__ == "__main__":
    main()
