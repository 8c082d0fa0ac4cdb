"""Leaves an INT8 model's worst nodes in float, one by one, until its accuracy holds or too much is float."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from edgedistill_calibration.int8._node_errors import NodeError, Trial
from edgedistill_calibration.int8.float_nodes import MixedPrecision
from edgedistill_calibration.judging.judge import lowest_first
from edgedistill_calibration.judging.ledger import Figures

TRIED = 6  # the most promising nodes, each tried together with those that are in float already
LARGEST_FLOAT_SHARE = 0.5  # with more in float, an INT8 model saves no time or space
ROUNDING = 1e-9  # 0.98 must meet a drop of 0.01 where the float model has 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A node left in float, and the figures of the model with this and the earlier nodes in float."""

    node: str  # its name in the float graph
    op_type: str
    accuracy: float
    agreement: float
    sqnr_db: float | None
    bytes: int
    bought: Mapping[str, float | None]  # the change of the figures by this node alone, `accuracy` to `bytes`
    kept: bool = True  # False where the node is in INT8 in the bundle's model


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Whether the accuracy holds against the float model on the held-out images."""

    max_drop: float
    drop: float  # the loss of the model that is kept
    met: bool
    float_share: float  # of the multiply-adds of nodes with weights
    reason: str  # why the goal is not met; empty where it is met


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """An INT8 file with its figures, the nodes left in float and what was found about them."""

    path: Path
    figures: Figures
    goal: Goal
    nodes: tuple[NodeError, ...] = ()
    node_sample_count: int = 0
    exclusions: tuple[Exclusion, ...] = ()

    def sentence(self, name: str) -> str:
        """Say what was left in float and whether that was enough; empty where the goal is met without it."""
        left = [each.node for each in self.exclusions if each.kept]
        floats = f" with {', '.join(left)} in float" if left else ""
        change = f"{name}{floats} loses {100 * max(0.0, self.goal.drop):.1f} points of accuracy on held-out images"
        if not self.goal.met:
            return f"{change}, more than the {100 * self.goal.max_drop:.1f} allowed (--max-drop): {self.goal.reason}."
        return f"{change}; without them more than {100 * self.goal.max_drop:.1f}." if left else ""

    def to_json(self) -> dict[str, object]:
        """Return what `ledger.json` has beside the figures."""
        return {
            "node_sample_count": self.node_sample_count,
            "nodes_tried": sum(each.alone is not None for each in self.nodes),
            "exclusions": [asdict(each) for each in self.exclusions],
            "goal": asdict(self.goal),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search for nodes to leave in float works on."""

    mixed: MixedPrecision
    trial: Trial
    nodes: tuple[NodeError, ...]
    accuracy: float  # of the float model on the held-out images
    max_drop: float
    judge: Callable[[Path], Figures]  # figures of a file on the held-out images
    save: Callable[[onnx.ModelProto], Path]  # writes a graph to a new file

    def drop(self, figures: Figures) -> float:
        """Return the accuracy lost."""
        return self.accuracy - figures.accuracy

    def holds(self, figures: Figures) -> bool:
        """Say whether the loss is allowed."""
        return self.drop(figures) <= self.max_drop + ROUNDING

    def float_share(self, left: Sequence[str]) -> float:
        """Return the share of the multiply-adds, of nodes with weights, that is computed in float."""
        if not left:
            return 0.0
        costs = self.trial.costs
        total = sum(costs[name].multiply_adds for name in self.mixed.nodes)
        return sum(costs[name].multiply_adds for name in left) / max(1, total)


@dataclass(slots=True)
class _State:
    path: Path
    figures: Figures
    left: list[str] = field(default_factory=list)
    steps: list[Exclusion] = field(default_factory=list)


def leave_in_float(search: Search, path: Path, figures: Figures) -> Mixture:
    """Return the INT8 model with as few nodes in float as the goal needs, or else the best one.

    In each step the nodes that cost most alone are tried as the next float node, and the one that reduces the noise in
    the logits most is taken. At most half of the multiply-adds may be float. `path` and `figures` are those of the INT8
    file without float nodes.
    """
    states = [_State(path, figures)]
    reason = ""
    while not search.holds(states[-1].figures) and not reason:
        node = _next(search, states[-1].left)
        if node is None:
            reason = _reason(search, states[-1])
        else:
            states.append(_extend(search, states[-1], node))
    best = states[-1] if not reason else _best(states)
    return _mixture(search, states[-1], best, reason)


def _next(search: Search, left: Sequence[str]) -> str | None:
    """Return the node that helps most in float; None where no further node may be float."""
    alone = [(each.node, each.alone.sqnr_db) for each in search.nodes if each.alone is not None]
    worth = [
        name
        for name in lowest_first(alone)
        if name not in left and search.float_share([*left, name]) <= LARGEST_FLOAT_SHARE
    ]
    figures = search.trial.figures(search.mixed, [[*left, name] for name in worth[:TRIED]])
    tried = [(name, each.sqnr_db) for name, each in zip(worth[:TRIED], figures, strict=True)]
    return lowest_first(tried)[-1] if tried else None


def _extend(search: Search, state: _State, node: str) -> _State:
    left = [*state.left, node]
    path = search.save(search.mixed.leaving(left))
    figures = search.judge(path)
    kind = next(each.op_type for each in search.nodes if each.node == node)
    after, before = _gains(path, figures), _gains(state.path, state.figures)
    bought = {name: _difference(after[name], before[name]) for name in after}
    return _State(path, figures, left, [*state.steps, Exclusion(node=node, op_type=kind, **after, bought=bought)])


def _gains(path: Path, figures: Figures) -> dict[str, Any]:
    """Return the figures that an exclusion has, `accuracy` to `bytes`."""
    gains = {name: value for name, value in asdict(figures).items() if name != "sample_count"}
    return {**gains, "bytes": path.stat().st_size}


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _best(states: Sequence[_State]) -> _State:
    """Return the state with the best answers; of equal states the one with the fewest nodes in float."""
    return max(states, key=lambda state: (state.figures.accuracy, state.figures.agreement, -len(state.left)))


def _reason(search: Search, state: _State) -> str:
    measured = sum(each.alone is not None for each in search.nodes)
    if not measured:
        return "ledger_nodes is 0, so no node was measured and none was left in float"
    if len(state.left) == measured:
        return "every node that was measured is in float"
    return (
        f"with another node more than {LARGEST_FLOAT_SHARE:.0%} of the multiply-adds would be float, which is not "
        "worth an INT8 model"
    )


def _mixture(search: Search, last: _State, best: _State, reason: str) -> Mixture:
    goal = Goal(
        max_drop=search.max_drop,
        drop=search.drop(best.figures),
        met=search.holds(best.figures),
        float_share=search.float_share(best.left),
        reason=reason,
    )
    steps = [replace(step, kept=place < len(best.steps)) for place, step in enumerate(last.steps)]
    return Mixture(
        path=best.path,
        figures=best.figures,
        goal=goal,
        nodes=search.nodes,
        node_sample_count=len(search.trial.images) if search.nodes else 0,
        exclusions=tuple(steps),
    )
