"""Images per second of the data path, against a bare torchvision loop and against the step alone.

    python -m benchmarks.data_path DIR [--size 224] [--images 256] [--rounds 3]

DIR holds JPEG files in class folders, as torchvision's `ImageFolder` reads them, or below `train/`. All ways show
random resized crops and flips, as float images on the device, and take turns in short runs; the ratios are medians over
the rounds, each between two runs of one round. The bare loop is torchvision's usual one: `ImageFolder`,
`RandomResizedCrop`, flip, `ToTensor`, `Normalize`, in this process and with workers. The feed chooses its workers as it
does by default. A student alone takes steps on a batch that lies in memory as those of the feed do.

Everything is given twice: by wall time, and by the processor time of this process and of those that it started. The
second also tells something where other programs use the machine. Decoding alone bounds what a first pass can gain.
"""

import argparse
import contextlib
import functools
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from edgedistill.data.feeding import Feed
from edgedistill.data.keeping import ImageMemory, open_image_memory
from edgedistill.data.loader import Augmentation, Pass
from edgedistill.models.normalise import Normalise
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BARE, FIRST, LATER, DECODE = "bare loop", "feed, first pass", "feed, later passes", "decoding alone, 0 workers"
PASSES = 6  # of a student that starts from trained weights, by default
WHOLE = f"feed, {PASSES} passes"
STEP, STEP_FIRST, STEP_LATER = "step alone", "step on the first pass", "step on later passes"


