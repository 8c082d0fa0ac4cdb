"""What quantising each node costs: the noise at its output, and the model's answers when it alone is INT8, or float."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx

from edgedistill_calibration.graphs.preparation import WEIGHTED
from edgedistill_calibration.int8._float_nodes import MixedPrecision
from edgedistill_calibration.judging.judge import ImageCount, Images, Logits, lowest_first, run_logits, run_values
from edgedistill_calibration.judging.ledger import Figures, compare_logits, decibels

# Images that nodes are measured on: as many as keep this many multiply-adds, about a minute of two cores, in these
# bounds.
BUDGET = 4e12
FEWEST_IMAGES = 16
MOST_IMAGES = 256
# Whole activations of a graph are held for so many images at a time.
VALUES_BATCH = 8
# Nodes that are also measured as the only float one: the worst by what they cost alone.
LEFT_SHARE = 0.5
LEFT_LEAST = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """What a node with weights computes for one image, and how many weights it has."""

    multiply_adds: int
    weight_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A model's answers with one node treated otherwise.

    `accuracy_change` is against the float model where the node alone is INT8, and against the INT8 model where it alone
    is float: what quantising the node loses, and what leaving it in float gains. `agreement` and `sqnr_db` are with the
    float model.
    """

    accuracy_change: float
    agreement: float
    sqnr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeError:
    """One node's record.

    Attributes:
        node: its name in the float graph.
        module: where the student keeps its weights, as the exporter names them; None where the graph does not say.
        op_type: its kind.
        multiply_adds: for one image.
        weight_count: weights that INT8 stores in a byte each.
        sqnr_db: signal to noise at its output in the INT8 model, noise from the nodes before it included; None without
            noise.
        alone: the answers when it alone is quantised; None where too many nodes were noisier.
        left_in_float: the answers when it alone is left in float; None where that was not tried.
    """

    node: str
    module: str | None
    op_type: str
    multiply_adds: int
    weight_count: int
    sqnr_db: float | None
    alone: Effect | None
    left_in_float: Effect | None

    def to_json(self) -> dict[str, object]:
        """Return the record as `ledger.json` has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The images nodes are judged on, and the float model's answers to them.

    Attributes:
        prepared: the float graph.
        images: uint8 (n, H, W, 3).
        labels: of the images.
        reference: the float model's logits (n, C).
        costs: of the nodes with weights, by name; empty where no node is measured.
        work: counts the images run.
    """

    prepared: onnx.ModelProto
    images: Images
    labels: np.ndarray
    reference: Logits
    costs: Mapping[str, NodeCost]
    work: ImageCount

    def figures(self, model: onnx.ModelProto) -> Figures:
        """Return how near a graph's answers are to the float model's."""
        logits = run_logits(model, self.images)
        self.work.advance(len(self.images))
        return compare_logits(self.reference, logits, self.labels)


def node_costs(prepared: onnx.ModelProto, image: Images) -> dict[str, NodeCost]:
    """Return the cost of every node with weights, by name, from the shapes one image (1, H, W, 3) gives."""
    weights = {each.name: tuple(each.dims) for each in prepared.graph.initializer}
    nodes = [node for node in prepared.graph.node if node.op_type in WEIGHTED]
    values = next(run_values(prepared, [node.output[0] for node in nodes], image))
    return {node.name: _cost(node, value.shape, weights) for node, value in zip(nodes, values, strict=True)}


