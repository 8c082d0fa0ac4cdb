"""Which runs a comparison makes, from which images, and how weights are chosen, on figures that are written, not
trained."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill.comparison import (
    METHODS,
    Comparison,
    ComparisonPlan,
    Task,
    comparison_record,
    named_methods,
    open_comparison,
    planned_runs,
    summarise,
    write_figure,
)
from edgedistill.comparison.figure import choose_rows, seed_means
from edgedistill.comparison.jobs import Job, deciding_settings
from edgedistill.comparison.plan import task_images
from edgedistill.comparison.schedule import due_jobs, list_due_work
from edgedistill.comparison.subsets import balance_order, draw_training_images
from edgedistill.config import DistillConfig
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from reference.comparison_results import written_results


def task_of(npz: Path, **changes: Any) -> Task:
    values = {
        "name": "digits",
        "teacher": "embedded:glyphs100",
        "source": f"npz:{npz}",
        "classes": tuple("0123"),
        "student": "plain:8-8",
        "settings": {"epochs": 2},
    }
    return Task(**{**values, **changes})


def plan_of(npz: Path, names: str = "subdistill labels fitnet", **changes: Any) -> ComparisonPlan:
    values = {
        "tasks": (task_of(npz),),
        "methods": named_methods(names.split()),
        "seeds": (0, 1),
        "sizes": (40, 80),
        "lambdas": (0.1, 1.0, 10.0),
    }
    return ComparisonPlan(**{**values, **changes})


def same(_: Job) -> float:
    return 0.75


def by_weight(best: float) -> Any:
    return lambda job: 0.9 if job.config.lambda_layer == best else 0.5


def trained(comparison: Comparison, method: str) -> list[dict[str, Any]]:
    return [
        record for record in comparison.results.all() if (record["kind"], record.get("method")) == ("train", method)
    ]


def noise_images(path: Path, counts: list[int]) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4), dtype=np.uint8)
    names = np.array([f"class {index}" for index in range(len(counts))])
    np.savez(path, images=pixels, labels=labels, class_names=names)
    return open_images(f"npz:{path}").train


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=5), salt=st.text(max_size=3))
def test_every_beginning_of_the_order_is_as_balanced_as_can_be(tmp_path: Path, counts: list[int], salt: str) -> None:
    images = noise_images(tmp_path / "noise.npz", counts)
    order = balance_order(images, salt)
    assert sorted(order) == list(range(sum(counts)))
    for size in range(1, len(order) + 1):
        taken = Counter(int(images.labels[index]) for index in order[:size])
        # Who has images left is at most one behind whoever has the most.
        behind = [taken[label] for label, count in enumerate(counts) if taken[label] < count]
        assert all(max(taken.values()) - count <= 1 for count in behind)


def test_draws_are_nested_differ_by_seed_and_hang_on_content_alone(tmp_path: Path) -> None:
    images = noise_images(tmp_path / "noise.npz", [20, 20, 20])

    def drawn(of: ImageSet, size: int, seed: int) -> set[str]:
        chosen = draw_training_images(of, size, seed)
        return {chosen.digest(index) for index in range(len(chosen))}

    assert drawn(images, 12, 0) < drawn(images, 30, 0) < drawn(images, 60, 0)
    assert drawn(images, 12, 0) != drawn(images, 12, 1)
    backwards = images.select(list(range(60))[::-1])
    assert drawn(backwards, 12, 0) == drawn(images, 12, 0)
    assert draw_training_images(images, None, 0) is images


def test_every_tuned_method_gets_the_same_number_of_runs_and_epochs(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, " ".join(METHODS))
    comparison = written_results(plan, tmp_path, same, same)
    counts = {method: len(trained(comparison, method)) for method in METHODS}
    untuned = {"labels", "logits", "patient"}
    # 2 sizes, each with 3 weights at the first seed and the chosen one at the second.
    tuned = {method for method, count in counts.items() if count == 2 * (3 + 1)}
    assert tuned == set(METHODS) - untuned - {"as-is"}
    assert {counts[method] for method in untuned} == {2 * 2}
    assert counts["as-is"] == 0
    epochs = {method: {record["epochs"] for record in trained(comparison, method)} for method in METHODS}
    assert epochs.pop("patient") == {6}
    assert epochs.pop("as-is") == set()
    assert set(map(tuple, epochs.values())) == {(2,)}
    assert planned_runs(comparison) == (sum(counts.values()), sum(counts.values()))
    for row in summarise(comparison):
        assert row.trainings == counts[row.method] / 2


def test_planned_work_counts_runs_whose_weight_is_not_chosen_yet(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits)
    comparison = open_comparison(plan, tmp_path)
    planned = list_due_work(comparison.tracks, comparison.results)
    assert planned_runs(comparison) == (20, 0)
    assert len(planned) == 20
    # Two epochs of 40 and of 80 images: 4 runs a size of either tuned method, 2 of labels.
    assert sum(planned) == 2 * (4 + 4 + 2) * (40 + 80)
    done = written_results(plan, tmp_path, same, same)
    assert list_due_work(done.tracks, done.results) == []


def test_the_weight_is_chosen_on_validation_and_only_its_runs_see_test_images(
    tiny_digits: Path, tmp_path: Path
) -> None:
    comparison = written_results(
        plan_of(tiny_digits, "subdistill", sizes=(40,)), tmp_path, by_weight(0.1), by_weight(10.0)
    )
    (row,) = summarise(comparison)
    assert row.lambdas == (10.0,)
    # The weight that is best on test images is not looked at.
    assert row.mean == pytest.approx(0.5)
    evaluated = [record for record in comparison.results.all() if record["kind"] == "evaluate"]
    assert len(evaluated) == 2
    weights = Counter((record["seed"], record["lambda_layer"]) for record in trained(comparison, "subdistill"))
    assert weights == {(0, 0.1): 1, (0, 1.0): 1, (0, 10.0): 1, (1, 10.0): 1}


@pytest.mark.parametrize(("lambdas", "chosen"), [((0.01, 0.1, 10.0), 0.1), ((100.0, 5.0, 0.5), 0.5), ((1.0, 0.1), 1.0)])
def test_equal_weights_the_one_nearest_to_one_then_the_smaller(
    tiny_digits: Path, tmp_path: Path, lambdas: tuple[float, ...], chosen: float
) -> None:
    plan = plan_of(tiny_digits, "subdistill", sizes=(40,), lambdas=lambdas)
    (row,) = summarise(written_results(plan, tmp_path, same, same))
    assert row.lambdas == (chosen,)


def test_tuning_at_the_first_size_alone_uses_its_weight_at_every_size(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, "subdistill", sizes=(None, 40), tune_sizes="first")

    def validation(job: Job) -> float:
        best = 10.0 if job.size == 40 else 0.1
        return 0.9 if job.config.lambda_layer == best else 0.5

    comparison = written_results(plan, tmp_path, same, validation)
    assert [(row.train_size, row.lambdas) for row in summarise(comparison)] == [(40, (10.0,)), (None, (10.0,))]
    assert len(trained(comparison, "subdistill")) == 3 + 1 + 2
    assert planned_runs(comparison) == (6, 6)


def test_several_tuning_seeds_are_averaged(tiny_digits: Path, tmp_path: Path) -> None:
    def validation(job: Job) -> float:
        return {(0, 0.1): 0.95, (1, 0.1): 0.1}.get((job.seed, float(job.config.lambda_layer)), 0.6)

    one = written_results(plan_of(tiny_digits, "subdistill", sizes=(40,)), tmp_path / "1", same, validation)
    two = written_results(
        plan_of(tiny_digits, "subdistill", sizes=(40,), tune_seeds=2), tmp_path / "2", same, validation
    )
    assert [row.lambdas for row in (*summarise(one), *summarise(two))] == [(0.1,), (1.0,)]


def test_the_weights_of_a_seed_follow_one_another(tiny_digits: Path, tmp_path: Path) -> None:
    """They ask the teacher the same, and a process keeps the answers for a few questions only."""
    plan = plan_of(tiny_digits, "subdistill", sizes=(40,), tune_seeds=2)
    comparison = open_comparison(plan, tmp_path)
    jobs = [job for job in due_jobs(comparison.tracks, comparison.results) if job.kind == "train"]
    assert [(job.seed, job.config.lambda_layer) for job in jobs] == [
        (seed, weight) for seed in (0, 1) for weight in (0.1, 1.0, 10.0)
    ]


def test_a_method_with_a_weight_of_its_own_is_not_tuned(tiny_digits: Path, tmp_path: Path) -> None:
    own = {"subdistill": METHODS["subdistill"], "fixed": {**METHODS["subdistill"], "lambda_layer": 3.0}}
    plan = plan_of(tiny_digits, methods=own, sizes=(40,))
    comparison = written_results(plan, tmp_path, same, same)
    assert [record["lambda_layer"] for record in trained(comparison, "fixed")] == [3.0, 3.0]


def test_a_weight_that_failed_is_not_chosen_and_a_method_whose_weights_all_fail_is_missing(
    tiny_digits: Path, tmp_path: Path
) -> None:
    plan = plan_of(tiny_digits, "subdistill fitnet", sizes=(40,))
    comparison = open_comparison(plan, tmp_path)
    for job in due_jobs(comparison.tracks, comparison.results):
        if job.kind == "train" and (job.method == "fitnet" or job.config.lambda_layer == 10.0):
            comparison.results.add(
                {"key": job.key, "kind": "train", "task": "digits", "method": job.method, "error": "diverged"}
            )
    again = comparison
    while jobs := due_jobs(again.tracks, again.results):
        for job in jobs:
            figures: dict[str, Any] = {"validation_accuracy": 0.9, "test_accuracy": 0.9, "stuck": 0}
            figures |= {"best_epoch": 0, "epochs": 2, "lambda_layer": job.config.lambda_layer}
            again.results.student_path(job.key).parent.mkdir(exist_ok=True)
            again.results.student_path(job.key).touch()
            again.results.add({"key": job.key, "kind": job.kind, "task": "digits", **figures})
    rows = {row.method: row for row in summarise(again)}
    assert rows["subdistill"].lambdas == (1.0,)
    assert (rows["fitnet"].mean, rows["fitnet"].missing) == (None, 2)
    assert rows["fitnet"].difference is None
    assert len(comparison_record(again)["failures"]) == 4
    # The next run tries failed jobs again.
    reopened = open_comparison(plan, tmp_path)
    assert {job.method for job in due_jobs(reopened.tracks, reopened.results)} == {"subdistill", "fitnet"}


def test_keys_hold_what_decides_the_result_and_no_names(tiny_digits: Path, tmp_path: Path) -> None:
    def keys(plan: ComparisonPlan) -> set[str]:
        comparison = open_comparison(plan, tmp_path)
        return {job.key for job in due_jobs(comparison.tracks, comparison.results)}

    plan = plan_of(tiny_digits, "subdistill labels")
    renamed = replace(
        plan,
        tasks=(replace(plan.tasks[0], name="other"),),
        methods={"mine": METHODS["subdistill"], "theirs": METHODS["labels"]},
        reference="mine",
    )
    assert keys(renamed) == keys(plan)
    elsewhere = replace(plan.tasks[0], settings={"epochs": 2, "compute": "cpu", "workers": 3})
    assert keys(replace(plan, tasks=(elsewhere,))) == keys(plan)
    changes: list[dict[str, Any]] = [
        {"student": "plain:8-9"},
        {"student_width": 2.0},
        {"image_size": 32},
        {"classes": tuple("0132")},
        {"settings": {"epochs": 3}},
    ]
    trainings = keys(plan)
    for change in changes:
        other = keys(replace(plan, tasks=(replace(plan.tasks[0], **change),)))
        assert len(other & trainings) <= 1, change  # the teacher's evaluation does not depend on the student
    assert not keys(replace(plan, validation_images=20)) & keys(plan)


def test_a_setting_that_comes_later_leaves_old_keys_alone_until_it_is_used() -> None:
    @dataclass(frozen=True, kw_only=True)
    class LaterConfig(DistillConfig):
        tomorrow: str = "off"

    now = DistillConfig(epochs=3)
    later = LaterConfig(epochs=3)
    assert deciding_settings(later) == deciding_settings(now)
    assert deciding_settings(LaterConfig(epochs=3, tomorrow="on")) == {**deciding_settings(now), "tomorrow": "on"}
    assert {"workers", "compute", "tensorboard"}.isdisjoint(deciding_settings(now))
    # What decides a result is never left out, at its default or not.
    assert {"epochs", "method", "lambda_layer", "seed", "teacher_cache"} <= deciding_settings(now).keys()


def test_a_plan_that_grows_keeps_what_is_done(tiny_digits: Path, tmp_path: Path) -> None:
    written_results(plan_of(tiny_digits, sizes=(40,)), tmp_path, same, same)
    comparison = open_comparison(plan_of(tiny_digits, seeds=(0, 1, 2), sizes=(40,)), tmp_path)
    due = due_jobs(comparison.tracks, comparison.results)
    assert {(job.method, job.seed) for job in due} == {("subdistill", 2), ("labels", 2), ("fitnet", 2)}


def test_a_student_that_is_gone_is_trained_again_only_where_it_is_needed(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, "labels", sizes=(40,))
    comparison = open_comparison(plan, tmp_path)
    jobs = [job for job in due_jobs(comparison.tracks, comparison.results) if job.kind == "train"]
    for job in jobs:
        comparison.results.add({"key": job.key, "kind": "train", "task": "digits"})
    due = due_jobs(comparison.tracks, comparison.results)
    assert {job.key for job in due if job.kind == "train"} == {job.key for job in jobs}
    whole = written_results(plan_of(tiny_digits, "labels", sizes=(40,)), tmp_path / "whole", same, same)
    for student in (tmp_path / "whole" / "students").iterdir():
        student.unlink()
    assert due_jobs(whole.tracks, whole.results) == []


def test_rows_over_tasks_by_hand(tiny_digits: Path, tmp_path: Path) -> None:
    tasks = (task_of(tiny_digits), task_of(tiny_digits, name="three", classes=tuple("123")))
    accuracies = {
        ("labels", "digits", 0): 0.5,
        ("labels", "digits", 1): 0.6,
        ("labels", "three", 0): 0.7,
        ("labels", "three", 1): 0.6,
        ("subdistill", "digits", 0): 0.8,
        ("subdistill", "digits", 1): 0.7,
        ("subdistill", "three", 0): 0.9,
        ("subdistill", "three", 1): 0.9,
    }
    plan = plan_of(tiny_digits, "subdistill labels", tasks=tasks, sizes=(None,))
    comparison = written_results(
        plan, tmp_path, lambda job: accuracies.get((job.method, job.task.name, job.seed), 0.99), same
    )
    rows = {(row.task, row.method): row for row in summarise(comparison)}
    assert len(rows) == 6
    assert rows["digits", "labels"].mean == pytest.approx(0.55)
    assert rows["digits", "labels"].deviation == pytest.approx(0.1 / 2**0.5)
    assert rows[None, "labels"].mean == pytest.approx(0.6)
    # Seed means over the tasks: 0.6 and 0.6 for labels, 0.85 and 0.8 for SubDistill.
    assert rows[None, "labels"].deviation == pytest.approx(0.0)
    assert rows[None, "subdistill"].deviation == pytest.approx(0.05 / 2**0.5)
    difference = rows[None, "labels"].difference
    assert difference is not None
    assert difference.mean == pytest.approx(0.225)
    assert (difference.pairs, difference.wins) == (4, 4)
    record = comparison_record(comparison)
    assert record["teacher_accuracy"] == pytest.approx(0.99)
    shown = choose_rows(record, None)
    assert [row["task"] for row in shown] == [None, None]
    assert seed_means(shown[0]) == pytest.approx([0.85, 0.8])


def test_the_picture_is_the_same_for_the_same_record_and_names_every_verdict(tiny_digits: Path, tmp_path: Path) -> None:
    spread = {("subdistill", 0): 0.9, ("subdistill", 1): 0.8, ("fitnet", 0): 0.4, ("fitnet", 1): 0.7}
    plan = plan_of(tiny_digits)
    comparison = written_results(plan, tmp_path, lambda job: spread.get((job.method, job.seed), 0.6), same)
    record = comparison_record(comparison)
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    write_figure(record, first)
    write_figure(record, second)
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text(encoding="utf-8")
    # Matplotlib writes each text as a comment before its outlines.
    for name in (*plan.methods, "not distinguishable", "1 stuck", "40 training images", "80 training images"):
        assert f"<!-- {name} -->" in text, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "needs seeds, each once"),
        ({"sizes": (40, 40)}, "needs sizes, each once"),
        ({"sizes": (0,)}, "A number of images must be a number of at least 1"),
        ({"lambdas": (1.0, -1.0)}, "lambdas must be a number above 0"),
        ({"tune_seeds": 3}, r"tune_seeds must be from 1 to the number of seeds \(2\)"),
        ({"tune_sizes": "some"}, "tune_sizes cannot be 'some'"),
        ({"reference": "logit"}, "reference cannot be 'logit'"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1"),
        ({"methods": {"subdistill": {"layer_los": "vid"}}}, "'layer_los', which is not known. Did you mean"),
        ({"methods": {"subdistill": {"seed": 3}}}, "sets 'seed', which a comparison sets itself"),
        ({"methods": {"subdistill": {"epochs": 0}}}, "needs a method that trains"),
        (
            {"methods": {"subdistill": {"epochs_time": 3}}},
            "'epochs_time', which is not known. Did you mean epochs_times",
        ),
    ],
)
def test_impossible_plans_are_refused(tiny_digits: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of(tiny_digits, **changes)


def test_unknown_and_repeated_methods_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no method 'fitnett' to compare\. Did you mean fitnet"):
        named_methods(["labels", "fitnett"])
    with pytest.raises(UsageError, match="each method to compare once, and at least one"):
        named_methods(["labels", "labels"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (3,)}, "3 training images were asked for; 'digits' has 160, and each of its 4 classes"),
        ({"sizes": (161,)}, "name a number from 4 to 160"),
        ({"validation_images": 100}, "100 validation images were asked for; 'digits' has 60"),
    ],
)
def test_sizes_that_the_data_do_not_have_are_refused(
    tiny_digits: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_comparison(plan_of(tiny_digits, **changes), tmp_path)


def test_without_a_test_split_the_validation_images_test_and_training_images_validate(
    tiny_digits: Path, tmp_path: Path
) -> None:
    with np.load(tiny_digits) as whole:
        kept = whole["split"] < 2
        arrays = {key: whole[key][kept] for key in ("images", "labels", "split")}
        np.savez(tmp_path / "some.npz", class_names=whole["class_names"], **arrays)
    plan = plan_of(tmp_path / "some.npz")
    facts = open_comparison(plan, tmp_path).facts["digits"]
    assert (facts.train_count, facts.validation_count, facts.test_count) == (128, 32, 60)
    assert "its validation images are the test images" in facts.notes[-1]
    given = open_images(f"npz:{tmp_path / 'some.npz'}").validation
    assert given is not None
    used = task_images(plan.tasks[0], None)
    assert {used.evaluation.digest(index) for index in range(60)} <= {
        given.digest(index) for index in range(len(given))
    }


def test_a_line_cut_short_is_passed_over_and_the_next_one_begins_anew(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, "labels", sizes=(40,))
    written_results(plan, tmp_path, same, same)
    file = tmp_path / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    comparison = written_results(plan, tmp_path, same, same)
    assert summarise(open_comparison(plan, tmp_path)) == summarise(comparison)
    assert summarise(comparison)[0].missing == 0


def test_a_foreign_file_of_results_is_refused(tiny_digits: Path, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"variant": 3}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"Line 1 of .*results.jsonl is not the record of a run"):
        open_comparison(plan_of(tiny_digits), tmp_path)
