"""Fashion-MNIST and CIFAR-100 from tiny files in their own formats, and the names sources go by."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images import cifar100, fashion_mnist
from edgedistill_deploy.images.sets import ImageSplits
from edgedistill_deploy.images.sources import absolute_source, open_images

_SHAPE = (12, 28, 28)


def _pixels(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_fashion(folder: Path, suffix: str = "", **changes: Any) -> Path:
    arrays = {
        "train-images-idx3": _pixels(_SHAPE),
        "train-labels-idx1": np.arange(12, dtype=np.uint8) % 10,
        "t10k-images-idx3": _pixels((5, 28, 28), seed=1),
        "t10k-labels-idx1": np.array([9, 5, 7, 0, 6], np.uint8),
        **{name.replace("_", "-"): array for name, array in changes.items()},
    }
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        if array is not None:
            _write_idx(folder / f"{name}-ubyte{suffix}", array)
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_has_two_splits_and_its_authors_names(tmp_path: Path, suffix: str) -> None:
    splits = open_images(f"fashion-mnist:{write_fashion(tmp_path, suffix)}")
    assert splits.class_names == (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    assert splits.validation is None
    assert splits.test is not None
    assert splits.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    np.testing.assert_array_equal(np.asarray(splits.train.read(3)), np.stack([_pixels(_SHAPE)[3]] * 3, axis=-1))
    footwear = splits.test.with_classes(["Sandal", "Sneaker", "Ankle boot"])
    assert footwear.labels.tolist() == [2, 0, 1]
    assert footwear.name(1) == "fashion-mnist t10k image 1"


def test_without_a_folder_fashion_mnist_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill_deploy.images import sources

    monkeypatch.setattr(sources, "INSTALLED", write_fashion(tmp_path, ".gz"))
    assert len(open_images("fashion-mnist").train) == 12


@pytest.mark.skipif(not fashion_mnist.INSTALLED.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_the_debian_package_is_the_whole_set() -> None:
    splits = open_images("fashion-mnist")
    assert splits.test is not None
    assert np.bincount(splits.train.labels).tolist() == [6000] * 10
    assert np.bincount(splits.test.labels).tolist() == [1000] * 10
    assert splits.train.read(0).size == (28, 28)


def test_missing_fashion_mnist_is_told_how_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill_deploy.images import sources

    monkeypatch.setattr(sources, "INSTALLED", tmp_path / "nowhere")
    for source in ("fashion-mnist", f"fashion-mnist:{tmp_path / 'nowhere'}"):
        with pytest.raises(
            UsageError,
            match=r"no folder .*nowhere with Fashion-MNIST.*apt install dataset-fashion-mnist.*fashion-mnist:DIR",
        ):
            open_images(source)
    with pytest.raises(DataError, match=r"lacks t10k-labels-idx1-ubyte, plain or \.gz\. Install the Debian"):
        open_images(f"fashion-mnist:{write_fashion(tmp_path / 'part', t10k_labels_idx1=None)}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_labels_idx1": np.zeros(11, np.uint8)},
            r"train-labels-idx1-ubyte holds 11 labels for the 12 images of train-images-idx3-ubyte",
        ),
        ({"t10k_labels_idx1": np.full(5, 10, np.uint8)}, r"t10k-labels-idx1-ubyte holds the label 10; .* 0 to 9"),
        (
            {"t10k_images_idx3": np.zeros((0, 28, 28), np.uint8), "t10k_labels_idx1": np.zeros(0, np.uint8)},
            r"t10k-images-idx3-ubyte holds no images \(its shape is \(0, 28, 28\)\)",
        ),
        ({"train_images_idx3": np.zeros(12, np.uint8)}, r"train-images-idx3-ubyte starts with 00 00 08 01"),
    ],
)
def test_fashion_files_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_images(f"fashion-mnist:{write_fashion(tmp_path, **changes)}")


_NAMES = ("apple", "aquarium_fish", "baby")


def write_cifar(folder: Path, train: int = 7, test: int = 4) -> Path:
    """Write records as the archive's own page describes them: superclass, class, then 1024 red, green and blue
    bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train.bin", train), ("test.bin", test)):
        planes = _pixels((count, 3, 32, 32), seed=count)
        records = [bytes([19, row % 3]) + planes[row].tobytes() for row in range(count)]
        (folder / name).write_bytes(b"".join(records))
    (folder / "fine_label_names.txt").write_text("\n".join(_NAMES) + "\n\n")
    (folder / "coarse_label_names.txt").write_text("aquatic_mammals\n")
    return folder


@pytest.mark.parametrize("unpacked", [".", "cifar-100-binary"])
def test_cifar100_has_its_fine_classes_and_rgb_pixels(tmp_path: Path, unpacked: str) -> None:
    write_cifar(tmp_path / unpacked)
    splits = open_images(f"cifar100:{tmp_path}")
    assert splits.class_names == _NAMES
    assert splits.test is not None
    assert splits.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert len(splits.test) == 4
    planes = _pixels((7, 3, 32, 32), seed=7)
    pixels = np.asarray(splits.train.read(5))
    assert pixels.shape == (32, 32, 3)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], planes[5, channel])
    assert splits.train.name(5) == "cifar100 train.bin image 5"


def test_cifar100s_digest_is_that_of_the_same_pixels_in_an_npz(tmp_path: Path) -> None:
    train = open_images(f"cifar100:{write_cifar(tmp_path)}").train
    pixels = np.stack([np.asarray(train.read(row)) for row in range(len(train))])
    np.savez(tmp_path / "same.npz", images=pixels, labels=train.labels, class_names=np.array(_NAMES))
    same = open_images(f"npz:{tmp_path / 'same.npz'}").train
    assert [train.digest(row) for row in range(7)] == [same.digest(row) for row in range(7)]


