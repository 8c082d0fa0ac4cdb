"""The cost of quantising each node: the noise at its output, and the answers when only it is INT8, or float."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedistill_calibration.graphs.preparation import WEIGHTED
from edgedistill_calibration.graphs.reading import Floats, blocks
from edgedistill_calibration.int8.float_nodes import MixedPrecision
from edgedistill_calibration.judging.effort import FEWEST_FOR_NODES, MOST_FOR_NODES, affordable
from edgedistill_calibration.judging.judge import ImageCount, Images, lowest_first, run_logits, run_values
from edgedistill_calibration.judging.ledger import Figures, Logits, compare_logits, decibels

SESSION_BYTES = 256 << 20  # of weights in one session; each graph in it may need its own copy of them
VALUES_BATCH = 8  # images whose activations are in memory at a time
# The nodes that cost most alone are also measured as the only float node.
LEFT_SHARE = 0.5
LEFT_LEAST = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """The multiply-adds of a node for one image, and the number of its weights."""

    multiply_adds: int
    weight_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A model's answers with one node changed.

    `accuracy_change` is against the float model where only this node is INT8, and against the INT8 model where only
    this node is float. `agreement` and `sqnr_db` are with the float model.
    """

    accuracy_change: float
    agreement: float
    sqnr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeError:
    """One node's record.

    `sqnr_db` is the signal to noise at its output in the INT8 model, with the noise of the nodes before; None without
    noise.
    """

    node: str  # its name in the float graph
    module: str | None  # the student's module with its weights, where the graph names it
    op_type: str
    multiply_adds: int  # for one image
    weight_count: int
    sqnr_db: float | None
    alone: Effect | None  # the answers when only it is quantised; None where too many nodes were noisier
    left_in_float: Effect | None  # the answers when only it is float; None where that was not tried

    def to_json(self) -> dict[str, object]:
        """Return the record as `ledger.json` has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The images nodes are judged on, and the float model's answers to them."""

    prepared: onnx.ModelProto  # the float graph
    images: Images  # uint8 (n, H, W, 3)
    labels: np.ndarray
    reference: Logits  # of the float model (n, C)
    costs: Mapping[str, NodeCost]  # of the nodes with weights, by name; empty where no node is measured
    work: ImageCount

    def figures(self, mixed: MixedPrecision, left: Sequence[Sequence[str]]) -> list[Figures]:
        """Return how near the answers are to the float model's, with each of these groups of nodes left in float.

        As many groups share a session as `SESSION_BYTES` allow.
        """
        together = max(1, SESSION_BYTES // self.prepared.ByteSize())
        answers: list[Logits] = []
        for start in range(0, len(left), together):
            models = [mixed.leaving(names) for names in left[start : start + together]]
            answers += run_logits(models, self.images, self.work)
        return [compare_logits(self.reference, logits, self.labels) for logits in answers]


def node_costs(prepared: onnx.ModelProto, image: Images) -> dict[str, NodeCost]:
    """Return the cost of every node with weights, by name, from the shapes one image (1, H, W, 3) gives."""
    weights = {each.name: tuple(each.dims) for each in prepared.graph.initializer}
    nodes = [node for node in prepared.graph.node if node.op_type in WEIGHTED]
    values = next(run_values(prepared, [node.output[0] for node in nodes], image))
    return {node.name: _cost(node, value.shape, weights) for node, value in zip(nodes, values, strict=True)}


def _cost(node: onnx.NodeProto, shape: tuple[int, ...], weights: Mapping[str, tuple[int, ...]]) -> NodeCost:
    """Each output value of a Conv needs one kernel of the weight, and that of a Gemm or MatMul one column."""
    found = next((weights[name] for name in node.input[1:2] if name in weights), None)
    if found is None:
        return NodeCost(multiply_adds=0, weight_count=0)
    count = int(np.prod(found))
    made = found[0] if node.op_type == "Conv" else shape[-1]
    return NodeCost(multiply_adds=count // made * int(np.prod(shape)), weight_count=count)


def sample_count(costs: Mapping[str, NodeCost], limits: Sequence[int], budget: float) -> int:
    """Return on how many images the nodes of files are measured, so many of each, within a budget of multiply-adds."""
    runs = sum(count_runs(limit) for limit in limits)
    work = sum(cost.multiply_adds for cost in costs.values()) * runs
    return affordable(budget, work, MOST_FOR_NODES, FEWEST_FOR_NODES) if runs else 0


def measure_nodes(mixed: MixedPrecision, trial: Trial, limit: int) -> tuple[NodeError, ...]:
    """Return a record of every quantised node, the costliest first.

    Where there are more than `limit`, the nodes that add the least noise are not quantised alone. Only the worst half
    is also tried as the one float node.
    """
    known = {node.name: node for node in trial.prepared.graph.node}
    noise = _output_noise(mixed, trial)
    chosen = _noisiest(trial.prepared.graph, noise, mixed.nodes, limit)
    whole = float(np.mean(trial.reference.argmax(axis=1) == trial.labels))
    others = [[node for node in mixed.nodes if node != name] for name in chosen]
    alone = dict(zip(chosen, (_effect(each, whole) for each in trial.figures(mixed, others)), strict=True))
    order = lowest_first((name, effect.sqnr_db) for name, effect in alone.items())
    worst = order[: _count_left(len(order))]
    base, *tried = trial.figures(mixed, [(), *([name] for name in worst)])
    left = dict(zip(worst, (_effect(each, base.accuracy) for each in tried), strict=True))
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


def count_runs(measured: int) -> int:
    """Return how many passes over the images `measure_nodes` takes for so many nodes."""
    return 1 + measured + _count_left(measured) if measured else 0


def _count_left(measured: int) -> int:
    return min(measured, max(LEFT_LEAST, int(measured * LEFT_SHARE)))


def _effect(figures: Figures, accuracy: float) -> Effect:
    """Return the answers, and the change from an accuracy."""
    return Effect(accuracy_change=figures.accuracy - accuracy, agreement=figures.agreement, sqnr_db=figures.sqnr_db)


def _output_noise(mixed: MixedPrecision, trial: Trial) -> dict[str, tuple[float, float]]:
    """Return the energy of signal and noise at each quantised node's output."""
    int8 = mixed.leaving(())
    images = trial.images[:FEWEST_FOR_NODES]
    energies = np.zeros((len(mixed.nodes), 2))
    wanted, given = (
        run_values(model, _outputs(model, mixed.nodes), images, VALUES_BATCH) for model in (trial.prepared, int8)
    )
    for one, other in zip(wanted, given, strict=True):
        for row, value, noisy in zip(energies, one, other, strict=True):
            row += _energies(value, noisy)
    return {name: (float(a), float(b)) for name, (a, b) in zip(mixed.nodes, energies, strict=True)}


def _energies(value: Floats, noisy: Floats) -> NDArray[np.float64]:
    """Return the sums of squares of a value, and of the difference of another from it."""
    sums = np.zeros(2)
    for one, other in zip(blocks(value), blocks(noisy), strict=True):
        exact = one.astype(np.float64)
        difference = other - exact
        sums += np.vdot(exact, exact), np.vdot(difference, difference)
    return sums


def _outputs(model: onnx.ModelProto, nodes: Sequence[str]) -> list[str]:
    by_name = {node.name: node.output[0] for node in model.graph.node}
    return [by_name[name] for name in nodes]


def _noisiest(
    graph: onnx.GraphProto, noise: Mapping[str, tuple[float, float]], nodes: Sequence[str], limit: int
) -> list[str]:
    """Return the `limit` nodes that add most noise to that of their inputs, relative to their signal."""
    if len(nodes) <= limit:
        return list(nodes)
    ratios = {name: b / max(a, np.finfo(np.float64).tiny) for name, (a, b) in noise.items()}
    added = {
        name: ratios[name] - max((ratios[each] for each in before), default=0.0)
        for name, before in _before(graph, set(nodes))
    }
    return sorted(nodes, key=lambda name: -added[name])[:limit]


def _before(graph: onnx.GraphProto, names: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Yield each of these nodes with those of them that its inputs come from, directly or through other nodes."""
    reaching: dict[str, set[str]] = {}
    for node in graph.node:
        sources = set().union(*(reaching.get(name, set()) for name in node.input))
        if node.name in names:
            yield node.name, sources
            sources = {node.name}
        reaching.update(dict.fromkeys(node.output, sources))
