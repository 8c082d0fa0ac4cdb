"""Runs models on the held-out images and compares their answers with those of the float student."""

import contextlib
import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgedistill_calibration.graphs.merging import merge_graphs
from edgedistill_calibration.judging.ledger import Figures, Logits, compare_logits
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet
from edgedistill_deploy.progress import Phases, Progress, silent
from edgedistill_deploy.runtimes.int8_kernels import set_exact_int8
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import usable_cores

if TYPE_CHECKING:
    import onnx

Images = NDArray[np.uint8]
BATCH = 16
KEPT_BYTES = 192 << 20  # of prepared images, which most passes read again: 1300 at 224 pixels
MERGED_BATCH = 8  # of graphs that run together, whose values are in memory together
# The phases of a calibration, in order, as the user sees them.
RANGES, WRITING, CANDIDATE_FILES = "ranges", "writing candidates", "comparing ranges"
SINGLE_NODES = "nodes one by one"
FLOAT16_FILES, LEDGER, EXPECTATIONS = "FP16 files", "judging the files", "recording their outputs"
_OPEN_END = 0.1  # of a phase's progress
_STEPS = 10_000  # of a phase's progress


@dataclass(slots=True, kw_only=True)
class ImageCount:
    """Counts what is run in each phase of the work, of that expected there: an image through one or more models."""

    phases: Phases
    expected: int = 0
    done: int = 0
    _report: Progress = silent

    def begin(self, phase: str, expected: int) -> None:
        """Begin a phase in which about so many images are run."""
        self.done, self.expected = 0, expected
        self._report = self.phases.begin(phase)

    def advance(self, count: int) -> None:
        """Note that this many were run.

        The last tenth of a phase takes any number of them, so that it never stands still where there are more than
        expected.
        """
        self.done += count
        share = self.done / max(1, self.expected)
        even = 1 - _OPEN_END
        reached = share if share <= even else 1 - _OPEN_END * even / share
        self._report(int(_STEPS * reached), _STEPS)

    def finish(self) -> None:
        """Report all as done."""
        self.phases.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Prepares images batch by batch, each once as long as `KEPT_BYTES` last, and counts them."""

    preprocess: Preprocess
    work: ImageCount
    _kept: dict[str, Images] = field(default_factory=dict)  # prepared images (H, W, 3) by the digest of their source

    def batches(self, images: ImageSet, batch_size: int) -> Iterator[Images]:
        """Yield prepared images (n, H, W, 3)."""
        for batch in self.prepare(images, batch_size):
            yield batch
            self.work.advance(len(batch))

    def prepare(self, images: ImageSet, batch_size: int) -> Iterator[Images]:
        """Yield prepared images (n, H, W, 3) without counting them."""
        for start in range(0, len(images), batch_size):
            yield np.stack([self._pixels(images, row) for row in range(start, min(start + batch_size, len(images)))])

    def _pixels(self, images: ImageSet, row: int) -> Images:
        digest = images.digest(row)
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        pixels = self.preprocess.apply(images.read(row))
        if (len(self._kept) + 1) * pixels.nbytes <= KEPT_BYTES:
            self._kept[digest] = pixels
        return pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Compares models with the float model `source` on the held-out images, and remembers the logits of each file.

    A pass holds a few images at a time, besides those that `prepared` keeps, so memory has a bound. The answers of the
    `teacher`'s file, or without one those of `source`, stand in for the labels of images that have none.
    """

    source: Path
    images: ImageSet
    prepared: Preparation
    teacher: Path | None = None
    _answers: dict[Path, Logits] = field(default_factory=dict)

    def labels(self, count: int | None = None) -> NDArray[np.int64]:
        """Return what the answers to the first `count` images (N,) are held against; None stands for all images."""
        known = np.asarray(self.images.labels, dtype=np.int64)[:count]
        if (known != NO_LABEL).all():
            return known
        path, precision = (self.source, "fp32") if self.teacher is None else (self.teacher, "teacher")
        return np.where(known == NO_LABEL, self.answers({path: precision}, count)[path].argmax(axis=1), known)

    def judge(self, models: Mapping[Path, str], count: int | None = None) -> dict[Path, Figures]:
        """Return the figures of each {file: precision} against the float model, on the first `count` images or all.

        What is new takes one pass over the images.
        """
        answers = self.answers({self.source: "fp32", **models}, count)
        labels = self.labels(count)
        return {path: compare_logits(answers[self.source], answers[path], labels) for path in models}

    def answers(self, models: Mapping[Path, str], count: int | None = None) -> dict[Path, Logits]:
        """Return each model's logits (N, C) on the first `count` images, or all.

        A new file runs the first image alone and the rest in batches. A file that was asked before goes on where it
        stopped.
        """
        wanted = len(self.images) if count is None else min(count, len(self.images))
        behind: dict[int, dict[Path, str]] = {}
        for path, precision in models.items():
            known = len(self._answers.get(path, ()))
            if known < wanted:
                behind.setdefault(known, {})[path] = precision
        for start, files in behind.items():
            for path, new in self._run(files, range(start, wanted)).items():
                self._answers[path] = np.concatenate([self._answers[path], new]) if start else new
        return {path: self._answers[path][:wanted] for path in models}

    def _run(self, models: Mapping[Path, str], places: range) -> dict[Path, Logits]:
        alone = 0 if places.start else 1
        first, rest = self.images.select(places[:alone]), self.images.select(places[alone:])
        parts: dict[Path, list[Logits]] = {path: [] for path in models}
        with contextlib.ExitStack() as stack:
            sessions = [
                stack.enter_context(open_model(path, precision=precision, spinning=False))
                for path, precision in models.items()
            ]
            for batch in itertools.chain(self.prepared.prepare(first, 1), self.prepared.prepare(rest, BATCH)):
                for session in sessions:
                    parts[session.model_path].append(logits_of(session, batch))
                    self.prepared.work.advance(len(batch))
        return {path: np.concatenate(part) for path, part in parts.items()}

    def sample(self, count: int) -> Images:
        """Return the first `count` images, prepared; held-out images come in a mix of all classes."""
        if not count:
            return np.zeros((0, *self.prepared.preprocess.size, 3), np.uint8)
        chosen = self.images.select(range(min(count, len(self.images))))
        return np.concatenate(list(self.prepared.prepare(chosen, BATCH)))


