import hashlib
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images import arrays
from edgedistill_deploy.images.arrays import ArrayImages
from edgedistill_deploy.images.sources import open_images

_COUNT = 6


def _arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    plain = {
        "images": random.integers(0, 256, (_COUNT, 5, 4, 3), dtype=np.uint8),
        "labels": np.array([0, 1, 2, 0, 1, 2]),
        "class_names": np.array(["cat", "dog", "eel"]),
    }
    return {name: value for name, value in {**plain, **changes}.items() if value is not None}


def _write(folder: Path, **changes: Any) -> Path:
    path = folder / "data.npz"
    np.savez_compressed(path, **_arrays(**changes))
    return path


def _train(path: Path) -> ArrayImages:
    images = open_images(f"npz:{path}").train
    assert isinstance(images, ArrayImages)
    return images


def test_without_a_split_everything_is_for_training(tmp_path: Path) -> None:
    splits = open_images(f"npz:{_write(tmp_path)}")
    assert splits.class_names == ("cat", "dog", "eel")
    assert splits.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (splits.validation, splits.test) == (None, None)
    for row, pixels in enumerate(_arrays()["images"]):
        np.testing.assert_array_equal(np.asarray(splits.train.read(row)), pixels)


def test_split_numbers(tmp_path: Path) -> None:
    splits = open_images(f"npz:{_write(tmp_path, split=np.array([2, 0, 1, 0, 2, 0], dtype=np.uint8))}")
    assert splits.validation is not None
    assert splits.test is not None
    sets = (splits.train, splits.validation, splits.test)
    assert [each.labels.tolist() for each in sets] == [[1, 0, 2], [2], [0, 1]]
    np.testing.assert_array_equal(np.asarray(splits.test.read(1)), _arrays()["images"][4])
    assert splits.test.name(1) == "data.npz image 4"


@pytest.mark.parametrize("shape", [(_COUNT, 5, 4), (_COUNT, 5, 4, 1)])
def test_grey_images_are_repeated_over_the_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    grey = np.arange(_COUNT * 20, dtype=np.uint8).reshape(shape)
    pixels = np.asarray(_train(_write(tmp_path, images=grey)).read(2))
    np.testing.assert_array_equal(pixels, np.stack([grey.reshape(_COUNT, 5, 4)[2]] * 3, axis=-1))


def test_digest_is_that_of_shape_and_pixels(tmp_path: Path) -> None:
    colour = _arrays()["images"]
    images = _train(_write(tmp_path))
    assert images.digest(3) == hashlib.sha256(b"5x4x3|" + colour[3].tobytes()).hexdigest()
    grey = _train(_write(tmp_path, images=colour[..., 0]))
    assert grey.digest(3) == hashlib.sha256(b"5x4|" + colour[3, :, :, 0].tobytes()).hexdigest()


def test_digest_does_not_depend_on_the_memory_layout(tmp_path: Path) -> None:
    c_order = _train(_write(tmp_path)).digest(1)
    fortran = _train(_write(tmp_path, images=np.asfortranarray(_arrays()["images"])))
    assert fortran.digest(1) == c_order
    np.testing.assert_array_equal(np.asarray(fortran.read(1)), _arrays()["images"][1])


def test_digests_are_computed_once_for_all_selections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _train(_write(tmp_path))
    before = images.digest(4)
    monkeypatch.delattr(hashlib, "sha256")
    assert images.select([4]).digest(0) == images.with_classes(["dog"]).digest(1) == before


def test_selecting_copies_no_pixels(tmp_path: Path) -> None:
    images = _train(_write(tmp_path))
    chosen = images.with_classes(["eel", "cat"]).select([0, 2])
    assert np.shares_memory(chosen.images, images.images)
    assert chosen.labels.tolist() == [1, 1]
    assert chosen.class_names == ("eel", "cat")
    assert [chosen.name(row) for row in range(2)] == ["data.npz image 0", "data.npz image 3"]


def test_unknown_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The images have no class 'dgo'. Did you mean dog\?"):
        _train(_write(tmp_path)).with_classes(["dgo"])


