"""Do teacher and student answer for the same reasons? Maps of both, their agreement, floors for it, and checks."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.compute.device import find_device, staying_on
from edgedistill.data.feeding import Feed
from edgedistill.data.sampling import sample_evenly
from edgedistill.explanation import attribution
from edgedistill.explanation._kept import KeptRows
from edgedistill.explanation.agreement import COSINE, MEASURES, compare_maps
from edgedistill.explanation.attribution import attribute, choose_method
from edgedistill.explanation.config import ATTENTION, LRP, ExplainConfig
from edgedistill.explanation.evidence import class_evidence
from edgedistill.explanation.flipping import flipping_curves, order_by, random_order
from edgedistill.explanation.noise import LEVELS, add_noise, compare_noisy
from edgedistill.explanation.pictures import write_picture
from edgedistill.explanation.summary import (
    OTHER_CLASS,
    RANDOM_ORDER,
    RANDOM_STUDENT,
    STUDENT,
    STUDENT_ORDER,
    TEACHER,
    TEACHER_ORDER,
    summarise,
)
from edgedistill.models.normalise import Normalise, normalise_of
from edgedistill.models.teacher import Teacher
from edgedistill.networks.digest import weights_digest
from edgedistill.networks.logits import ClassIndices, restrict_logits
from edgedistill.networks.modes import evaluating
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Progress, silent

_RANDOM = "random "  # and a number, within this module
_CHECKED = (TEACHER, STUDENT)  # whose maps are checked by themselves

Row = dict[str, Any]
Maps = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The networks of an explanation.

    Attributes:
        teacher: is explained beside the student.
        subtask: the student's classes among the teacher's.
        student: takes the teacher's images.
        untrained: the student's architecture with random weights, drawn anew for each: what agreement costs nothing.
            One alone can be for a class or against it by chance.
        rivals: other students of the same subtask, such as one that was trained on labels alone, by their name.
    """

    teacher: Teacher
    subtask: Subtask
    student: nn.Module
    untrained: tuple[nn.Module, ...]
    rivals: Mapping[str, nn.Module]

    @property
    def students(self) -> dict[str, nn.Module]:
        """All networks but the teacher, by their name in the record."""
        return {
            STUDENT: self.student,
            **{_RANDOM + str(n): each for n, each in enumerate(self.untrained)},
            **self.rivals,
        }


