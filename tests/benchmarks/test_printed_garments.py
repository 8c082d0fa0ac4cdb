"""Garments with a digit printed on: what is in the images, that both label sets fit, and that the teacher learns
both."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the teacher is trained with torch")
pytest.importorskip("benchmarks.fashion", reason="the benchmarks are not part of the installed package")

import torch

from benchmarks.evidence.tasks import PRINTED, printed_tasks
from benchmarks.fashion import printed
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.models.teacher import load_teacher

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@pytest.fixture(scope="module")
def garments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars whose height is the class, which a printed digit leaves readable."""
    path = tmp_path_factory.mktemp("garments") / "garments.npz"
    labels = np.arange(600) % 10
    images = np.where(np.arange(28).reshape(1, 28, 1) < 2 + 2 * labels.reshape(-1, 1, 1), 200, 10)
    images = np.broadcast_to(images.astype(np.uint8), (600, 28, 28))
    split = np.where(np.arange(600) < 520, 0, 2).astype(np.uint8)
    np.savez(path, images=images, labels=labels, class_names=np.array(NAMES), split=split)
    return path


def _arrays(garments: Path, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    return printed.printed_arrays(open_source(f"npz:{garments}"), open_source(printed.DIGITS), seed)


def _digits(class_count: int) -> NDArray[np.uint8]:
    ink = np.zeros((class_count, 16, 16), np.uint8)
    ink[:, 4:12, 7:9] = 255
    return ink


def test_a_digit_is_white_with_a_black_rim_and_leaves_the_rest_alone() -> None:
    garments = np.full((50, 32, 32), 100, np.uint8)
    images = printed.print_digits(garments, _digits(50), np.random.default_rng(0))
    assert set(np.unique(images)) == {0, 100, 255}
    assert ((images == 255).sum((1, 2)) == 16).all()
    # A bar of 8x2 with one pixel around it.
    assert ((images == 0).sum((1, 2)) == 10 * 4 - 16).all()
    places = {tuple(np.argwhere(image == 255)[0].tolist()) for image in images}
    assert len(places) > 25


def test_the_ink_of_a_halved_digit_is_its_average() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    np.testing.assert_array_equal(printed.halved(image)[0], [[2, 4], [10, 12]])


def test_both_label_sets_are_of_the_same_images(garments: Path) -> None:
    arrays = _arrays(garments)
    again = _arrays(garments)
    by_digit = printed.labelled_by_digit(arrays)
    np.testing.assert_array_equal(arrays["images"], again["images"])
    assert by_digit["images"] is arrays["images"]
    assert set(by_digit["labels"].tolist()) == set(range(10))
    np.testing.assert_array_equal(arrays["labels"], np.arange(600) % 10)
    assert (_arrays(garments, seed=1)["images"] != arrays["images"]).any()


def test_the_loss_is_the_sum_of_both_cross_entropies() -> None:
    logits = torch.randn(6, 13, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 9], [1, 8], [2, 7], [0, 0], [1, 1], [2, 2]])
    expected = 0.0
    for row, (garment, digit) in zip(logits.double(), labels.tolist(), strict=True):
        expected -= float(torch.log(row[:3].exp()[garment] / row[:3].exp().sum()))
        expected -= float(torch.log(row[3:].exp()[digit] / row[3:].exp().sum()))
    assert float(printed.both_losses(logits, labels)) == pytest.approx(expected / 6, rel=1e-5)


def test_the_command_writes_a_teacher_and_images_for_all_four_tasks(
    garments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, npz = tmp_path / "teacher", tmp_path / "printed.npz"
    words = ["printed", str(out), "--data", f"npz:{garments}", "--npz", str(npz), "--epochs", "5"]
    monkeypatch.setattr(sys, "argv", words)
    printed.main()
    said = capsys.readouterr().out
    assert "test, garments: " in said
    assert float(said.split("test, footwear: ")[1].split("%")[0]) > 60
    assert "| digits |" in (out / "README.md").read_text(encoding="utf-8")
    teacher = load_teacher(str(out))
    for task in printed_tasks(f"npz:{npz}", f"npz:{tmp_path / 'printed-digits.npz'}", str(out)):
        assert len(teacher.subtask(task.classes).class_indices) == len(task.classes) == len(PRINTED[task.name])
        images = split_for_subtask(open_source(task.source), task.classes, seed=0)
        assert images.test is not None
        assert len(images.train) > 0
        assert len(images.test) > 0
