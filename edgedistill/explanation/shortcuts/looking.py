"""Look for places that teacher or student draw on for one class alone, and say what they do to the answers."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.compute.device import find_device, staying_on
from edgedistill.data.feeding import Feed
from edgedistill.data.sampling import sample_evenly
from edgedistill.data.unlabelled import fill_in, judged_by
from edgedistill.explanation._kept import KeptRows
from edgedistill.explanation.attribution import choose_method
from edgedistill.explanation.config import ATTENTION, LRP, ExplainConfig
from edgedistill.explanation.explaining import Asked, ask_student, ask_teacher
from edgedistill.explanation.pictures import colour_map, write_tiles
from edgedistill.explanation.shortcuts.changes import measure_changes, take_out
from edgedistill.explanation.shortcuts.criterion import Judged, Suspicion, judge_places
from edgedistill.explanation.shortcuts.record import Finding, summarise
from edgedistill.explanation.shortcuts.regions import (
    Cells,
    Grid,
    find_regions,
    grid_of,
    name_place,
    pixels_of,
    region_shares,
)
from edgedistill.explanation.summary import STUDENT, TEACHER
from edgedistill.models.teacher import Teacher
from edgedistill.networks.digest import weights_digest
from edgedistill.networks.modes import evaluating
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Progress, silent

SHORTCUTS = "shortcuts"  # the record's name, and the folder of its pictures
_EXAMPLES = 3  # pictures of each place
_MOST_DONORS = 16  # images whose place is put on others

Row = dict[str, Any]
Labels = NDArray[np.int64]


def find_shortcuts(
    teacher: Teacher,
    subtask: Subtask,
    student: nn.Module,
    images: ImageSet,
    config: ExplainConfig,
    folder: Path,
    *,
    inside: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Find places that carry much relevance for one class alone, in the maps of teacher and student.

    Both are asked for the class of the subtask that the teacher sees in the image. The record goes to
    `folder`/shortcuts.json; pictures, and the figures of each image, to `folder`/shortcuts/. The same call after an
    interruption goes on after the last finished batch.

    Args:
        teacher: is asked beside the student.
        subtask: the student's classes among the teacher's.
        student: takes the teacher's images.
        images: validation images of the subtask.
        config: as for `explain_student`; `pictures` counts nothing here.
        folder: for the record.
        inside: the run folder that `folder` lies in, as for `write_whole`.
        progress: called with images.

    Returns the record, kind "shortcuts".

    Raises:
        UsageError: the method cannot explain the teacher or the student, or this machine lacks the device.
        MissingDependencyError: the library behind the method is not installed.
    """
    device = find_device(config.compute)
    sample = sample_evenly(images, config.images, config.seed)
    with contextlib.ExitStack() as stays:
        for network in (teacher.model, student):
            stays.enter_context(staying_on(network, device))
            stays.enter_context(evaluating(network))
        asked = {TEACHER: ask_teacher(teacher, subtask, device), STUDENT: ask_student(student, teacher, device)}
        method = _choose(asked, teacher, sample, config.method)
        look = _Look(
            teacher=teacher,
            subtask=subtask,
            asked=asked,
            method=method,
            config=config,
            sample=sample,
            folder=folder / SHORTCUTS,
            inside=inside,
        )
        record = look.record(progress)
    write_json(folder / f"{SHORTCUTS}.json", record, inside=inside)
    return record


def _choose(asked: Mapping[str, Asked], teacher: Teacher, sample: ImageSet, wanted: str) -> str:
    pixels = torch.from_numpy(np.array(teacher.preprocess.apply(sample.read(0))))[None]
    return choose_method(
        wanted, [(each.network, each.normalise(pixels.to(each.colour.device)), each.classes) for each in asked.values()]
    )


