import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill_deploy.errors import BundleError, DataError
from edgedistill_deploy.parity.metamorphic import check_relations
from edgedistill_deploy.records.parity import RelationResult
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.runtimes.session import Feeds, Session
from reference.measured_bundles import bundle_of
from reference.measured_models import images_of

CLASSES = [0, 1, 2, 0, 2, 1]
IMAGES = images_of(CLASSES)
RELATIONS = {"same_run_twice", "batch_of_one", "permuted_rows", "repeated_rows", "odd_batch", "two_threads"}


def results_for(folder: Path, defect: str, count: int = 6) -> dict[str, RelationResult]:
    bundle, _ = bundle_of(folder, CLASSES, CLASSES, CLASSES, defect=defect)
    with open_session(bundle) as session:
        return {result.name: result for result in check_relations(session, IMAGES[:count])}


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_a_sound_model_holds_every_relation(tmp_path: Path, count: int) -> None:
    results = results_for(tmp_path, "none", count)
    assert set(results) == RELATIONS
    assert all(result.passed for result in results.values())
    assert all(result.detail.startswith("Largest difference") for result in results.values())


@pytest.mark.parametrize(
    ("defect", "broken"),
    [
        ("depends_on_batch", {"batch_of_one", "repeated_rows", "odd_batch"}),
        ("depends_on_position", RELATIONS - {"same_run_twice"}),
        ("random", RELATIONS),
        ("wrong_for_odd_batches", {"batch_of_one", "odd_batch"}),
    ],
)
def test_each_defect_breaks_the_relations_it_should(tmp_path: Path, defect: str, broken: set[str]) -> None:
    results = results_for(tmp_path, defect)
    assert {name for name, result in results.items() if not result.passed} == broken


class SharedBuffer:
    """A real session behind a defect: all runs write into one buffer, as an unguarded TensorRT context would."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._buffer: dict[str, NDArray[Any]] = {}
        self._both_inside = threading.Barrier(2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        self._buffer = self._session.run(feeds)
        if threading.current_thread() is not threading.main_thread():
            self._both_inside.wait(timeout=120)
        return self._buffer


def test_threads_that_overwrite_each_other_are_found_and_nothing_else(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)
    with open_session(bundle) as session:
        shared: Any = SharedBuffer(session)
        results = {result.name: result.passed for result in check_relations(shared, IMAGES)}
    assert results == {**dict.fromkeys(RELATIONS, True), "two_threads": False}


def test_the_broken_inputs_are_called_by_their_names(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES, defect="depends_on_position")
    names = [f"{letter}.png" for letter in "abcdef"]
    with open_session(bundle) as session:
        results = {result.name: result for result in check_relations(session, IMAGES, names)}
    broken = results["batch_of_one"]
    assert broken.inputs == ("b.png", "c.png", "d.png", "e.png", "f.png")
    assert "rows 1, 2, 3, 4, 5 (b.png, c.png, d.png, e.png, f.png): largest" in broken.detail
    assert results["same_run_twice"].inputs == ()


def test_the_broken_rows_are_named(tmp_path: Path) -> None:
    detail = results_for(tmp_path, "depends_on_position")["batch_of_one"].detail
    # The first row stands first in both batches, so only its successors change.
    assert re.match(r"Broken for input rows 1, 2, 3, 4, 5: largest difference [\d.]+, tolerance 0\.\d+", detail)


def test_a_long_list_of_broken_rows_is_cut(tmp_path: Path) -> None:
    classes = [0, 1, 2] * 10
    bundle, _ = bundle_of(tmp_path, classes, classes, classes, defect="random")
    with open_session(bundle) as session:
        details = [result.detail for result in check_relations(session, images_of(classes))]
    assert all(", 19 and" in detail for detail in details)


def test_a_refused_batch_is_a_finding(tmp_path: Path) -> None:
    results = results_for(tmp_path, "four_rows_only", count=4)
    assert results["same_run_twice"].passed
    assert results["permuted_rows"].passed
    assert "The runtime refused a batch" in results["odd_batch"].detail
    assert results["batch_of_one"].detail == "4 images gave logits of shape (16, 3)."
    assert not results["batch_of_one"].passed


def test_logits_that_are_not_finite_break_the_relations(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES, defect="not_finite_when_dark")
    images = IMAGES.copy()
    images[2] //= 4
    with open_session(bundle) as session:
        results = check_relations(session, images)
    assert all("Broken for input rows 2: largest difference inf" in result.detail for result in results)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", 2e-3), ("fp16", 2e-2), ("int8", 5e-2), ("int8-tensorrt", 5e-2), ("teacher", 2e-3)],
)
def test_the_tolerance_follows_the_precision_and_the_size_of_the_logits(
    tmp_path: Path, precision: str, tolerance: float
) -> None:
    bundle, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES, precision=precision)
    with open_session(bundle, precision=precision) as session:
        largest = float(np.max(session.run({"image": IMAGES})["logits"]))
        detail = check_relations(session, IMAGES)[0].detail
    stated = float(detail.rpartition("tolerance ")[2].rstrip("."))
    assert stated == pytest.approx(tolerance * largest, rel=1e-2)


def test_a_model_without_logits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx gives scores; a bundle's model gives logits"):
        results_for(tmp_path, "no_logits")


def test_the_relations_need_an_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one image and got none"):
        results_for(tmp_path, "none", count=0)