@dataclass(kw_only=True)
class Place:
    """What is measured on; `steps` are of a student on batches of `batch_size`."""

    folder: Path
    size: int
    images: int
    batch_size: int
    workers: int
    student: str
    device: torch.device
    memory: ImageMemory = field(default_factory=open_image_memory)

    @functools.cached_property
    def split(self) -> ImageSet:
        """The images of the feed."""
        images = open_images(str(self.folder)).train
        return images.select(self.chosen(len(images)))

    def chosen(self, count: int) -> range:
        """Return which of `count` images are taken: some of every class."""
        return range(0, count, max(1, count // self.images))[: self.images]

    def feed(self, memory: ImageMemory) -> Feed:
        """Open a feed over the images."""
        return Feed(
            self.split,
            Preprocess(size=(self.size, self.size), crop_fraction=0.875),
            self.batch_size,
            Pass(augmentation=Augmentation(name="resized-crop-flip"), shuffle=True),
            memory=memory,
            device=self.device,
        )

    def bare(self, workers: int) -> Iterator[Tensor]:
        """Yield one pass of torchvision's usual loop."""
        train = self.folder / "train" if (self.folder / "train").is_dir() else self.folder
        usual = transforms.Compose(
            [
                transforms.RandomResizedCrop(self.size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        images = ImageFolder(str(train), usual)
        chosen = Subset(images, self.chosen(len(images)))
        for batch, _ in DataLoader(chosen, self.batch_size, shuffle=True, num_workers=workers):
            yield batch.to(self.device)

    def decoded(self) -> Iterator[Tensor]:
        """Yield one pass of decoded files, as batches that hold no pixels."""
        for start in range(0, len(self.split), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(self.split)))
            for row in rows:
                self.split.read(row)
            yield torch.empty(len(rows), 0)

    def fed(self, feed: Feed, epoch: int) -> Iterator[Tensor]:
        """Yield one pass of a feed, normalised."""
        normalise = Normalise(MEAN, STD).to(self.device)
        for pixels, *_ in feed.batches(epoch):
            yield normalise(pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Images per second of wall time, and per second of the time of all processors."""

    wall: float
    processor: float


def rate_of(place: Place, batches: Iterable[Tensor], work: Callable[[Tensor], None], feed: Feed | None = None) -> Rate:
    """Take all batches; `feed` is closed before processor time is read, which counts processes that have ended."""
    started, used, count = time.perf_counter(), processor_seconds(), 0
    for batch in batches:
        work(batch)
        count += len(batch)
    if place.device.type == "cuda":
        torch.cuda.synchronize()
    taken = time.perf_counter() - started
    if feed is not None:
        feed.close()
        gc.collect()
    return Rate(wall=count / taken, processor=count / (processor_seconds() - used))


def rate_of_all(first: Rate, later: Rate) -> Rate:
    """Return the rate over all passes of a training, from that of the first and of the later ones."""
    wall, processor = (
        PASSES / (1 / getattr(first, way) + (PASSES - 1) / getattr(later, way)) for way in ("wall", "processor")
    )
    return Rate(wall=wall, processor=processor)


def processor_seconds() -> float:
    """Return the processor time of this process and of the ended ones that it started."""
    return sum(os.times()[:4])


def step_of(place: Place) -> Callable[[Tensor], None]:
    student = timm.create_model(place.student, num_classes=8).to(place.device).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)

    def step(images: Tensor) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(student(images), torch.zeros(len(images), device=images.device).long()))
        optimizer.step()

    return step


def round_of(place: Place, step: Callable[[Tensor], None] | None, later: Feed, number: int) -> dict[str, Rate]:
    """Run every way once; those with a step only where there is one."""

    def take(images: Tensor) -> None:
        """Only look at the images."""

    def first_pass(work: Callable[[Tensor], None]) -> Rate:
        memory = open_image_memory()
        memory.admit(place.split, Preprocess(size=(place.size, place.size)))
        with contextlib.closing(place.feed(memory)) as feed:
            return rate_of(place, place.fed(feed, number), work, feed)

    found = {
        f"{BARE}, 0 workers": rate_of(place, place.bare(0), take),
        DECODE: rate_of(place, place.decoded(), take),
        f"{BARE}, {place.workers} workers": rate_of(place, place.bare(place.workers), take),
        FIRST: first_pass(take),
        LATER: rate_of(place, place.fed(later, number + 1), take),
    }
    found[WHOLE] = rate_of_all(found[FIRST], found[LATER])
    if step is None:
        return found
    pixels = torch.randint(0, 256, (place.batch_size, place.size, place.size, 3), dtype=torch.uint8)
    still = Normalise(MEAN, STD).to(place.device)(pixels.to(place.device))
    repeated = [still] * (place.images // place.batch_size)
    return {
        **found,
        STEP: rate_of(place, repeated, step),
        STEP_FIRST: first_pass(step),
        STEP_LATER: rate_of(place, place.fed(later, number + 1), step),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2, help="of the bare loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--student", default="mobilenetv4_conv_small_050", help='"" leaves out what has a step')
    parser.add_argument("--compute", default="cuda" if torch.cuda.is_available() else "cpu")
    given = vars(parser.parse_args())
    rounds = given.pop("rounds")
    place = Place(device=torch.device(given.pop("compute")), **given)
    place.memory.admit(place.split, Preprocess(size=(place.size, place.size)))
    step = step_of(place) if place.student else None
    with contextlib.closing(place.feed(place.memory)) as later:
        for _ in place.fed(later, 0):
            pass
        found = [round_of(place, step, later, number) for number in range(rounds)]
    bare, own = f"{BARE}, 0 workers", f"{BARE}, {place.workers} workers"
    print(f"{len(place.split)} JPEG files at {place.size} pixels, {place.device}")
    print("Medians by wall time, and by processor time in brackets")
    for way in found[0]:
        print(f"{way}: {medians([each[way] for each in found], digits=0)} images/s")
    compared = [(way, loop) for way in (FIRST, LATER, WHOLE) for loop in (bare, own)]
    for way, other in compared + ([(STEP_FIRST, STEP), (STEP_LATER, STEP)] if step else []):
        print(f"{way} / {other}: {medians([ratio(each[way], each[other]) for each in found], digits=2)}")
    print(f"decoding / {bare}, time: {medians([ratio(each[bare], each[DECODE]) for each in found], digits=2)}")


def ratio(of: Rate, to: Rate) -> Rate:
    return Rate(wall=of.wall / to.wall, processor=of.processor / to.processor)


def medians(found: list[Rate], digits: int) -> str:
    """Return the medians as text: by wall time, and by processor time in brackets."""
    wall, processor = (statistics.median(getattr(each, way) for each in found) for way in ("wall", "processor"))
    return f"{wall:.{digits}f} ({processor:.{digits}f})"


if __name__ == "__main__":
    main()