def test_cifar10_has_five_files_of_training_images(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("airplane\nbird\n\n")
    planes = _pixels((6, 3, 32, 32), seed=3)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(bytes((number % 2,)) + planes[number].tobytes())
    splits = open_images(f"cifar10:{tmp_path}")
    assert splits.class_names == ("airplane", "bird")
    assert splits.test is not None
    assert splits.train.labels.tolist() == [0, 1, 0, 1, 0]
    for row in range(5):
        np.testing.assert_array_equal(np.asarray(splits.train.read(row)), planes[row].transpose(1, 2, 0))
    assert (splits.train.name(4), splits.test.name(0)) == ("cifar10 train image 4", "cifar10 test_batch.bin image 0")
    (folder / "data_batch_5.bin").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_5\.bin; unpack cifar-10-binary\.tar\.gz"):
        open_images(f"cifar10:{tmp_path}")


def _write_pickles(folder: Path) -> None:
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(b"\x80\x02cos\nsystem\n")
    (folder / "train.bin").unlink()


def _cut(folder: Path) -> None:
    (folder / "test.bin").write_bytes((folder / "test.bin").read_bytes()[:-1])


def _empty(folder: Path) -> None:
    (folder / "train.bin").write_bytes(b"")


def _without_names(folder: Path) -> None:
    (folder / "fine_label_names.txt").unlink()


def _two_names(folder: Path) -> None:
    (folder / "fine_label_names.txt").write_text("apple\nbaby\n")


def _same_name(folder: Path) -> None:
    (folder / "fine_label_names.txt").write_text("apple\napple\nbaby\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_write_pickles, r"python version of CIFAR-100, whose files are pickles.*Take the binary version"),
        (_cut, r"test\.bin has 12295 bytes; .* whole records of 3074 bytes, so it is cut off"),
        (_empty, r"train\.bin has 0 bytes"),
        (_without_names, r"lacks fine_label_names\.txt; unpack cifar-100-binary\.tar\.gz"),
        (_two_names, r"train\.bin holds the class 2, and fine_label_names\.txt names 2 classes"),
        (_same_name, r"fine_label_names\.txt must name each class once, one a line; it has 3 lines with text"),
    ],
)
def test_cifar_files_that_cannot_be_used_are_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(write_cifar(tmp_path))
    with pytest.raises(DataError, match=message):
        open_images(f"cifar100:{tmp_path}")


def test_cifar_limits_and_missing_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no folder .*nowhere with CIFAR-100; unpack cifar-100-binary"):
        open_images(f"cifar100:{tmp_path / 'nowhere'}")
    monkeypatch.setattr(cifar100, "MAX_BYTES", 5000)
    with pytest.raises(DataError, match=r"train\.bin has 21518 bytes, more than the 5000 that are read"):
        open_images(f"cifar100:{write_cifar(tmp_path)}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    write_cifar(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", locked)
    with pytest.raises(DataError, match=r"fine_label_names\.txt cannot be read: Permission denied"):
        open_images(f"cifar100:{tmp_path}")


def test_a_source_means_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    here = str(tmp_path)
    assert {name: absolute_source(name) for name in ("images", "npz:a.npz", "cifar100:c", "fashion-mnist:f")} == {
        "images": f"{here}/images",
        "npz:a.npz": f"npz:{here}/a.npz",
        "cifar100:c": f"cifar100:{here}/c",
        "fashion-mnist:f": f"fashion-mnist:{here}/f",
    }
    assert absolute_source("npz:~/a.npz") == "npz:/home/someone/a.npz"
    assert absolute_source("./fashion-mnist") == f"{here}/fashion-mnist"
    for name in ("fashion-mnist", "embedded:digits", "/data/images"):
        assert absolute_source(name) == name


def _synonymous(tmp_path: Path) -> ImageSplits:
    names = np.array(["tench, Tinca tinca", "crane, n02012849", "crane, n03126707", "lynx"])
    np.savez(tmp_path / "a.npz", images=_pixels((4, 6, 6)), labels=np.arange(4), class_names=names)
    return open_images(f"npz:{tmp_path / 'a.npz'}")


def test_a_class_is_found_by_one_of_its_synonyms(tmp_path: Path) -> None:
    train = _synonymous(tmp_path).train
    chosen = train.with_classes(["lynx, catamount", "Tinca tinca", "n03126707"])
    assert chosen.class_names == ("lynx, catamount", "Tinca tinca", "n03126707")
    np.testing.assert_array_equal(np.asarray(chosen.read(1))[..., 0], _pixels((4, 6, 6))[2])
    assert chosen.labels.tolist() == [1, 2, 0]


def test_a_synonym_of_several_classes_or_two_of_one_are_refused(tmp_path: Path) -> None:
    train = _synonymous(tmp_path).train
    with pytest.raises(UsageError, match="'crane' can mean 2 classes"):
        train.with_classes(["crane", "lynx"])
    with pytest.raises(UsageError, match="'tench' and 'Tinca tinca' are one class, 'tench, Tinca tinca'; name it once"):
        train.with_classes(["tench", "Tinca tinca"])


def test_renaming_changes_names_alone(tmp_path: Path) -> None:
    splits = _synonymous(tmp_path)
    renamed = splits.rename_classes(list("abcd"))
    assert renamed.class_names == renamed.train.class_names == ("a", "b", "c", "d")
    assert renamed.train.labels.tolist() == splits.train.labels.tolist()
    assert renamed.train.digest(2) == splits.train.digest(2)
    assert (renamed.validation, renamed.test) == (None, None)