@dataclass(frozen=True, kw_only=True)
class _Look:
    """The networks and the images of one search."""

    teacher: Teacher
    subtask: Subtask
    asked: Mapping[str, Asked]
    method: str
    config: ExplainConfig
    sample: ImageSet
    folder: Path  # of the pictures and of what is kept
    inside: Path | None

    @property
    def grid(self) -> Grid:
        return grid_of(*self.teacher.preprocess.size)

    @cached_property
    def key(self) -> str:
        """A hash of all that the figures depend on."""
        known = {
            "method": self.method,
            "steps": self.config.steps,
            "seed": self.config.seed,
            "grid": self.grid,
            "classes": self.subtask.to_json(),
            "networks": {name: weights_digest(each.network) for name, each in self.asked.items()},
            "preprocess": self.teacher.preprocess.digest,
            "colour": self.teacher.mean,
            "images": [self.sample.digest(row) for row in range(len(self.sample))],
            "labels": self.sample.labels.tolist(),
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def record(self, progress: Progress) -> dict[str, Any]:
        """Do what is not done yet, and return the record."""
        rows = self._examine(progress)
        shares = {name: np.array([row["shares"][name] for row in rows]) for name in self.asked}
        plain = {name: np.array([row["answers"][name] for row in rows], dtype=np.int64) for name in self.asked}
        truth = fill_in(self.sample.labels, plain[TEACHER])
        judged = judge_places(shares, plain[TEACHER])
        places = _places(judged, self.grid)
        changes = self._measure(places, plain, truth, progress)
        findings = []
        for number, (place, change) in enumerate(zip(places, changes, strict=True)):
            files = self._draw(number, place, shares, plain[TEACHER])
            findings.append(
                Finding(
                    label=place.label,
                    place=name_place(place.cells),
                    cells=place.cells,
                    suspicions=place.suspicions,
                    changes=change,
                    pictures=files,
                )
            )
        self._forget_pictures([file for finding in findings for file in finding.pictures])
        return summarise(
            findings,
            judged,
            shares,
            seen=plain[TEACHER],
            class_names=self.subtask.class_names,
            regions=find_regions(self.grid),
            described={
                "method": self.method,
                "settings": {} if self.method in (LRP, ATTENTION) else {"steps": self.config.steps},
                "judged_by": judged_by(self.sample),
            },
        )

    def _batches(self, rows: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Yield images (B, H, W, 3), all or those at some places."""
        chosen = self.sample if rows is None else self.sample.select(rows)
        feed = Feed(chosen, self.teacher.preprocess, self.config.batch_size, workers=self.config.workers)
        with contextlib.closing(feed):
            for pixels, *_ in feed.batches() if len(chosen) else ():
                yield pixels

    def _examine(self, progress: Progress) -> list[Row]:
        """Return for each image the answers, and the shares of the positive relevance by place."""
        kept, total = KeptRows(self.folder / "images.json", self.key, self.inside), len(self.sample)
        kept.cut_at(total)
        for pixels in self._batches(range(len(kept.rows), total)):
            progress(len(kept.rows), total, "images")
            kept.add(self._rows(pixels))
        progress(total, total, "images")
        return kept.rows

    def _rows(self, pixels: Tensor) -> list[Row]:
        with torch.no_grad():
            answers = {
                name: each.logits(pixels.to(each.colour.device)).argmax(dim=1) for name, each in self.asked.items()
            }
        shares = {name: region_shares(self._map(name, pixels, answers[TEACHER]), self.grid) for name in self.asked}
        return [
            {
                "answers": {name: int(found[place]) for name, found in answers.items()},
                "shares": {name: found[place].tolist() for name, found in shares.items()},
            }
            for place in range(len(pixels))
        ]

    def _map(self, network: str, pixels: Tensor, targets: Tensor) -> NDArray[np.float64]:
        each = self.asked[network]
        device = each.colour.device
        return each.map(pixels.to(device), targets.to(device), self.method, self.config.steps)

    def _measure(
        self, places: Sequence["_Place"], plain: Mapping[str, Labels], truth: Labels, progress: Progress
    ) -> list[Row]:
        """Return what each place does to the answers."""
        described = json.dumps([[place.label, place.cells.tolist()] for place in places])
        key = hashlib.sha256(f"{self.key}|{described}".encode()).hexdigest()
        kept = KeptRows(self.folder / "places.json", key, self.inside)
        kept.cut_at(len(places))
        for number in range(len(kept.rows), len(places)):
            progress(number, len(places), "places")
            place = places[number]
            kept.add(
                [
                    measure_changes(
                        self.asked,
                        self._batches(),
                        truth,
                        plain,
                        place.label,
                        torch.from_numpy(pixels_of(place.cells, self.teacher.preprocess.size)),
                        self._donors(place, plain[TEACHER], truth),
                    )
                ]
            )
        return kept.rows

    def _donors(self, place: "_Place", seen: Labels, truth: Labels) -> Tensor:
        """Return images of a class (D, H, W, 3), if there are any that are labelled so."""
        own = np.flatnonzero(truth == place.label)
        rows = own if len(own) else np.flatnonzero(seen == place.label)
        return torch.cat(list(self._batches(rows[:_MOST_DONORS].tolist())))

    def _draw(self, number: int, place: "_Place", shares: Mapping[str, NDArray[np.float64]], seen: Labels) -> list[str]:
        """Draw the images of a class with the most relevance in a place: image, image without it, and the maps."""
        own = np.flatnonzero(seen == place.label)
        much = sum(shares[each.network][own, each.region] for each in place.suspicions)
        rows = own[np.argsort(-np.asarray(much), kind="stable")][:_EXAMPLES].tolist()
        pixels = torch.cat(list(self._batches(rows)))
        without = self._without(pixels, place)
        targets = torch.full((len(pixels),), place.label)
        maps = [self._map(name, pixels, targets) for name in self.asked]
        files = []
        for row, image in enumerate(pixels.numpy()):
            path = self.folder / f"place-{number:02d}-image-{row}.png"
            write_tiles(path, (image, without[row], *(colour_map(image, each[row]) for each in maps)), self.inside)
            files.append(f"{self.folder.parent.name}/{self.folder.name}/{path.name}")
        return files

    def _without(self, pixels: Tensor, place: "_Place") -> NDArray[np.uint8]:
        there = torch.from_numpy(pixels_of(place.cells, self.teacher.preprocess.size))
        filled = take_out(pixels, there, self.asked[TEACHER].colour.cpu())
        return np.asarray(filled.round().clamp(0, 255).byte().numpy(), dtype=np.uint8)

    def _forget_pictures(self, files: Sequence[str]) -> None:
        """Delete pictures of places that an earlier search found and this one did not."""
        for path in self.folder.glob("place-*-image-*.png"):
            if not any(file.endswith(f"/{path.name}") for file in files):
                path.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What stands out for a class, as one place."""

    label: int
    cells: Cells
    suspicions: tuple[Suspicion, ...]


def _places(judged: Judged, grid: Grid) -> list[_Place]:
    """Return one place for each class with any: the cells that stand out, else the smallest larger place that does."""
    regions, found = find_regions(grid), []
    for label in dict.fromkeys(each.label for each in judged.suspicions):
        own = [each for each in judged.suspicions if each.label == label]
        cells = [regions[each.region].cells for each in own if each.region < grid[0] * grid[1]]
        larger = min((regions[each.region].cells for each in own), key=lambda each: int(each.sum()))
        place = np.logical_or.reduce(cells) if cells else larger
        found.append(_Place(label=label, cells=place, suspicions=tuple(own)))
    return sorted(found, key=lambda each: each.label)