def run_values(
    model: "onnx.ModelProto", names: Sequence[str], images: Images, batch_size: int = BATCH
) -> Iterator[list[NDArray[np.float32]]]:
    """Run a graph in memory and yield these values, a batch at a time."""
    import onnx
    import onnxruntime

    opened = copy.deepcopy(model)
    present = {output.name for output in model.graph.output}
    opened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    # There are dozens of sessions a second, and their threads must not spin on the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    set_exact_int8(onnxruntime, options)
    session = onnxruntime.InferenceSession(
        opened.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["CommonSubexpressionElimination"],  # `merge_graphs` keeps apart what must not be fused
    )
    for start in range(0, len(images), batch_size):
        yield session.run(list(names), {"image": images[start : start + batch_size]})


def run_logits(models: Sequence["onnx.ModelProto"], images: Images, work: ImageCount) -> list[Logits]:
    """Return the logits (N, C) of each graph in memory. They run in one session; `work` counts the images."""
    merged = merge_graphs(models, "logits")
    names = list(dict.fromkeys(merged.outputs))
    parts = []
    for values in run_values(merged.model, names, images, MERGED_BATCH):
        parts.append(values)
        work.advance(len(values[0]) * len(models))
    whole = {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}
    return [whole[name] for name in merged.outputs]


def lowest_first(values: Iterable[tuple[str, float | None]]) -> list[str]:
    """Return names by rising decibels; None means no noise and comes last."""
    return [name for name, _ in sorted(values, key=lambda each: np.inf if each[1] is None else each[1])]
