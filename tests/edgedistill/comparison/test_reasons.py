"""Agreement of reasons beside accuracy: real tiny students against maps made by hand, and rows from written figures."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr, ttest_rel

from edgedistill import build_student, load_teacher, open_source, split_for_subtask
from edgedistill.comparison import (
    METHODS,
    Comparison,
    ComparisonPlan,
    ComparisonProgress,
    Task,
    comparison_record,
    named_methods,
    open_comparison,
    planned_explanations,
    planned_runs,
    run_comparison,
    summarise,
)
from edgedistill.comparison.jobs import Job
from edgedistill.comparison.plan import task_images
from edgedistill.comparison.reasons.explaining import floor_seed
from edgedistill.comparison.schedule import due_jobs
from edgedistill.explanation.config import ExplainConfig
from edgedistill.models.student import read_student
from edgedistill_deploy.errors import UsageError
from reference.comparison_results import written_results

# The maps of one step are easy to make by hand: the gradient halfway between the mean colour and the image.
ONE_STEP = ExplainConfig(method="integrated-gradients", images=8, steps=1, batch_size=3)
CLASSES = tuple("0123")


def task_of(npz: Path, **changes: Any) -> Task:
    values = {
        "name": "digits",
        "teacher": "embedded:glyphs100",
        "source": f"npz:{npz}",
        "classes": CLASSES,
        "student": "plain:8-8",
        "settings": {"epochs": 1, "augment": "none", "batch_size": 16, "compute": "cpu", "learning_rate": 1e-2},
    }
    return Task(**{**values, **changes})


def plan_of(npz: Path, names: str = "logits labels", **changes: Any) -> ComparisonPlan:
    values = {
        "tasks": (task_of(npz),),
        "methods": named_methods(names.split()),
        "seeds": (0, 1),
        "sizes": (24,),
        "lambdas": (1.0, 10.0),
        "validation_images": 8,
    }
    return ComparisonPlan(**{**values, **changes})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def kinds(folder: Path) -> Counter[str]:
    return Counter(record["kind"] for record in lines(folder))


def due(comparison: Comparison) -> Counter[str]:
    return Counter(job.kind for job in due_jobs(comparison.tracks, comparison.results))


def same(_: Job) -> float:
    return 0.75


# Real students.


@pytest.fixture(scope="module")
def explained(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A comparison that was finished first and explained later, in the same folder."""
    folder = tmp_path_factory.mktemp("explained")
    plan = plan_of(tiny_digits)
    run_comparison(plan, folder)
    assert kinds(folder) == {"teacher": 1, "train": 4, "evaluate": 4}
    seen: list[ComparisonProgress] = []
    comparison = run_comparison(replace(plan, explain=ONE_STEP), folder, progress=seen.append)
    assert [record["error"] for record in lines(folder) if "error" in record] == []
    assert {at.record["kind"] for at in seen if at.record is not None} == {"floors", "explain"}
    assert (seen[-1].explained, seen[-1].planned_explanations, seen[-1].runs) == (6, 6, 0)
    assert seen[-1].work == seen[-1].planned_work == 6 * 8
    return comparison


def test_explaining_a_finished_comparison_trains_nothing(explained: Comparison) -> None:
    folder = explained.results.folder
    assert kinds(folder) == {"teacher": 1, "train": 4, "evaluate": 4, "floors": 2, "explain": 4}
    again: list[ComparisonProgress] = []
    run_comparison(explained.plan, folder, progress=again.append)
    assert again == []
    assert planned_explanations(explained) == (6, 6)
    assert planned_runs(explained) == (4, 4)


def one_step_maps(
    network: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor, outputs: list[int]
) -> NDArray[np.float64]:
    """Return (image - mean colour) times the gradient halfway, summed over the colours."""
    network.eval()
    halfway = (images / 2).requires_grad_()
    logits = network(halfway)[:, outputs]
    rows = torch.arange(len(images))
    own = logits[rows, targets]
    evidence = own - (logits.sum(dim=1) - own) / (len(outputs) - 1)
    (slope,) = torch.autograd.grad(evidence.sum(), halfway)
    return (images * slope).sum(dim=1).double().detach().numpy()


