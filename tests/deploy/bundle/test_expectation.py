from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.bundle.expectation import (
    Expectation,
    expectation_role,
    inputs_digest,
    read_expectation,
    write_expectation,
)
from edgedistill_deploy.errors import BundleError, DataError

OUTPUTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def expectation(**changes: object) -> Expectation:
    values: dict[str, object] = {
        "outputs": OUTPUTS,
        "inputs_sha256": "0" * 64,
        "spread": {"fused, 1 threads": 0.25, "one by one": 0.0},
        "tolerance": 1.0,
    }
    return Expectation(**{**values, **changes})  # type: ignore[arg-type]


@given(spread=st.dictionaries(st.text(st.characters(codec="ascii", exclude_categories=["C"])), st.floats(0, 1e9)))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, spread: dict[str, float]) -> None:
    path = tmp_path_factory.mktemp("expectation") / "golden.int8.npz"
    write_expectation(path, expectation(spread=spread))
    found = read_expectation(path)
    assert np.array_equal(found.outputs, OUTPUTS)
    assert (found.inputs_sha256, found.spread, found.tolerance) == ("0" * 64, spread, 1.0)


@pytest.mark.parametrize(
    "changes",
    [{"outputs": OUTPUTS * np.float32(np.nan)}, {"outputs": OUTPUTS[:0]}, {"tolerance": -1.0}, {"tolerance": np.inf}],
)
def test_an_expectation_that_nothing_could_meet_or_miss_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match="finite"):
        expectation(**changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tolerance": np.array([np.nan])}, "is damaged: The tolerance is nan"),
        ({"tolerance": np.array([1.0, 2.0])}, "is damaged: its arrays do not fit"),
        ({"ways": np.array(["one"])}, "is damaged: its arrays do not fit"),
        ({"outputs": OUTPUTS.astype(np.float64)}, "outputs has dtype float64"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, changes: dict[str, np.ndarray], problem: str) -> None:
    path = tmp_path / "golden.int8.npz"
    write_expectation(path, expectation())
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, **changes})
    with pytest.raises(BundleError, match=rf"golden\.int8\.npz.*{problem}"):
        read_expectation(path)


def test_each_file_has_its_own_role_and_the_students_is_golden() -> None:
    assert expectation_role("model.fp32") == "golden"
    assert expectation_role("model.int8-fp16-tensorrt") == "golden.int8-fp16-tensorrt"


def test_the_digest_tells_other_images_and_other_shapes() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    others = images.copy()
    others[1, 2, 3, 0] = 1
    assert len({inputs_digest(each) for each in (images, others, images.reshape(1, 8, 4, 3))}) == 3