_FLOAT = np.zeros((_COUNT, 5, 4, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, r"lacks the array images \(uint8 .*\); it holds class_names, labels\."),
        ({"labels": None}, r"lacks the array labels"),
        ({"class_names": None}, r"lacks the array class_names"),
        ({"images": _FLOAT}, r"images has dtype float32 and shape \(6, 5, 4, 3\); it must be uint8 \(N, H, W\)"),
        ({"images": _FLOAT.astype(np.uint16)}, r"images has dtype uint16"),
        ({"images": _FLOAT.astype(np.uint8)[0, 0]}, r"images has dtype uint8 and shape \(4, 3\)"),
        (
            {"images": np.zeros((6, 3, 5, 4), np.uint8)},
            r"images has shape \(6, 3, 5, 4\); it must be uint8 \(N, H, W\)",
        ),
        ({"images": np.zeros((0, 5, 4, 3), np.uint8)}, r"images has shape \(0, 5, 4, 3\); .*N at least 1"),
        ({"images": np.zeros((6, 0, 4), np.uint8)}, r"images has shape \(6, 0, 4\)"),
        ({"labels": np.zeros(5, int)}, r"there are 5 labels for 6 images; each image needs one"),
        ({"labels": np.zeros(6)}, r"labels has dtype float64 and shape \(6,\); it must be whole numbers"),
        ({"labels": np.zeros((6, 1), int)}, r"labels has dtype int64 and shape \(6, 1\)"),
        ({"labels": np.full(6, 3)}, r"labels run from 3 to 3, but 3 class_names allow 0 to 2"),
        ({"labels": np.full(6, -2)}, r"labels run from -2 to -2, .* and -1 for an image without a label"),
        ({"class_names": np.array(["a", "b", "a"])}, r"class_names is 'a, b, a'; it must hold different names"),
        ({"class_names": np.array(["a", "b", " "])}, r"class_names is .* none empty"),
        ({"class_names": np.array([], dtype="U1")}, r"class_names is ''"),
        ({"class_names": np.array([1, 2, 3])}, r"class_names has dtype int64"),
        ({"class_names": np.array(["a", "b", "c"], dtype=object)}, r"class_names has dtype object"),
        ({"split": np.zeros(4, int)}, r"split has 4 entries for 6 images"),
        ({"split": np.full(6, 3)}, r"split holds 3 to 3; it must be 0 train, 1 validation or 2 test"),
        ({"split": np.array(["train"] * 6)}, r"split has dtype <U5"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"data\.npz.*{message}"):
        open_images(f"npz:{_write(tmp_path, **changes)}")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (exec, ("raise SystemExit('executed')",))

    bomb = np.array([Bomb()] * _COUNT, dtype=object)
    with pytest.raises(DataError, match=r"labels has dtype object"):
        open_images(f"npz:{_write(tmp_path, labels=bomb)}")


def test_other_arrays_in_the_file_are_left_alone(tmp_path: Path) -> None:
    assert len(_train(_write(tmp_path, notes=np.array([{"a": 1}], dtype=object)))) == _COUNT


def _npy(shape: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


def _write_members(path: Path, **members: bytes) -> Path:
    np.savez(path, **_arrays(images=None))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_npy("(1000000000, 1000, 1000)", b"x"), r"images claims 1000000000000000 bytes, but the file holds"),
        (_npy("(6, -5, 4)", bytes(120)), r"cannot be read as \.npz"),
        (_npy("(6, -5, -4)", bytes(120)), r"cannot be read as \.npz"),
        (_npy("(" * 500, bytes(120)), r"damaged \.npy header"),
        (_npy("(6, 5, 4)").replace(b"False", b"exit()"), r"damaged \.npy header"),
        (_npy("(6, 5, 4)", bytes(100)), r"images claims 120 bytes, but the file holds"),
        (_npy("(6, 5, 4", bytes(120)), r"damaged \.npy header"),
        (_npy("(6, 5, 4)", bytes(120), version=b"\x03\x00"), r"unsupported \.npy version \(3, 0\)"),
        (b"garbage", r"cannot be read as \.npz"),
        (b"", r"cannot be read as \.npz"),
        (_npy("(6, 5, 4)" + " " * 20_000, bytes(120)), r"cannot be read as \.npz"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, member: bytes, message: str) -> None:
    path = _write_members(tmp_path / "data.npz", images=member)
    with pytest.raises(DataError, match=message):
        open_images(f"npz:{path}")


def test_absurd_sizes_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_BYTES", 300)
    with pytest.raises(DataError, match=r"arrays of .*data\.npz take \d+ bytes, more than the 300 that are read"):
        open_images(f"npz:{_write(tmp_path)}")


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path)
    whole = path.read_bytes()
    for data in (b"", b"hello", whole[: len(whole) // 2], whole[:-3]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"data\.npz cannot be read as \.npz: "):
            open_images(f"npz:{path}")


def test_a_flipped_byte_in_the_pixels_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **_arrays())
    data = bytearray(path.read_bytes())
    data[data.find(_arrays()["images"].tobytes()) + 40] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="Bad CRC-32"):
        open_images(f"npz:{path}")


def test_a_missing_file_names_its_nearest_siblings(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(UsageError, match=r"no images at .*dta\.npz: it does not exist. Did you mean data\.npz\?"):
        open_images(f"npz:{tmp_path / 'dta.npz'}")


def test_a_folder_is_no_npz(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read as \.npz: "):
        open_images(f"npz:{tmp_path}")
