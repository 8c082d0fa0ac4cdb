"""The glyph teacher: training, its folder, and what is embedded."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the teacher is trained with torch")
pytest.importorskip("benchmarks.glyphs", reason="the benchmarks are not part of the installed package")

import timm
import torch
from PIL import Image

from benchmarks.glyphs import embed, teacher, train_teacher
from benchmarks.glyphs.glyphset import GlyphSet, write_glyphs
from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.errors import DataError, UsageError


def stripes(count: int, class_names: str = "0123456789A") -> GlyphSet:
    """Images whose class is the height of a bright bar, which anything that learns will learn."""
    random = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.uint8) % len(class_names)
    images = random.integers(0, 40, (count, 32, 32), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * int(label) : 6 + 2 * int(label)] = 220
    split = np.where(np.arange(count) // len(class_names) % 4 == 0, 2, 0)
    split[np.arange(count) // len(class_names) % 4 == 1] = 1
    return GlyphSet(
        images=images,
        labels=labels,
        class_names=tuple(class_names),
        family=np.arange(count, dtype=np.uint16),
        split=split.astype(np.uint8),
    )


def test_training_learns() -> None:
    glyphs = stripes(220)
    config = train_teacher.TrainConfig(epochs=6, batch_size=10, lr=0.05, shift=0)
    seen: list[tuple[int, float, float]] = []
    model = train_teacher.train_teacher(glyphs, config, lambda *row: seen.append(row))
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1][1] < seen[0][1]
    accuracies = train_teacher.measure_test_families(model, glyphs)
    assert set(accuracies) == {"all classes", "ten digits", "digits-low", "digits-high"}
    assert accuracies["all classes"] > 0.9


def test_training_repeats_itself() -> None:
    """Order and shifts are drawn anew in each epoch, and alike in each training."""
    glyphs = stripes(66)
    config = train_teacher.TrainConfig(epochs=2, batch_size=10, lr=0.05, shift=2)
    model, again = (train_teacher.train_teacher(glyphs, config) for _ in range(2))
    torch.testing.assert_close(list(model.state_dict().values()), list(again.state_dict().values()))


def test_shifting_moves_and_never_wraps() -> None:
    images = np.zeros((64, 9, 9), np.uint8)
    images[:, 4, 4] = 255
    moved = train_teacher.shifted(images, 3, np.random.default_rng(0))
    rows, columns = np.nonzero(moved)[1:]
    assert moved.sum() == images.sum()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 7, 1, 7)


def test_too_few_images_are_said() -> None:
    with pytest.raises(DataError, match="There are 22 training images, fewer than one batch of 128"):
        train_teacher.train_teacher(stripes(44), train_teacher.TrainConfig(epochs=1))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 1}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="Epochs must be at least 1"):
        train_teacher.TrainConfig(**wrong)


@pytest.mark.parametrize("half", [False, True])
def test_timm_loads_the_folder(tmp_path: Path, half: bool) -> None:
    model = teacher.build_teacher(3).eval()
    teacher.write_teacher(tmp_path, model, "xyz", half=half)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8)
    torch.testing.assert_close(
        teacher.predict_logits(loaded, images),
        teacher.predict_logits(model, images),
        atol=2e-2 if half else 0,
        rtol=1e-2 if half else 0,
    )
    assert teacher.class_names_of(loaded) == ("x", "y", "z")


def test_the_product_reads_labels_and_preprocessing_from_the_folder(tmp_path: Path) -> None:
    teacher.write_teacher(tmp_path, teacher.build_teacher(3), "xyz")
    loaded = load_teacher(str(tmp_path))
    assert loaded.class_names == ("x", "y", "z")
    assert (loaded.preprocess.size, loaded.preprocess.crop_fraction) == ((64, 64), 1.0)
    assert (loaded.mean, loaded.std) == ((0.13,) * 3, (0.30,) * 3)


def test_preparing_equals_enlarging_with_pillow() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    enlarged = Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)
    expected = (np.asarray(enlarged) / 255.0 - 0.13) / 0.30
    prepared = teacher.prepare(image[None])
    assert prepared.shape == (1, 3, 64, 64)
    for channel in prepared[0].numpy():  # Pillow rounds to whole levels after each of its two passes
        np.testing.assert_allclose(channel, expected, atol=1.01 / 255 / 0.30)


def test_accuracy_counts_the_split_and_the_restricted_logits() -> None:
    glyphs = stripes(44)

    class Constant(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.arange(11.0).expand(len(images), 11)

    assert teacher.measure_accuracy(Constant(), glyphs, 2) == pytest.approx(1 / 11)
    assert teacher.measure_accuracy(Constant(), glyphs, 2, "012") == pytest.approx(1 / 3)


def test_embedding_keeps_digits_split_and_order(tmp_path: Path) -> None:
    glyphs = stripes(440, "A0123456789")
    write_glyphs(tmp_path / "glyphs.npz", glyphs)
    teacher.write_teacher(tmp_path / "teacher", teacher.build_teacher(11), glyphs.class_names)
    accuracies = embed.embed(tmp_path / "glyphs.npz", tmp_path / "teacher", tmp_path / "out")
    assert accuracies["half"] == pytest.approx(accuracies["full"], abs=0.05)
    with np.load(tmp_path / "out" / "digits.npz", allow_pickle=False) as digits:
        kept = np.array([name != "A" for name in glyphs.class_names])[glyphs.labels]
        assert digits["class_names"].tolist() == list("0123456789")
        np.testing.assert_array_equal(digits["images"], glyphs.images[kept])
        np.testing.assert_array_equal(digits["labels"], glyphs.labels[kept] - 1)
        np.testing.assert_array_equal(digits["split"], glyphs.split[kept])


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    write_glyphs(tmp_path / "glyphs.npz", stripes(44))
    teacher.write_teacher(tmp_path / "teacher", teacher.build_teacher(2), "ab")
    with pytest.raises(DataError, match="was not trained on the classes of"):
        embed.embed(tmp_path / "glyphs.npz", tmp_path / "teacher", tmp_path / "out")


def test_a_budget_overrun_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glyphs = stripes(44)
    write_glyphs(tmp_path / "glyphs.npz", glyphs)
    teacher.write_teacher(tmp_path / "teacher", teacher.build_teacher(11), glyphs.class_names)
    monkeypatch.setattr(embed, "BUDGET_BYTES", 1000)
    with pytest.raises(DataError, match="and 1,000 are allowed"):
        embed.embed(tmp_path / "glyphs.npz", tmp_path / "teacher", tmp_path / "out")


def test_what_ships_is_within_the_budget_and_as_accurate_as_said() -> None:
    assert embed.embedded_bytes(embed.EMBEDDED) <= embed.BUDGET_BYTES
    model = teacher.load_teacher(embed.EMBEDDED / "glyphs100")
    with np.load(embed.EMBEDDED / "digits.npz", allow_pickle=False) as digits:
        assert np.bincount(digits["split"]).tolist() == [8620, 2930, 2910]
        tested = digits["split"] == 2
        logits = teacher.predict_logits(model, digits["images"][tested])[:, :10]
        correct = logits.argmax(1).numpy() == digits["labels"][tested]
    assert round(100 * float(correct.mean()), 2) == 95.33
