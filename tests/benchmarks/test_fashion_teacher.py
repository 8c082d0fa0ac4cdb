"""The Fashion-MNIST teacher: its pixels, its training, its folder, on tiny sets in the data set's own format."""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the teacher is trained with torch")
pytest.importorskip("benchmarks.fashion", reason="the benchmarks are not part of the installed package")

import torch

from benchmarks.fashion import teacher, train_teacher
from benchmarks.glyphs.glyphset import write_npz
from benchmarks.glyphs.train_teacher import TrainConfig
from edgedistill.export.timm_folder import write_timm_folder
from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSplits
from edgedistill_deploy.images.sources import open_images


def _write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content))


def _bars(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images whose class is the height of a bright bar: shifts of two pixels and mirroring leave it readable."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = random.integers(0, 20, (count, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[: 2 + 2 * int(label)] = 200
    return images, labels


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    for seed, (split, count) in enumerate((("train", 200), ("t10k", 60))):
        images, labels = _bars(count, seed)
        _write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
        _write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture(scope="module")
def splits(bars: Path) -> ImageSplits:
    return open_images(f"fashion-mnist:{bars}")


def test_padding_puts_two_black_pixels_at_every_edge(splits: ImageSplits) -> None:
    padded = teacher.padded_pixels(splits.train.select([3, 1]))
    images, _ = _bars(200, 0)
    assert padded.shape == (2, 32, 32)
    np.testing.assert_array_equal(padded[:, 2:30, 2:30], images[[3, 1]])
    assert padded.sum() == images[[3, 1]].sum()


def test_images_that_cannot_be_padded_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        images=np.zeros((2, 33, 8), np.uint8),
        labels=np.array([0, 1]),
        class_names=np.array(["a", "b"]),
    )
    with pytest.raises(DataError, match="not grey arrays of at most 32x32 pixels"):
        teacher.padded_pixels(open_images(f"npz:{tmp_path / 'a.npz'}").train)


def test_the_npz_holds_both_splits_padded(splits: ImageSplits, tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", teacher.padded_arrays(splits))
    again = open_images(f"npz:{tmp_path / 'a.npz'}")
    assert again.class_names == splits.class_names
    assert splits.test is not None
    assert again.test is not None
    assert (len(again.train), len(again.test)) == (200, 60)
    assert again.test.labels.tolist() == splits.test.labels.tolist()
    inner = np.asarray(again.test.read(17))[2:30, 2:30]
    np.testing.assert_array_equal(inner, np.asarray(splits.test.read(17)))


def test_mirroring_turns_about_half_of_the_images_and_nothing_else() -> None:
    images = np.random.default_rng(1).integers(0, 256, (400, 4, 5), dtype=np.uint8)
    mirrored = train_teacher.mirrored(images, np.random.default_rng(0))
    same = (mirrored == images).all((1, 2))
    turned = (mirrored == images[:, :, ::-1]).all((1, 2))
    assert (same ^ turned).all()
    assert 150 < turned.sum() < 250


def test_accuracy_within_a_subtask_counts_its_images_and_logits_alone() -> None:
    names = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    logits = torch.zeros(4, 10)
    logits[0, 5] = 1.0  # a sandal, known
    logits[1, 8], logits[1, 7] = 2.0, 1.0  # a sneaker, taken for a bag, but a sneaker among footwear
    logits[2, 5] = 1.0  # a boot, taken for a sandal
    logits[3, 3] = 1.0  # a dress, known
    accuracies = teacher.measure_accuracies(logits, np.array([5, 7, 9, 3]), names)
    assert accuracies == pytest.approx({"all classes": 0.5, "footwear": 2 / 3, "tops": 1.0})


def test_the_command_trains_a_teacher_that_the_product_loads(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"train_teacher {tmp_path / 'teacher'} --data fashion-mnist:{bars} --npz {tmp_path / 'bars.npz'}"
    monkeypatch.setattr(sys, "argv", [*arguments.split(), "--epochs", "6", "--batch-size", "20", "--lr", "0.05"])
    train_teacher.main()
    printed = capsys.readouterr().out
    assert "epoch 6: training loss" in printed
    readme = (tmp_path / "teacher" / "README.md").read_text(encoding="utf-8")
    measured = float(readme.split("| all classes | ")[1].split(" |")[0])
    assert f"test, all classes: {measured:.2f}%" in printed
    assert measured > 60

    loaded = load_teacher(str(tmp_path / "teacher"))
    assert loaded.class_names[-1] == "Ankle boot"
    assert loaded.preprocess.size == (32, 32)
    assert (loaded.mean, loaded.std) == ((0.2860,) * 3, (0.3530,) * 3)
    test = open_images(f"npz:{tmp_path / 'bars.npz'}").test
    assert test is not None
    prepared = torch.from_numpy(np.stack([loaded.preprocess.apply(test.read(row)) for row in range(len(test))]))
    with torch.inference_mode():
        predicted = loaded.model(loaded.normalise()(prepared)).argmax(1).numpy()
    assert 100 * float((predicted == test.labels).mean()) == pytest.approx(measured, abs=0.01)


def test_training_repeats_itself(splits: ImageSplits) -> None:
    config = TrainConfig(epochs=1, batch_size=20, images=40, shift=2)
    first, second = (train_teacher.train_teacher(splits, config).state_dict() for _ in range(2))
    torch.testing.assert_close(list(first.values()), list(second.values()))


def test_too_few_images_and_no_test_images_are_said(splits: ImageSplits, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There are 30 training images, fewer than one batch of 128"):
        train_teacher.train_teacher(splits, TrainConfig(images=30))
    alone = ImageSplits(class_names=splits.class_names, train=splits.train)
    with pytest.raises(DataError, match="no test images to measure the teacher on"):
        train_teacher.accuracies_on_test(teacher.build_teacher(10), alone)


def test_the_folders_weights_are_the_models(tmp_path: Path) -> None:
    model = teacher.build_teacher(10).eval()
    write_timm_folder(tmp_path, model, teacher.folder_config(list("abcdefghij")))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    loaded = load_teacher(str(tmp_path)).model
    torch.testing.assert_close(teacher.predict_logits(loaded, images), teacher.predict_logits(model, images))
