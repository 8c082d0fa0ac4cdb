"""From one float graph to its two INT8 files: the best ranges, what each node costs, and which are left in float."""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper

from edgedistill_calibration.config import CalibrationConfig
from edgedistill_calibration.int8._float_nodes import MixedPrecision
from edgedistill_calibration.int8._node_errors import (
    NodeCost,
    Trial,
    expected_runs,
    measure_nodes,
    node_costs,
    sample_count,
)
from edgedistill_calibration.int8._qdq import Candidates, write_candidates
from edgedistill_calibration.int8.exclusions import Mixture, Search, leave_in_float
from edgedistill_calibration.judging.judge import Judge
from edgedistill_calibration.judging.ledger import Figures
from edgedistill_calibration.ranges.measurement import Ranges
from edgedistill_deploy.images.sets import ImageSet

# The metadata that names the nodes left in float, as a JSON list.
FLOAT_NODES = "edgedistill.float_nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to choose ranges: its files by precision, and how they did on the held-out images."""

    method: str
    files: Mapping[str, Path]
    figures: Mapping[str, Figures]

    @property
    def rank(self) -> tuple[float, float]:
        """That of the worse of its files, so that neither runtime pays for the other."""
        return min(self.figures[precision].rank for precision in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """The two INT8 files of a float graph, and how they came about.

    Attributes:
        method: how the ranges of the file for ONNX Runtime were chosen, and of the other one too, unless the student was
            trained within given ranges.
        ranges: all that were measured, by method.
        candidates: every way that was tried.
        mixtures: by precision, the file that is kept.
    """

    method: str
    ranges: Mapping[str, Ranges]
    candidates: tuple[Candidate, ...]
    mixtures: Mapping[str, Mixture]


def make_int8(
    judge: Judge,
    images: ImageSet,
    folder: Path,
    config: CalibrationConfig,
    metadata: Mapping[str, str],
    accuracy: float | None = None,
    given: Mapping[str, Ranges] | None = None,
) -> Int8:
    """Quantise the float model that `judge` compares with.

    Args:
        judge: has the float model and the held-out images.
        images: to measure ranges on.
        folder: where the files go.
        config: settings.
        metadata: for the files, beside the float model's.
        accuracy: that the goal is measured from; the float model's by default.
        given: ranges to try beside those that are measured, see `read_ranges`.
    """
    prepared = judge.prepared
    groups = functools.partial(prepared.batches, images)
    tried = write_candidates(judge.source, folder, groups, prepared.preprocess.size, config, metadata, given)
    candidates = _judged(judge, tried)
    chosen = _chosen(candidates, trained=given is not None)
    base = judge.judge({judge.source: "fp32"})[judge.source].accuracy if accuracy is None else accuracy
    trial, costs = _trial(judge, tried, config)
    mixtures = {
        precision: _mixture(precision, candidate, tried.prepared, judge, trial, costs, config, base)
        for precision, candidate in chosen.items()
    }
    return Int8(
        method=chosen["int8"].method, ranges=tried.ranges, candidates=tuple(candidates), mixtures=mixtures
    )


def int8_details(made: Int8) -> dict[str, dict[str, object]]:
    """Return what the ledger has of each INT8 file beside its figures; `nodes` among it."""
    return {
        precision: {"nodes": [node.to_json() for node in mixture.nodes], **mixture.to_json()}
        for precision, mixture in made.mixtures.items()
    }


def _chosen(candidates: Sequence[Candidate], *, trained: bool) -> dict[str, Candidate]:
    """Return by precision the candidate that is kept.

    A student that was trained within its ranges computes in INT8 what it was trained for, and in float something else: there
    each file takes the way with which it is most accurate, and not the one that is closest to float.
    """
    if not trained:
        best = max(candidates, key=lambda each: each.rank)
        return dict.fromkeys(best.files, best)
    return {
        precision: max(
            candidates, key=lambda each: (each.figures[precision].accuracy, each.figures[precision].rank)
        )
        for precision in candidates[0].files
    }


def _judged(judge: Judge, tried: Candidates) -> list[Candidate]:
    models = {path: name for written in tried.files.values() for name, path in written.items()}
    figures = judge.judge(models)
    return [
        Candidate(
            method=method, files=written, figures={name: figures[path] for name, path in written.items()}
        )
        for method, written in tried.files.items()
    ]


def _trial(judge: Judge, tried: Candidates, config: CalibrationConfig) -> tuple[Trial, dict[str, NodeCost]]:
    """Prepare the images that single nodes are measured on; none where no node is to be."""
    if not config.ledger_nodes:
        images = judge.sample(0)
        costs: dict[str, NodeCost] = {}
    else:
        costs = node_costs(tried.prepared, judge.sample(1))
        images = judge.sample(sample_count(costs, config.ledger_nodes))
        runs = 2 * expected_runs(len(costs), config.ledger_nodes)
        judge.prepared.work.expect(runs * len(images))
    reference = judge.answers({judge.source: "fp32"})[judge.source][: len(images)]
    trial = Trial(
        prepared=tried.prepared,
        images=images,
        labels=judge.images.labels[: len(images)],
        reference=reference,
        work=judge.prepared.work,
    )
    return trial, costs


def _mixture(
    precision: str,
    chosen: Candidate,
    prepared: onnx.ModelProto,
    judge: Judge,
    trial: Trial,
    costs: Mapping[str, NodeCost],
    config: CalibrationConfig,
    accuracy: float,
) -> Mixture:
    path = chosen.files[precision]
    mixed = MixedPrecision(prepared, onnx.load(path))
    nodes = measure_nodes(mixed, trial, costs, config.ledger_nodes) if config.ledger_nodes else ()
    names = (path.with_suffix(f".{count}.onnx") for count in itertools.count(1))
    search = Search(
        mixed=mixed,
        trial=trial,
        costs=costs,
        nodes=nodes,
        accuracy=accuracy,
        max_drop=config.max_drop,
        judge=lambda file: judge.judge({file: precision})[file],
        save=lambda model: _saved(model, mixed, next(names)),
    )
    return leave_in_float(search, path, chosen.figures[precision])


def _saved(model: onnx.ModelProto, mixed: MixedPrecision, path: Path) -> Path:
    """Write a graph that has nodes in float, and their names in its metadata."""
    left = mixed.float_nodes(model)
    metadata = {each.key: each.value for each in model.metadata_props}
    helper.set_model_props(model, {**metadata, FLOAT_NODES: json.dumps(left)})
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    return path
