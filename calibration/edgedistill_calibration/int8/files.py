"""From one float graph to its two INT8 files: the best ranges, each node's cost, and the nodes left in float."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper

from edgedistill_calibration.config import ALL_NODES, CANDIDATES, SAMPLED_NODES, CalibrationConfig
from edgedistill_calibration.graphs.preparation import metadata_of
from edgedistill_calibration.int8._node_errors import (
    NodeCost,
    Trial,
    count_runs,
    measure_nodes,
    node_costs,
    sample_count,
)
from edgedistill_calibration.int8._qdq import Candidates, blank_image, write_candidates
from edgedistill_calibration.int8.exclusions import ROUNDING, Mixture, Search, leave_in_float
from edgedistill_calibration.int8.float_nodes import MixedPrecision
from edgedistill_calibration.int8.request import Int8Request
from edgedistill_calibration.judging.effort import CANDIDATES_BUDGET, NODES_BUDGET, SAMPLE_BUDGET, affordable
from edgedistill_calibration.judging.judge import CANDIDATE_FILES, RANGES, SINGLE_NODES, Judge
from edgedistill_calibration.judging.ledger import Figures
from edgedistill_calibration.ranges.measurement import Ranges, range_passes

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
        """The rank of the worse of its files, so that both runtimes count."""
        return min(self.figures[precision].rank for precision in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """The two INT8 files of a float graph, and how they were chosen.

    `method` chose the ranges of the file for ONNX Runtime. It is the other file's method too, unless the student was
    trained within given ranges.
    """

    method: str
    ranges: Mapping[str, Mapping[str, Ranges]]  # of the values in the files, by method and precision
    candidates: tuple[Candidate, ...]
    mixtures: Mapping[str, Mixture]  # the files that are kept, by precision


def make_int8(request: Int8Request) -> Int8:
    """Quantise a float model: find the best ranges, then leave its worst nodes in float where it must."""
    judge, work, config = request.judge, request.judge.prepared.work, request.config
    work.begin(RANGES, range_passes(CANDIDATES[config.method]) * len(request.images))
    tried = write_candidates(request)
    costs = node_costs(tried.prepared, blank_image(judge.prepared.preprocess.size)["image"])
    candidates = _judge_candidates(judge, tried, costs)
    chosen = _choose(candidates, trained=request.trained_ranges is not None)
    kept = {candidate.files[precision]: precision for precision, candidate in chosen.items()}
    figures = judge.judge({judge.source: "fp32", **kept})
    accuracy = figures[judge.source].accuracy if request.accuracy is None else request.accuracy
    limits = {
        precision: config.node_limit(len(costs), holds=accuracy - figures[path].accuracy <= config.max_drop + ROUNDING)
        for path, precision in kept.items()
    }
    trial = _prepare_trial(judge, tried.prepared, costs, limits, config)
    mixtures = {
        precision: _mix(precision, path, request, trial, accuracy, limits[precision])
        for path, precision in kept.items()
    }
    return Int8(method=chosen["int8"].method, ranges=tried.ranges, candidates=tuple(candidates), mixtures=mixtures)


def int8_details(made: Int8) -> dict[str, dict[str, object]]:
    """Return the ledger's details of each INT8 file, with its `nodes`."""
    return {
        precision: {"nodes": [node.to_json() for node in mixture.nodes], **mixture.to_json()}
        for precision, mixture in made.mixtures.items()
    }


def _choose(candidates: Sequence[Candidate], *, trained: bool) -> dict[str, Candidate]:
    """Return by precision the candidate that is kept.

    A student that was trained within its ranges was trained for INT8 and not for float. There each file takes the most
    accurate candidate, and not the one that is closest to float.
    """
    if not trained:
        best = max(candidates, key=lambda each: each.rank)
        return dict.fromkeys(best.files, best)
    return {
        precision: max(candidates, key=lambda each: (each.figures[precision].accuracy, each.figures[precision].rank))
        for precision in candidates[0].files
    }


def _judge_candidates(judge: Judge, tried: Candidates, costs: Mapping[str, NodeCost]) -> list[Candidate]:
    """Compare the candidates, on fewer of the held-out images the larger the model is."""
    files = {path: name for written in tried.files.values() for name, path in written.items()}
    work = sum(cost.multiply_adds for cost in costs.values()) * (1 + len(files))
    count = affordable(CANDIDATES_BUDGET, work, len(judge.images))
    kept = 1 + len(tried.files[next(iter(tried.files))])  # files that then run the rest of the images
    judge.prepared.work.begin(CANDIDATE_FILES, count * (1 + len(files)) + (len(judge.images) - count) * kept)
    figures = judge.judge(files, count)
    return [
        Candidate(method=method, files=written, figures={name: figures[path] for name, path in written.items()})
        for method, written in tried.files.items()
    ]


def _prepare_trial(
    judge: Judge,
    prepared: onnx.ModelProto,
    costs: Mapping[str, NodeCost],
    limits: Mapping[str, int],
    config: CalibrationConfig,
) -> Trial:
    """Prepare the images that single nodes are measured on; none where none is measured."""
    whole = config.ledger_nodes == ALL_NODES or max(limits.values()) > SAMPLED_NODES
    count = sample_count(costs, [*limits.values()], NODES_BUDGET if whole else SAMPLE_BUDGET)
    images = judge.sample(count)
    runs = sum(map(count_runs, limits.values()))
    judge.prepared.work.begin(SINGLE_NODES, runs * len(images))
    return Trial(
        prepared=prepared,
        images=images,
        labels=judge.labels(len(images)),
        reference=judge.answers({judge.source: "fp32"}, len(images))[judge.source],
        costs=costs,
        work=judge.prepared.work,
    )


def _mix(precision: str, path: Path, request: Int8Request, trial: Trial, accuracy: float, limit: int) -> Mixture:
    """Return the file of one precision, with the nodes in float that its accuracy needs."""
    mixed = MixedPrecision(trial.prepared, onnx.load(path))
    names = (path.with_suffix(f".{count}.onnx") for count in itertools.count(1))
    search = Search(
        mixed=mixed,
        trial=trial,
        nodes=measure_nodes(mixed, trial, limit) if limit else (),
        accuracy=accuracy,
        max_drop=request.config.max_drop,
        judge=lambda file: request.judge.judge({file: precision})[file],
        save=lambda model: save_mixed(model, mixed.float_nodes(model), next(names)),
    )
    return leave_in_float(search, path, request.judge.judge({path: precision})[path])


def save_mixed(model: onnx.ModelProto, left: Sequence[str], path: Path) -> Path:
    """Write a graph that has nodes in float, and their names in its metadata."""
    helper.set_model_props(model, {**metadata_of(model), FLOAT_NODES: json.dumps(left)})
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    return path
