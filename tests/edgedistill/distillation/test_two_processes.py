"""Two processes that talk over gloo train what one process trains.

What differs: batch norm takes its statistics of each process's half of a batch (as everywhere without synchronised
batch norm, which needs GPUs), so there the losses agree to some hundredths. Without it they agree to rounding, which
grows with the steps.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgedistill.subspaces.files import load_subspaces
from forking import fork_two
from reference import company_training
from reference.company_training import CASES, VALIDATION_COUNT, digest, few_images, train_case, tune
from reference.small_networks import small_teacher

ROUNDING = 1e-4
BATCH_STATISTICS = 0.1


@pytest.fixture(scope="module")
def together(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what two processes left."""
    folder = tmp_path_factory.mktemp("together")
    for code, said in fork_two(company_training.main, f"npz:{tiny_digits}", folder, folder=folder):
        assert code == 0, said
        assert "Warning" not in said
    return folder


@pytest.fixture(scope="module")
def alone(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what this process alone makes of the same, with the records' names as in `together`."""
    folder = tmp_path_factory.mktemp("alone")
    company_training.main(f"npz:{tiny_digits}", folder)
    return folder


def record(folder: Path, name: str, rank: int = 0) -> Any:
    return json.loads((folder / f"{name}.{rank}.json").read_text(encoding="utf-8"))


def losses(folder: Path, name: str) -> list[float]:
    """All losses of all epochs: the logits', then the layers'."""
    return [
        value
        for epoch in record(folder, name)["history"]
        for value in (epoch["loss"], epoch["loss_kd"], *epoch["loss_layers"].values())
    ]


@pytest.mark.parametrize("name", CASES)
def test_the_subspaces_are_those_of_one_process(name: str, together: Path, alone: Path) -> None:
    theirs = load_subspaces(together / name / "subspaces.safetensors")
    mine = load_subspaces(alone / name / "subspaces.safetensors")
    assert theirs.keys() == mine.keys()
    for layer, subspace in mine.items():
        other = theirs[layer]
        assert other.sample_count == subspace.sample_count
        for ours, its in (
            (subspace.basis @ subspace.basis.T, other.basis @ other.basis.T),
            (subspace.mean, other.mean),
            (subspace.variance, other.variance),
            (subspace.eigenvalues, other.eigenvalues),
        ):
            torch.testing.assert_close(its, ours, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_loss_curve_is_that_of_one_process(name: str, together: Path, alone: Path) -> None:
    assert record(together, name)["processes"] == 2
    tolerance = BATCH_STATISTICS if name.startswith("batch-norm") else ROUNDING
    assert losses(together, name) == pytest.approx(losses(alone, name), rel=tolerance)
    rates = [[epoch["learning_rate"] for epoch in record(each, name)["history"]] for each in (together, alone)]
    assert rates[0] == rates[1]


@pytest.mark.parametrize("name", CASES)
def test_validation_judges_the_kept_student_by_every_image_once(name: str, together: Path) -> None:
    found = record(together, name)
    best = max(epoch["validation_accuracy"] for epoch in found["history"])
    assert best * VALIDATION_COUNT == pytest.approx(found["right"])
    assert found["right"] > 0 or name == "group-norm-layers-alone"


@pytest.mark.parametrize("name", CASES)
def test_both_processes_end_with_the_same_student_and_metrics(name: str, together: Path) -> None:
    first, second = (record(together, name, rank) for rank in (0, 1))
    for epoch in (*first["history"], *second["history"]):
        del epoch["seconds"]
    assert first == second
    lines = (together / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [epoch["loss"] for epoch in first["history"]]


def test_one_process_takes_over_what_two_have_finished(together: Path, tiny_digits: Path) -> None:
    """The checkpoint does not say how many processes wrote it."""
    images = few_images(f"npz:{tiny_digits}")
    result = train_case("batch-norm-cached", small_teacher(), images, together)
    assert digest(result.student) == record(together, "batch-norm-cached")["student"]


def test_processes_that_train_together_tune_as_the_first_of_them_sees_it(together: Path, tmp_path: Path) -> None:
    choices = [record(together, "tuning", rank) for rank in (0, 1)]
    assert choices[0] == choices[1] == tune(tmp_path, rank=0).to_json()
    assert choices[0]["lambda_layer"] == 0.1
    assert json.loads((together / "tuning" / "tuning.json").read_text(encoding="utf-8")) == choices[0]