def _cost(node: onnx.NodeProto, shape: tuple[int, ...], weights: Mapping[str, tuple[int, ...]]) -> NodeCost:
    """Every output value of a Conv takes a weight's kernel, of a Gemm or MatMul a weight's column."""
    found = next((weights[name] for name in node.input[1:2] if name in weights), None)
    if found is None:
        return NodeCost(multiply_adds=0, weight_count=0)
    count = int(np.prod(found))
    made = found[0] if node.op_type == "Conv" else shape[-1]
    return NodeCost(multiply_adds=count // made * int(np.prod(shape)), weight_count=count)


def sample_count(costs: Mapping[str, NodeCost], node_limit: int, files: int = 2) -> int:
    """Return on how many images nodes are measured, so that it takes about a minute for a model of any size."""
    runs = files * (min(len(costs), node_limit) + _count_left(min(len(costs), node_limit)) + 2)
    work = sum(cost.multiply_adds for cost in costs.values()) * runs
    return int(np.clip(BUDGET / max(1, work), FEWEST_IMAGES, MOST_IMAGES))


def measure_nodes(mixed: MixedPrecision, trial: Trial, limit: int) -> tuple[NodeError, ...]:
    """Return a record of every quantised node, the costliest first.

    Where there are more than `limit`, those whose outputs have the least noise of their own are not quantised alone,
    and only the worst half are also tried as the one float node.
    """
    known = {node.name: node for node in trial.prepared.graph.node}
    noise = _output_noise(mixed, trial)
    chosen = _noisiest(trial.prepared.graph, noise, mixed.nodes, limit)
    base = trial.figures(mixed.leaving(()))
    whole = float(np.mean(trial.reference.argmax(axis=1) == trial.labels))
    alone = {name: _measure_alone(mixed, trial, name, whole) for name in chosen}
    order = lowest_first((name, effect.sqnr_db) for name, effect in alone.items())
    left = {name: _measure_left(mixed, trial, name, base) for name in order[: _count_left(len(order))]}
    return tuple(
        NodeError(
            node=name,
            module=_module(known[name]),
            op_type=known[name].op_type,
            **asdict(trial.costs[name]),
            sqnr_db=decibels(*noise[name]),
            alone=alone.get(name),
            left_in_float=left.get(name),
        )
        for name in (*order, *(name for name in mixed.nodes if name not in alone))
    )


def _module(node: onnx.NodeProto) -> str | None:
    """Return the module of a node whose weights still have the name the student gave them."""
    weight = node.input[1] if len(node.input) > 1 else ""
    return weight.removesuffix(".weight") if weight.endswith(".weight") else None


def count_runs(node_count: int, limit: int) -> int:
    """Return how many passes over the images `measure_nodes` takes."""
    measured = min(node_count, limit)
    return 1 + measured + _count_left(measured)


def _count_left(measured: int) -> int:
    return min(measured, max(LEFT_LEAST, int(measured * LEFT_SHARE)))


def _measure_alone(mixed: MixedPrecision, trial: Trial, name: str, whole: float) -> Effect:
    others = [node for node in mixed.nodes if node != name]
    return _effect(trial.figures(mixed.leaving(others)), whole)


def _measure_left(mixed: MixedPrecision, trial: Trial, name: str, base: Figures) -> Effect:
    return _effect(trial.figures(mixed.leaving([name])), base.accuracy)


def _effect(figures: Figures, accuracy: float) -> Effect:
    return Effect(accuracy_change=figures.accuracy - accuracy, agreement=figures.agreement, sqnr_db=figures.sqnr_db)


def _output_noise(mixed: MixedPrecision, trial: Trial) -> dict[str, tuple[float, float]]:
    """Return the energy of signal and noise at each quantised node's output."""
    int8 = mixed.leaving(())
    images = trial.images[: FEWEST_IMAGES * 2]
    energies = np.zeros((len(mixed.nodes), 2))
    wanted, given = (
        run_values(model, _outputs(model, mixed.nodes), images, VALUES_BATCH) for model in (trial.prepared, int8)
    )
    for one, other in zip(wanted, given, strict=True):
        for row, value, noisy in zip(energies, one, other, strict=True):
            row += (
                np.square(value, dtype=np.float64).sum(),
                np.square(np.subtract(value, noisy, dtype=np.float64)).sum(),
            )
    return {name: (float(a), float(b)) for name, (a, b) in zip(mixed.nodes, energies, strict=True)}


def _outputs(model: onnx.ModelProto, nodes: Sequence[str]) -> list[str]:
    by_name = {node.name: node.output[0] for node in model.graph.node}
    return [by_name[name] for name in nodes]


def _noisiest(
    graph: onnx.GraphProto, noise: Mapping[str, tuple[float, float]], nodes: Sequence[str], limit: int
) -> list[str]:
    """Return the `limit` nodes that add most noise to what comes in, relative to their signal."""
    if len(nodes) <= limit:
        return list(nodes)
    ratios = {name: b / max(a, np.finfo(np.float64).tiny) for name, (a, b) in noise.items()}
    added = {
        name: ratios[name] - max((ratios[each] for each in before), default=0.0)
        for name, before in _before(graph, set(nodes))
    }
    return sorted(nodes, key=lambda name: -added[name])[:limit]


def _before(graph: onnx.GraphProto, names: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Yield each of these nodes with those of them that its inputs come from, others in between passed over."""
    reaching: dict[str, set[str]] = {}
    for node in graph.node:
        sources = set().union(*(reaching.get(name, set()) for name in node.input))
        if node.name in names:
            yield node.name, sources
            sources = {node.name}
        reaching.update(dict.fromkeys(node.output, sources))
