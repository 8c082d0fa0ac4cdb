from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill_deploy.bundle import reference as reference_module
from edgedistill_deploy.bundle.reference import Reference, read_golden, read_reference, write_golden, write_reference
from edgedistill_deploy.errors import BundleError, DataError


def _fields(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    plain = {
        "logits": random.normal(size=(5, 3)).astype(np.float32),
        "labels": np.array([0, 1, 2, -1, 0]),
        "digests": np.array([f"{number:064x}" for number in range(5)]),
        "images": random.integers(0, 256, (2, 4, 6, 3), dtype=np.uint8),
        "image_index": np.array([4, 1]),
    }
    return {**plain, **changes}


def _with_a_logit(value: float) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = _fields()["logits"]
    logits[3, 1] = value
    return logits


def _without_images() -> dict[str, Any]:
    return _fields(images=None, image_index=np.zeros(0, dtype=np.int64))


_NEWER = {"class_names": np.array(["cat", "dog", "ox"]), "golden_index": np.array([0, 2, 4])}


@pytest.mark.parametrize("fields", [_fields(), _without_images(), _fields(**_NEWER)])
def test_a_reference_reads_back_as_written(tmp_path: Path, fields: dict[str, Any]) -> None:
    write_reference(tmp_path / "reference.npz", Reference(**fields))
    read = read_reference(tmp_path / "reference.npz")
    for name, wanted in fields.items():
        if wanted is None:
            assert getattr(read, name) is None
        else:
            np.testing.assert_array_equal(getattr(read, name), wanted, strict=True)


def test_equal_references_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_reference(tmp_path / name, Reference(**_fields()))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"], "no temporary file stays"


_WRONG: list[tuple[dict[str, Any], str]] = [
    ({"logits": np.zeros((5, 3))}, r"logits has dtype float64 and shape \(5, 3\); it must be float32 \(N, C\)"),
    ({"logits": np.zeros(5, np.float32)}, r"logits has dtype float32 and shape \(5,\)"),
    ({"logits": np.zeros((4, 3), np.float32)}, r"logits of shape \(4, 3\) with 5 labels and 5 digests do not fit"),
    ({"logits": np.zeros((5, 0), np.float32)}, r"logits of shape \(5, 0\)"),
    ({"labels": np.zeros(5, np.int32)}, r"labels has dtype int32"),
    ({"labels": np.array([0, 1, 2, 3, 0])}, r"labels run from 0 to 3; 3 classes allow -1 to 2"),
    ({"labels": np.array([0, 1, 2, -2, 0])}, r"labels run from -2 to 2"),
    ({"digests": np.array(["abc"] * 5)}, r"digests has dtype <U3"),
    ({"digests": np.array(["a" * 64] * 4)}, r"5 labels and 4 digests"),
    ({"images": np.zeros((2, 4, 6, 3), np.float32)}, r"images has dtype float32"),
    ({"images": np.zeros((2, 3, 4, 6), np.uint8)}, r"images has shape \(2, 3, 4, 6\); it must be \(M, H, W, 3\)"),
    ({"images": np.zeros((3, 4, 6, 3), np.uint8)}, r"image_index has 2 entries for 3 images"),
    ({"images": None}, r"image_index has 2 entries for 0 images"),
    ({"image_index": np.array([0, 5])}, r"image_index runs from 0 to 5, outside the 5 rows"),
    ({"image_index": np.array([-1, 0])}, r"image_index runs from -1 to 0"),
    ({"image_index": np.array([0.0, 1.0])}, r"image_index has dtype float64"),
    (
        {"images": np.zeros((0, 4, 6, 3), np.uint8), "image_index": np.zeros(0, np.int64)},
        r"images has shape \(0, 4, 6, 3\); it must be .* or None",
    ),
    (
        {"logits": np.zeros((0, 3), np.float32), "labels": np.zeros(0, np.int64), "digests": np.zeros(0, "<U64")},
        r"logits of shape \(0, 3\)",
    ),
    *(
        ({"logits": _with_a_logit(value)}, r"1 of 5 rows of logits hold a value that is not finite")
        for value in (np.nan, np.inf, -np.inf)
    ),
    ({"class_names": np.array(["cat", "dog"])}, r"class_names lists 2 names for 3 classes"),
    ({"class_names": np.array([1, 2, 3])}, r"class_names has dtype int64 and shape \(3,\)"),
    ({"golden_index": np.array([0, 5])}, r"golden_index runs from 0 to 5, outside the 5 rows"),
]


@pytest.mark.parametrize(("changes", "message"), _WRONG)
def test_a_reference_that_does_not_fit_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Reference(**_fields(**changes))


@pytest.mark.parametrize(("changes", "message"), _WRONG)
def test_and_so_is_a_file_with_one(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arrays = {name: array for name, array in _fields(**changes).items() if array is not None}
    np.savez(tmp_path / "reference.npz", **arrays)
    with pytest.raises(BundleError, match=rf"reference\.npz.*{message}"):
        read_reference(tmp_path / "reference.npz")


def test_missing_files_and_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"reference\.npz does not exist"):
        read_reference(tmp_path / "reference.npz")
    np.savez(tmp_path / "reference.npz", logits=_fields()["logits"])
    with pytest.raises(BundleError, match=r"reference\.npz lacks the array labels \(int64 \(N,\)\); it holds logits\."):
        read_reference(tmp_path / "reference.npz")
    np.savez(tmp_path / "reference.npz")
    with pytest.raises(BundleError, match=r"it holds nothing"):
        read_reference(tmp_path / "reference.npz")


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reference(tmp_path / "reference.npz", Reference(**_fields()))
    monkeypatch.setattr(reference_module, "MAX_BYTES", 100)
    with pytest.raises(BundleError, match=r"take \d+ bytes, more than the 100 that are read"):
        read_reference(tmp_path / "reference.npz")


def test_golden_reads_back_as_written(tmp_path: Path) -> None:
    inputs, outputs = _fields()["images"], np.ones((2, 3), np.float32)
    write_golden(tmp_path / "golden.npz", inputs, outputs)
    for read, written in zip(read_golden(tmp_path / "golden.npz"), (inputs, outputs), strict=True):
        np.testing.assert_array_equal(read, written, strict=True)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (np.zeros((2, 4, 6, 3)), np.zeros((2, 3), np.float32), r"inputs has dtype float64"),
        (np.zeros((2, 4, 6, 3), np.uint8), np.zeros((2, 3)), r"outputs has dtype float64"),
        (np.zeros((2, 4, 6, 3), np.uint8), np.zeros((3, 3), np.float32), r"do not fit each other"),
        (np.zeros((0, 4, 6, 3), np.uint8), np.zeros((0, 3), np.float32), r"do not fit each other; .* at least one"),
        (np.zeros((2, 3, 4, 6), np.uint8), np.zeros((2, 3), np.float32), r"do not fit each other"),
        (np.zeros((5, 4, 6, 3), np.uint8), _with_a_logit(np.nan), r"1 of 5 rows of outputs hold a value that is not"),
    ],
)
def test_golden_arrays_that_do_not_fit_are_refused(tmp_path: Path, inputs: Any, outputs: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_golden(tmp_path / "golden.npz", inputs, outputs)
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "golden.npz", inputs=inputs, outputs=outputs)
    with pytest.raises(BundleError, match=rf"golden\.npz.*{message}"):
        read_golden(tmp_path / "golden.npz")