def mean_cosine(ones: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    pairs = [(one.ravel(), other.ravel()) for one, other in zip(ones, others, strict=True)]
    return float(np.mean([one @ other / np.linalg.norm(one) / np.linalg.norm(other) for one, other in pairs]))


def test_the_agreement_is_that_of_maps_made_by_hand_on_validation_images(explained: Comparison) -> None:
    task, folder = explained.plan.tasks[0], explained.results.folder
    teacher = load_teacher(task.teacher)
    whole = split_for_subtask(open_source(task.source), task.classes).validation
    outputs = [teacher.class_names.index(name) for name in CLASSES]

    def student_of(seed: int) -> torch.nn.Module:
        return build_student(task.student, 4, image_size=teacher.preprocess.size, seed=seed)

    chosen = task_images(task, 8).validation
    assert {chosen.digest(row) for row in range(8)} <= {whole.digest(row) for row in range(len(whole))}
    pixels = torch.from_numpy(np.stack([np.array(teacher.preprocess.apply(chosen.read(row))) for row in range(8)]))
    images = teacher.normalise()(pixels)
    with torch.no_grad():
        ranked = teacher.model.eval()(images)[:, outputs].argsort(dim=1, descending=True)
    wanted = one_step_maps(teacher.model, images, ranked[:, 0], outputs)

    records = lines(folder)
    for record in (each for each in records if each["kind"] == "explain"):
        student = read_student(student_of(record["seed"]), explained.results.student_path(record["trained"]))
        found = one_step_maps(student, images, ranked[:, 0], [0, 1, 2, 3])
        assert record["reasons"]["cosine"] == pytest.approx(mean_cosine(wanted, found), abs=1e-4)
        ranks = [spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(wanted, found, strict=True)]
        assert record["reasons"]["spearman"] == pytest.approx(np.mean(ranks), abs=1e-3)
        assert (record["attribution"], record["images"]) == ("integrated-gradients", 8)

    other = one_step_maps(teacher.model, images, ranked[:, 1], outputs)
    for record in (each for each in records if each["kind"] == "floors"):
        random = one_step_maps(student_of(floor_seed(record["seed"])), images, ranked[:, 0], [0, 1, 2, 3])
        assert record["random_student"]["cosine"] == pytest.approx(mean_cosine(wanted, random), abs=1e-4)
        assert record["other_class"]["cosine"] == pytest.approx(mean_cosine(wanted, other), abs=1e-4)


def test_a_run_without_explanations_keeps_those_that_are_there(explained: Comparison) -> None:
    folder = explained.results.folder
    before = (folder / "results.jsonl").read_bytes()
    plain = run_comparison(replace(explained.plan, explain=None), folder)
    assert (folder / "results.jsonl").read_bytes() == before
    assert comparison_record(plain) == comparison_record(explained)
    assert comparison_record(plain)["explain"]["images"] == 8
    assert planned_explanations(plain) == (0, 0)
    # More seeds are not explained unless it is asked for, and the record says so.
    more = open_comparison(replace(explained.plan, explain=None, seeds=(0, 1, 2)), folder)
    assert due(more)["explain"] == due(more)["floors"] == 0


def test_a_method_that_explains_neither_network_stops_before_anything_is_trained(
    tiny_digits: Path, tmp_path: Path
) -> None:
    plan = plan_of(tiny_digits, explain=ExplainConfig(method="attention", images=4))
    with pytest.raises(UsageError, match="attention"):
        run_comparison(plan, tmp_path)
    assert kinds(tmp_path) == {"teacher": 1}


# Figures that are written, not made.

ASKED = ExplainConfig(images=8)


def test_students_are_explained_when_the_floors_have_found_the_method(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, "subdistill labels", explain=ASKED)
    fresh = open_comparison(plan, tmp_path / "fresh")
    assert [job.kind for job in due_jobs(fresh.tracks, fresh.results)][:3] == ["teacher", "floors", "floors"]
    assert due(fresh) == {"teacher": 1, "floors": 2, "train": 4}
    assert planned_explanations(fresh) == (6, 0)

    done = written_results(plan, tmp_path / "done", same, same)
    counted = Counter(record["kind"] for record in done.results.all())
    # The runs that only choose the weight are not explained.
    assert counted == {"teacher": 1, "floors": 2, "train": 5, "evaluate": 4, "explain": 4}
    assert planned_explanations(done) == (6, 6)
    assert due(open_comparison(plan, tmp_path / "done")) == {}


def test_what_was_found_by_auto_holds_for_the_method_by_name_and_other_settings_ask_anew(
    tiny_digits: Path, tmp_path: Path
) -> None:
    plan = plan_of(tiny_digits, explain=ASKED)
    written_results(plan, tmp_path, same, same)

    def written(**changes: Any) -> Counter[str]:
        again = written_results(replace(plan, explain=replace(ASKED, **changes)), tmp_path, same, same)
        return Counter(record["kind"] for record in again.results.all())

    assert written()["explain"] == 4
    by_name = written(method="lrp")
    assert (by_name["explain"], by_name["floors"]) == (4, 4)
    assert written(images=4)["explain"] == 8
    assert written(images=4, batch_size=1, pictures=0, workers=2, compute="cpu")["explain"] == 8


def test_rows_by_hand(tiny_digits: Path, tmp_path: Path) -> None:
    cosines = {"subdistill": (0.8, 0.7, 0.75), "labels": (0.2, 0.3, 0.1), "logits": (0.7, 0.72, 0.69)}
    plan = plan_of(tiny_digits, "subdistill labels logits", seeds=(0, 1, 2), explain=ASKED)
    comparison = written_results(
        plan,
        tmp_path,
        same,
        same,
        lambda job: 0.1 * job.seed if job.kind == "floors" else cosines[job.method][job.seed],
    )
    rows = {row.method: row for row in summarise(comparison)}
    p_values = {}
    for method, values in cosines.items():
        found = rows[method].reasons
        assert found is not None
        assert found.missing == 0
        assert found.cosine.mean == pytest.approx(np.mean(values))
        assert found.cosine.deviation == pytest.approx(np.std(values, ddof=1))
        assert found.spearman.mean == pytest.approx(np.mean(values) / 2)
        difference = found.cosine.difference
        if method == "subdistill":
            assert difference is None
            continue
        assert difference is not None
        wanted = ttest_rel(cosines["subdistill"], values)
        assert difference.mean == pytest.approx(np.mean(cosines["subdistill"]) - np.mean(values))
        assert difference.p == pytest.approx(wanted.pvalue)
        assert difference.interval == pytest.approx(wanted.confidence_interval(0.95))
        assert difference.p is not None
        p_values[method] = (difference.p, difference.p_adjusted, difference.verdict)
    # Holm: the smaller of two p-values is doubled.
    small, large = p_values["labels"], p_values["logits"]
    assert small[1] == pytest.approx(2 * small[0])
    assert large[1] == pytest.approx(max(2 * small[0], large[0]))
    assert (small[2], large[2]) == ("ahead", "not distinguishable")

    record = json.loads(json.dumps(comparison_record(comparison)))
    assert record["explain"] == {"method": "auto", "images": 8, "steps": 32, "seed": 0}
    floors = record["tasks"][0]["reasons"]
    assert (floors["attribution"], floors["images"], floors["other_class"]["cosine"]) == ("lrp", 8, -0.25)
    assert floors["random_student"]["cosine"] == {"mean": pytest.approx(0.1), "deviation": pytest.approx(0.1)}
    first = record["rows"][0]
    assert set(first["reasons"]) == {"cosine", "spearman", "top_decile", "missing"}
    assert set(first["reasons"]["cosine"]) == {"mean", "deviation", "difference"}
    assert [run["reasons"]["cosine"] for run in first["runs"]] == [0.8, 0.7, 0.75]


def test_over_tasks_each_counts_alike_and_a_student_that_is_not_explained_is_missing(
    tiny_digits: Path, tmp_path: Path
) -> None:
    tasks = (task_of(tiny_digits), task_of(tiny_digits, name="three", classes=tuple("123")))
    values = {
        ("labels", "digits", 0): 0.1,
        ("labels", "digits", 1): 0.3,
        ("labels", "three", 0): 0.4,
        ("labels", "three", 1): 0.4,
    }
    plan = plan_of(tiny_digits, "subdistill labels", tasks=tasks, explain=ASKED)
    comparison = written_results(
        plan, tmp_path, same, same, lambda job: values.get((job.method, job.task.name, job.seed), 0.9)
    )
    over = {row.method: row.reasons for row in summarise(comparison) if row.task is None}
    labels = over["labels"]
    assert labels is not None
    assert labels.cosine.mean == pytest.approx(0.3)
    assert labels.cosine.deviation == pytest.approx((0.35 - 0.25) / 2**0.5)
    assert labels.cosine.difference is not None
    assert labels.cosine.difference.mean == pytest.approx(0.6)
    assert labels.cosine.difference.pairs == 4

    more = replace(plan, explain=None, seeds=(0, 1, 2))
    grown = written_results(more, tmp_path, same, same)
    found = {(row.task, row.method): row.reasons for row in summarise(grown)}
    one, both = found["digits", "labels"], found[None, "labels"]
    assert one is not None
    assert both is not None
    assert (one.missing, both.missing) == (1, 2)
    assert one.cosine.mean == pytest.approx(0.2)


def test_a_comparison_that_was_never_explained_says_so_with_nothing(tiny_digits: Path, tmp_path: Path) -> None:
    comparison = written_results(plan_of(tiny_digits), tmp_path, same, same)
    record = comparison_record(comparison)
    assert record["explain"] is None
    assert record["tasks"][0]["reasons"] is None
    assert [row["reasons"] for row in record["rows"]] == [None, None]
    assert record["rows"][0]["runs"][0]["reasons"] is None


def test_a_student_whose_file_is_gone_is_made_again_to_be_explained(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, "labels", methods={"labels": METHODS["labels"]})
    whole = written_results(plan, tmp_path, same, same)
    students = sorted((tmp_path / "students").iterdir())
    students[0].unlink()
    asked = replace(plan, explain=ASKED)
    opened = open_comparison(asked, tmp_path)
    floors = [job for job in due_jobs(opened.tracks, opened.results) if job.kind == "floors"]
    for job in floors:
        opened.results.add({"key": job.key, "kind": "floors", "task": "digits", "seed": job.seed, "attribution": "lrp"})
    assert due(opened) == {"explain": 1, "train": 1}
    assert len(whole.results.all()) + 2 == len(opened.results.all())
