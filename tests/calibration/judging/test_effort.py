"""A large model uses fewer images where more decide nothing; what is kept is judged on all, and records say so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_calibration.int8 import files
from edgedistill_calibration.judging import effort, steps
from edgedistill_calibration.judging.effort import affordable, set_size
from edgedistill_calibration.judging.judge import ImageCount, Judge, Preparation
from edgedistill_calibration.judging.ledger import read_ledger
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Phases
from reference.fitted_networks import shape_images
from reference.shape_bundles import float_bundle, labelled

CONFIG = CalibrationConfig(
    images=64, held_out=100, method="minmax", profile="x86", max_drop=0.5, fp16=False, ledger_nodes=0
)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return labelled(tmp_path_factory.mktemp("training") / "shapes.npz", *shape_images(60, seed=1))


def judge_of(bundle: Bundle, images: ImageSet) -> Judge:
    work = ImageCount(phases=Phases(lambda *_: None, {"all": 1.0}))
    prepared = Preparation(preprocess=bundle.preprocess, work=work)
    work.begin("all", len(images))
    return Judge(source=bundle.file("model.fp32"), images=images, prepared=prepared)


def test_a_large_model_is_judged_on_all_images_though_compared_on_few(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CANDIDATES_BUDGET", 0.0)
    monkeypatch.setattr(steps, "TEACHER_BUDGET", 0.0)
    bundle = float_bundle(tmp_path / "bundle")
    bundle = bundle.with_file("teacher.fp32", bundle.file("model.fp32"))
    bundle = calibrate(bundle, training, CONFIG)
    (compared,) = bundle.manifest["calibration"]["candidates"]
    assert compared["int8"]["sample_count"] == 64
    found = {step["stage"]: step for step in read_ledger(bundle)["steps"]}
    assert {name: step["sample_count"] for name, step in found.items()} == {
        "teacher": 64, "fp32": 100, "int8": 100, "int8-tensorrt": 100,
    }  # fmt: skip
    assert found["fp32"]["teacher_agreement"] == 1.0


def test_answers_that_go_on_later_are_those_of_one_pass(tmp_path: Path, training: ImageSet) -> None:
    bundle, images = float_bundle(tmp_path / "bundle"), training.select(range(50))
    at_once, in_parts = judge_of(bundle, images), judge_of(bundle, images)
    path = bundle.file("model.fp32")
    assert len(in_parts.answers({path: "fp32"}, 7)[path]) == 7
    assert in_parts.judge({path: "fp32"}, 7)[path].sample_count == 7
    whole = in_parts.answers({path: "fp32"})[path]
    np.testing.assert_allclose(whole, at_once.answers({path: "fp32"})[path], rtol=1e-4, atol=1e-4)
    assert len(in_parts.answers({path: "fp32"}, 7)[path]) == 7


def test_progress_goes_on_where_there_is_more_work_than_expected() -> None:
    seen: list[int] = []
    work = ImageCount(phases=Phases(lambda done, total, note="": seen.append(done), {"first": 9.0, "last": 1.0}))
    work.begin("first", 100)
    for _ in range(40):
        work.advance(10)
    assert seen == sorted(seen)
    late = seen[11:]
    assert len(set(late)) > 15  # four times as much as expected, and still moving
    assert max(late) < 900


@pytest.mark.parametrize(
    ("budget", "multiply_adds", "most", "count"), [(1e9, 1e6, 500, 500), (1e9, 1e7, 500, 100), (1e9, 1e9, 500, 64)]
)
def test_the_number_of_images_follows_the_work(budget: float, multiply_adds: float, most: int, count: int) -> None:
    assert affordable(budget, multiply_adds, most) == count
    assert affordable(budget, multiply_adds, 10) == 10


@pytest.mark.parametrize(
    ("asked", "multiply_adds", "taken"),
    [("auto", 4e6, 512), ("auto", 190e6, 512), ("auto", 300e6, 333), ("auto", 4e9, 256), (700, 4e9, 700), (3, 1, 3)],
)
def test_a_large_model_takes_fewer_images_unless_a_number_is_asked_for(
    asked: int | str, multiply_adds: float, taken: int
) -> None:
    assert set_size(asked, multiply_adds) == taken


def test_ranges_and_judgement_take_as_many_images_as_suit_the_model(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "MOST_OF_SET", 90)
    monkeypatch.setattr(effort, "FEWEST_OF_SET", 40)
    for name, budget, taken in (("small", 1e11, 90), ("large", 0.0, 40)):
        monkeypatch.setattr(effort, "SETS_BUDGET", budget)
        bundle = calibrate(float_bundle(tmp_path / name), training, replace(CONFIG, images="auto", held_out="auto"))
        record = bundle.manifest["calibration"]
        assert (record["image_count"], record["held_out_count"]) == (taken, taken)