def explain_student(
    compared: Compared,
    images: ImageSet,
    config: ExplainConfig,
    folder: Path,
    *,
    inside: Path | None = None,
    left_out: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Explain teacher and student on images of the subtask, and compare the explanations.

    Both are asked for the class of the subtask that the teacher sees in the image, see `class_evidence`. The record
    goes to `folder`/METHOD.json, pictures and the figures of each image to `folder`/METHOD/. The same call after an
    interruption goes on after the last finished batch.

    Args:
        compared: the networks; they are the same afterwards.
        images: validation images of the subtask; labels only spread the sample over the classes.
        config: see there.
        folder: for the record.
        inside: the run folder that `folder` lies in, as for `write_whole`.
        left_out: sentences for the record on comparisons that cannot be made.
        progress: called with the maps that are there, and how many there will be.

    Returns the record.

    Raises:
        UsageError: the method cannot explain the teacher or the student, or this machine lacks the device.
        MissingDependencyError: the library behind the method is not installed.
    """
    device = find_device(config.compute)
    sample = sample_evenly(images, config.images, config.seed)
    networks = [compared.teacher.model, *compared.students.values()]
    with contextlib.ExitStack() as stays:
        for network in networks:
            stays.enter_context(staying_on(network, device))
            stays.enter_context(evaluating(network))
        asked = _ask(compared, device)
        method = _choose(asked, sample, compared.teacher, config, device)
        work = _Work(compared=compared, asked=asked, method=method, config=config, device=device, sample=sample)
        kept = KeptRows(folder / method / "images.json", work.key(), inside)
        _complete(work, kept, folder, inside, progress)
    record = summarise(
        kept.rows,
        method=method,
        class_names=compared.subtask.class_names,
        pictures=_pictures(kept.rows, config.pictures, method, folder),
        left_out=[*left_out, *_left_out(compared.subtask)],
        settings={"steps": config.steps, "baseline": "mean colour"} if method not in (LRP, ATTENTION) else {},
    )
    write_json(folder / f"{method}.json", record, inside=inside)
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A network on a device, with its own way to take pixels, and the subtask among its outputs."""

    network: nn.Module
    normalise: Normalise
    classes: ClassIndices | None
    colour: Tensor  # the mean colour (3,) in pixel values, where integrated gradients begin

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the subtask's logits (B, C) for pixels (B, H, W, 3)."""
        outputs = self.network(self.normalise(pixels))
        return outputs if self.classes is None else restrict_logits(outputs, self.classes)

    def evidence(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Return the evidence (B,) in pixels (B, H, W, 3)."""
        return class_evidence(self.logits(pixels), targets)

    def map(self, pixels: Tensor, targets: Tensor, method: str, steps: int) -> NDArray[np.float64]:
        """Return the maps (B, H, W)."""
        path = attribution.Path(steps=steps, baseline=self.normalise(self.colour.view(1, 1, 1, 3)))
        found = attribute(self.network, self.normalise(pixels), targets, method, self.classes, path)
        return np.asarray(found.cpu().double().numpy(), dtype=np.float64)


def _ask(compared: Compared, device: torch.device) -> dict[str, Asked]:
    teacher = ask_teacher(compared.teacher, compared.subtask, device)
    students = compared.students.items()
    return {TEACHER: teacher, **{name: ask_student(each, compared.teacher, device) for name, each in students}}


def ask_teacher(teacher: Teacher, subtask: Subtask, device: torch.device) -> Asked:
    """Return the teacher as it is asked about the subtask; its model is on the device already."""
    return Asked(
        network=teacher.model,
        normalise=teacher.normalise().to(device),
        classes=subtask.class_indices,
        colour=_mean_colour(teacher, device),
    )


def ask_student(student: nn.Module, teacher: Teacher, device: torch.device) -> Asked:
    """Return a student as it is asked; it is on the device already, and takes the teacher's images."""
    return Asked(
        network=student,
        normalise=normalise_of(student, teacher.normalise()).to(device),
        classes=None,
        colour=_mean_colour(teacher, device),
    )


def _mean_colour(teacher: Teacher, device: torch.device) -> Tensor:
    return 255 * torch.tensor(teacher.mean, device=device)


def _choose(
    asked: Mapping[str, Asked], sample: ImageSet, teacher: Teacher, config: ExplainConfig, device: torch.device
) -> str:
    pixels = torch.from_numpy(np.array(teacher.preprocess.apply(sample.read(0))))[None].to(device)
    networks = [(each.network, each.normalise(pixels), each.classes) for each in (asked[TEACHER], asked[STUDENT])]
    return choose_method(config.method, networks)


def _left_out(subtask: Subtask) -> list[str]:
    if len(subtask) > 2:
        return []
    return ["other_class: with two classes, what speaks for one speaks against the other, so it is no floor"]


def _complete(work: "_Work", kept: KeptRows, folder: Path, inside: Path | None, progress: Progress) -> None:
    """Examine the images that are not done, a batch at a time, and keep what each batch gave."""
    chosen = _drawn(len(work.sample), work.config.pictures)
    paths = {row: _picture_path(folder / work.method, place) for place, row in enumerate(chosen)}
    kept.cut_at(next((row for row, path in paths.items() if not path.is_file()), len(work.sample)))
    rest = work.sample.select(range(len(kept.rows), len(work.sample)))
    feed = Feed(rest, work.compared.teacher.preprocess, work.config.batch_size, workers=work.config.workers)
    with contextlib.closing(feed):
        for pixels, *_ in feed.batches() if len(rest) else ():
            first = len(kept.rows)
            rows, maps = work.examine(pixels, first, progress)
            for place, image in enumerate(pixels.numpy()):
                if path := paths.get(first + place):
                    write_picture(path, image, (maps[TEACHER][place], maps[STUDENT][place]), inside)
            kept.add(rows)
    work.tell(progress, len(work.sample), 0, 0)


def _drawn(count: int, pictures: int) -> list[int]:
    """Return which images are drawn, spread over the sample, whose classes lie one after another."""
    return list(dict.fromkeys(np.linspace(0, count - 1, pictures).round().astype(int).tolist())) if pictures else []


def _picture_path(folder: Path, place: int) -> Path:
    return folder / f"image-{place:02d}.png"


def _pictures(rows: Sequence[Row], pictures: int, method: str, folder: Path) -> list[Row]:
    return [
        {
            "file": _picture_path(Path(folder.name) / method, place).as_posix(),
            "class": rows[row]["class"],
            "cosine": rows[row]["agreement"][COSINE],
        }
        for place, row in enumerate(_drawn(len(rows), pictures))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is done with each batch of images."""

    compared: Compared
    asked: Mapping[str, Asked]
    method: str
    config: ExplainConfig
    device: torch.device
    sample: ImageSet

    def key(self) -> str:
        """Return a hash of all that the figures depend on."""
        known = {
            "method": self.method,
            "steps": self.config.steps,
            "seed": self.config.seed,
            "classes": self.compared.subtask.to_json(),
            "networks": {name: weights_digest(each.network) for name, each in self.asked.items()},
            "preprocess": self.compared.teacher.preprocess.digest,
            "colour": self.compared.teacher.mean,
            "noise": LEVELS,
            "images": [self.sample.digest(row) for row in range(len(self.sample))],
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    @property
    def _maps_an_image(self) -> int:
        return len(self.asked) + (len(self.compared.subtask) > 2) + len(_CHECKED)

    def tell(self, progress: Progress, images: int, maps: int, batch: int) -> None:
        """Report the maps that are there: those of the images that are done, and some of each image of a batch."""
        each = self._maps_an_image
        progress(images * each + maps * batch, len(self.sample) * each, "maps")

    def examine(self, pixels: Tensor, first: int, progress: Progress) -> tuple[list[Row], Maps]:
        """Return a row of figures for each image (B, H, W, 3), of which `first` is the first one's place, and maps."""
        pixels = pixels.to(self.device)
        with torch.no_grad():
            ranked = self.asked[TEACHER].logits(pixels).argsort(dim=1, descending=True, stable=True)
        targets = ranked[:, 0]
        maps: Maps = {}
        for name, each in self.asked.items():
            self.tell(progress, first, len(maps), len(pixels))
            maps[name] = each.map(pixels, targets, self.method, self.config.steps)
        if ranked.shape[1] > 2:
            self.tell(progress, first, len(maps), len(pixels))
            maps[OTHER_CLASS] = self.asked[TEACHER].map(pixels, ranked[:, 1], self.method, self.config.steps)
        noise = self._under_noise(pixels, targets, maps, first, progress)
        self.tell(progress, first, self._maps_an_image, len(pixels))
        curves = self._flip(pixels, targets, maps, first)
        sums = self._completeness(pixels, targets, maps)
        rows = []
        for place, target in enumerate(targets.tolist()):
            one = {name: found[place] for name, found in maps.items()}
            rows.append(
                {
                    "image": self.sample.name(first + place),
                    "class": self.compared.subtask.class_names[target],
                    **_agreements(one),
                    "flipping": {
                        network: {order: values[place].tolist() for order, values in orders.items()}
                        for network, orders in curves.items()
                    },
                    "sums": {network: [part[place] for part in parts] for network, parts in sums.items()},
                    "noise": {network: found[place] for network, found in noise.items()},
                }
            )
        return rows, maps

    def _under_noise(
        self, pixels: Tensor, targets: Tensor, maps: Maps, first: int, progress: Progress
    ) -> dict[str, list[dict[str, float]]]:
        """Return {network: for each image how like its map is to that of the image with a little noise}."""
        noisy = add_noise(pixels, [(self.config.seed, first + place) for place in range(len(pixels))])
        found: dict[str, list[dict[str, float]]] = {}
        for name in _CHECKED:
            self.tell(progress, first, len(maps) + len(found), len(pixels))
            made = self.asked[name].map(noisy, targets, self.method, self.config.steps)
            found[name] = [compare_noisy(*pair) for pair in zip(maps[name], made, strict=True)]
        return found

    def _flip(self, pixels: Tensor, targets: Tensor, maps: Maps, first: int) -> dict[str, dict[str, Any]]:
        """Return {network: {order: evidence (B, shares)}}."""
        size = pixels.shape[1], pixels.shape[2]
        orders = {
            TEACHER_ORDER: order_by(torch.from_numpy(maps[TEACHER])),
            STUDENT_ORDER: order_by(torch.from_numpy(maps[STUDENT])),
            RANDOM_ORDER: torch.stack(
                [random_order(size, (self.config.seed, first + place)) for place in range(len(pixels))]
            ),
        }
        read = (self.asked[TEACHER], self.asked[STUDENT])
        curves: dict[str, dict[str, Any]] = {TEACHER: {}, STUDENT: {}}

        def evidence(flipped: Tensor) -> tuple[Tensor, ...]:
            return tuple(each.evidence(flipped.permute(0, 2, 3, 1), targets) for each in read)

        with torch.no_grad():
            for name, order in orders.items():
                found = flipping_curves(pixels.float().permute(0, 3, 1, 2), order, read[0].colour, evidence)
                for network, values in zip(curves, found, strict=True):
                    curves[network][name] = values.cpu().double().numpy()
        return curves

    def _completeness(self, pixels: Tensor, targets: Tensor, maps: Maps) -> dict[str, tuple[list[float], list[float]]]:
        """Return {network: (sums of the maps, what they should be)}; nothing for a method that promises no sum."""
        if self.method == ATTENTION:
            return {}
        found = {}
        for name in _CHECKED:
            with torch.no_grad():
                wanted = self.asked[name].evidence(pixels, targets)
                if self.method != LRP:
                    empty = self.asked[name].colour.expand_as(pixels)
                    wanted = wanted - self.asked[name].evidence(empty, targets)
            found[name] = (maps[name].sum(axis=(1, 2)).tolist(), wanted.cpu().double().tolist())
        return found


def _agreements(maps: Maps) -> Row:
    """Return the agreement of an image's maps, that of the floors, and how much random weights change the map."""
    random = [found for name, found in maps.items() if name.startswith(_RANDOM)]
    rivals = [name for name in maps if name not in (TEACHER, STUDENT, OTHER_CLASS) and not name.startswith(_RANDOM)]
    other = {OTHER_CLASS: compare_maps(maps[OTHER_CLASS], maps[STUDENT])} if OTHER_CLASS in maps else {}
    return {
        "agreement": compare_maps(maps[TEACHER], maps[STUDENT]),
        "floors": {
            **other,
            RANDOM_STUDENT: _mean_of([compare_maps(maps[TEACHER], each) for each in random]),
            **{name: compare_maps(maps[TEACHER], maps[name]) for name in rivals},
        },
        "randomised": _mean_of([compare_maps(maps[STUDENT], each) for each in random])[COSINE],
    }


def _mean_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in found) / len(found) for name in MEASURES}
