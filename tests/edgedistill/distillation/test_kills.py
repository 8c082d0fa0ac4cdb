"""A training that is killed with SIGKILL, however often and wherever, ends bit for bit as one that was left alone."""

import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forking import finish, fork
from reference import killable_training

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills are given to forked children")

# Cache, average and early stopping on; 8 steps an epoch.
SETTINGS: Mapping[str, Any] = {
    "epochs": 8,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "augment": "crop",
    "teacher_cache": "2",
    "ema": 0.8,
    "early_stopping": 2,
    "compute": "cpu",
    "seed": 3,
}
IN_SUBSPACES = ("progress", "subspaces", 0, 3)
IN_CACHE = ("progress", "teacher-cache", 0, 40)
BEFORE_CACHE_HAS_ITS_NAME = ("event", "os.rename", "/teacher-cache", 1)
MID_EPOCH = ("progress", "training", 0, 5)
IN_VALIDATION = ("progress", "validation", 1, 1)
BEFORE_METRICS = ("event", "os.rename", "/metrics.jsonl", 1)
BETWEEN_METRICS_AND_CHECKPOINT = ("event", "tempfile.mkstemp", "*/.state.pt.*", 1)
# The data is written, not yet safe on the disk, and has not the checkpoint's name.
IN_CHECKPOINT = ("event", "open", "*/.state.pt.*", 2)
BEFORE_CHECKPOINT_HAS_ITS_NAME = ("event", "os.rename", "/state.pt", 2)
RIGHT_AFTER_CHECKPOINT = ("progress", "training", 2, 1)

MOMENTS: Mapping[str, Sequence[Any]] = {
    "in-subspaces": IN_SUBSPACES,
    "in-cache": IN_CACHE,
    "before-cache-has-its-name": BEFORE_CACHE_HAS_ITS_NAME,
    "mid-epoch": MID_EPOCH,
    "in-validation": IN_VALIDATION,
    "before-metrics": BEFORE_METRICS,
    "between-metrics-and-checkpoint": BETWEEN_METRICS_AND_CHECKPOINT,
    "in-checkpoint": IN_CHECKPOINT,
    "before-checkpoint-has-its-name": BEFORE_CHECKPOINT_HAS_ITS_NAME,
    "right-after-checkpoint": RIGHT_AFTER_CHECKPOINT,
}


def carry_out(
    source: Path, folder: Path, runs: Mapping[str, Sequence[Sequence[Any]]], **settings: Any
) -> dict[str, Any]:
    """Carry out a plan in one other process; return the records of its runs, and of `whole`, which nobody killed."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"settings": {**SETTINGS, **settings}, "runs": runs}), encoding="utf-8")
    output = folder / "output.txt"
    process = fork(killable_training.main, f"npz:{source}", folder, plan, output=output)
    assert finish(process, within_s=500) == 0, output.read_text(encoding="utf-8")
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ["whole", *runs]}


def assert_same(records: dict[str, Any]) -> None:
    """Compare every run with the whole one: student, metrics, state of the optimiser and the average, to the last
    bit."""
    whole = records.pop("whole")
    assert whole.pop("codes") == [0]
    assert records
    for name, record in records.items():
        record.pop("codes")
        assert record == whole, name


def test_killed_at_every_stage_in_turn_and_at_random(tiny_digits: Path, tmp_path: Path) -> None:
    draws = random.Random(5)
    # From the start to an epoch makes some 30 reports; the third goes on from wherever the others got to.
    by_chance = [("report", draws.randrange(1, 40)) for _ in range(3)]
    runs: dict[str, Sequence[Sequence[Any]]] = {"chain": list(MOMENTS.values()), "by-chance": by_chance}
    records = carry_out(tiny_digits, tmp_path, runs)
    assert records["chain"]["codes"] == [-9] * len(MOMENTS) + [0]
    assert records["by-chance"]["codes"] == [-9, -9, -9, 0]
    reached = [each["validation_accuracy"] for each in records["whole"]["history"]]
    first = reached.index(max(reached))  # of equally accurate epochs a later one may be kept, for its loss
    assert len(reached) == min(SETTINGS["epochs"], first + 1 + SETTINGS["early_stopping"])
    lines = (tmp_path / "chain" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [{**json.loads(line), "seconds": 0.0} for line in lines] == records["whole"]["history"]
    assert_same(records)


@pytest.mark.slow
def test_killed_once_at_each_stage(tiny_digits: Path, tmp_path: Path) -> None:
    records = carry_out(tiny_digits, tmp_path, {name: [moment] for name, moment in MOMENTS.items()})
    assert all(records[name]["codes"] == [-9, 0] for name in MOMENTS)
    assert_same(records)


@pytest.mark.slow
def test_killed_many_times_at_random(tiny_digits: Path, tmp_path: Path) -> None:
    draws = random.Random(0)
    runs = {str(count): [("after", draws.uniform(0.02, 0.9)) for _ in range(count)] for count in (1, 2, 4, 8)}
    assert_same(carry_out(tiny_digits, tmp_path, runs))


@pytest.mark.slow
def test_killed_while_it_chooses_lambda(tiny_digits: Path, tmp_path: Path) -> None:
    """The choice, its evidence and the training after it are those of the search that nobody killed."""
    moments = [("event", "os.rename", "/tuning.json", 1), *(("after", share) for share in (0.1, 0.3, 0.5))]
    runs = {"first-random": moments[1:], "before-the-record": moments}
    records = carry_out(tiny_digits, tmp_path, runs, lambda_layer="auto", epochs=4, early_stopping=0)
    assert records["before-the-record"]["codes"][0] == -9
    assert records["whole"]["lambda"] is not None
    assert_same(records)
