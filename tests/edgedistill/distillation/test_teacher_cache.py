import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from edgedistill.config import DistillConfig
from edgedistill.data.loader import Augmentation, Pass, Share, open_loader
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.objective import Guidance
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.distillation.teacher_cache import (
    Answers,
    bytes_per_view,
    choose_views,
    open_teacher_cache,
    write_teacher_cache,
)
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill.networks.layers import as_map, capture
from edgedistill.subspaces.files import load_subspaces
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.images.sets import ImageSet
from reference.small_networks import few_images, small_teacher

CLASSES = list("0123")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> SubtaskImages:
    return few_images(tiny_digits, CLASSES)


def run(teacher: Teacher, images: SubtaskImages, folder: Path | None = None, **settings: object) -> DistillResult:
    chosen = {"epochs": 2, "batch_size": 32, "augment": "crop", "compute": "cpu", **settings}
    cache = chosen.pop("cache", None)
    student = build_student("plain:8-8", len(CLASSES))
    config = DistillConfig(**chosen)  # type: ignore[arg-type]
    return distill(
        teacher,
        student,
        teacher.subtask(CLASSES),
        images,
        config,
        folder=folder,
        cache=cache,  # type: ignore[arg-type]
    )


def losses(result: DistillResult) -> list[float]:
    return [each.loss for each in result.history]


@pytest.mark.parametrize("layer_loss", ["subspace", "attention-transfer", "fitnet", "vkd", "similarity"])
def test_with_a_view_for_each_epoch_training_is_that_of_a_live_teacher(images: SubtaskImages, layer_loss: str) -> None:
    teacher = load_teacher("embedded:glyphs100")
    images = replace(images, train=images.train.select(range(0, len(images.train), 2)))
    live = run(teacher, images, layer_loss=layer_loss)
    cached = run(teacher, images, layer_loss=layer_loss, teacher_cache="2")
    assert losses(cached) == pytest.approx(losses(live), rel=2e-3)
    again = run(teacher, images, layer_loss=layer_loss, teacher_cache="1")
    assert losses(again)[1] != pytest.approx(losses(live)[1], rel=1e-6)


def test_what_is_kept_is_the_projection_of_the_teachers_map(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path
) -> None:
    result = run(teacher, images, tmp_path, cache=tmp_path / "kept", teacher_cache="2", augment="crop-flip")
    header = json.loads((tmp_path / "kept" / "cache.json").read_text(encoding="utf-8"))
    layer = result.pairs[0].teacher
    kept = np.load(tmp_path / "kept" / header["targets"][layer])
    views = np.load(tmp_path / "kept" / "views.npy")
    subspace = load_subspaces(tmp_path / "subspaces.safetensors")[layer]
    loader = open_loader(
        images.train, teacher.preprocess, 5, Pass(augmentation=Augmentation(name="crop-flip", views=2), epoch=1)
    )
    pixels, _, indices = next(iter(loader))
    with torch.no_grad(), capture(teacher.model, [layer]) as outputs:
        logits = teacher.model(teacher.normalise()(pixels))[:, :4]
        values = as_map(outputs[layer], teacher.model, layer).double().numpy()
    N, D, H, W = values.shape
    h, w = kept.shape[2:4]
    pooled = values.reshape(N, D, h, H // h, w, W // w).mean((3, 5))
    expected = np.einsum("ndhw,dk->nhwk", pooled - subspace.mean.numpy()[:, None, None], subspace.basis.numpy())
    np.testing.assert_allclose(kept[1, indices], expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(np.load(tmp_path / "kept" / "logits.npy")[1, indices], logits, rtol=1e-4, atol=1e-4)
    assert kept.dtype == np.float16
    assert views.shape == (2, len(images.train), 5)
    drawn = Augmentation(name="crop-flip", views=2).view(teacher.preprocess.size, 1, 3)
    assert views[1, 3].tolist() == list(drawn.numbers())


@pytest.mark.parametrize(
    ("settings", "difference"),
    [({"seed": 1}, "seed"), ({"method": "pca"}, "subspaces"), ({"augment": "none"}, "augmentation")],
)
def test_a_stale_cache_is_refused_by_what_is_other(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path, settings: dict[str, object], difference: str
) -> None:
    cache = tmp_path / "kept"
    run(teacher, images, cache=cache, teacher_cache="1", epochs=1)
    with pytest.raises(EdgeDistillError, match=f"was made for another .*{difference}.*delete that folder"):
        run(teacher, images, None, **{"cache": cache, "teacher_cache": "1", "epochs": 1, **settings})


def test_runs_that_differ_in_the_weight_alone_share_a_cache(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path
) -> None:
    cache = tmp_path / "kept"
    run(teacher, images, cache=cache, teacher_cache="1", epochs=1)
    before = (cache / "logits.npy").stat().st_mtime_ns
    run(teacher, images, cache=cache, teacher_cache="1", epochs=1, lambda_layer=10.0)
    assert (cache / "logits.npy").stat().st_mtime_ns == before


def test_a_damaged_cache_is_named(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    cache = tmp_path / "kept"
    run(teacher, images, cache=cache, teacher_cache="1", epochs=1)
    (cache / "logits.npy").write_bytes(b"not an array")
    with pytest.raises(EdgeDistillError, match=r"kept is damaged .*delete that folder"):
        run(teacher, images, cache=cache, teacher_cache="1", epochs=1)


def test_a_finished_run_leaves_no_cache_in_its_folder(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    run(teacher, images, tmp_path, teacher_cache="1", epochs=1)
    assert not (tmp_path / "teacher-cache").exists()


SIZE = (24, 32)
VIEW_BYTES = 8 * 8 * 16 * 2 + 4 * 4 + 24 * 32 * 3


def answers(count: int) -> Answers:
    return Answers(
        indices=torch.arange(count),
        pixels=torch.zeros(count, *SIZE, 3, dtype=torch.uint8),
        guidance=Guidance(logits=torch.zeros(count, 4), targets={"layer": torch.zeros(count, 8, 8, 16)}),
    )


def test_the_size_is_known_before_anything_is_written(tmp_path: Path) -> None:
    assert bytes_per_view(answers(1).guidance, SIZE) == VIEW_BYTES
    write_teacher_cache(tmp_path / "kept", {}, 10, [(0, [answers(10)])], {0: np.zeros((10, 5), np.int16)})
    names = ("pixels.npy", "logits.npy", "target-0.npy")
    assert sum(np.load(tmp_path / "kept" / name).nbytes for name in names) == 10 * VIEW_BYTES


@pytest.mark.parametrize("augment", ["none", "crop-flip", "resized-crop"])
@pytest.mark.parametrize("batch_size", [7, 32])
def test_kept_views_are_loaded_as_they_would_be_made(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path, augment: str, batch_size: int
) -> None:
    run(teacher, images, cache=tmp_path / "kept", teacher_cache="2", augment=augment, epochs=2)
    kept = np.load(tmp_path / "kept" / "pixels.npy", mmap_mode="r")
    assert kept.shape == (2, len(images.train), *teacher.preprocess.size, 3)
    for epoch in range(3):
        shown = Pass(augmentation=Augmentation(name=augment, views=2), epoch=epoch, shuffle=True)
        share = Share(index=1, count=2)
        made = open_loader(images.train, teacher.preprocess, batch_size, shown, share=share)
        again = replace(shown, kept=kept)
        loaded = open_loader(images.train, teacher.preprocess, batch_size, again, share=share)
        assert len(loaded) == len(made)
        for left, right in zip(loaded, made, strict=True):
            for ours, theirs in zip(left, right, strict=True):
                assert ours.dtype == theirs.dtype
                assert torch.equal(ours, theirs)


class CountingImages:
    """A set of images that counts how often one is read."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self.reads = 0

    def __len__(self) -> int:
        return len(self._images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)

    def read(self, index: int) -> Image.Image:
        self.reads += 1
        return self._images.read(index)


def test_no_image_is_read_again_once_its_views_are_kept(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path
) -> None:
    """Epochs with a cache cost what the student costs: not one decoded image more, whatever their number."""
    counts = []
    for epochs in (2, 6):
        counted = CountingImages(images.train)
        run(
            teacher,
            replace(images, train=cast(ImageSet, counted)),
            cache=tmp_path / str(epochs),
            teacher_cache="2",
            epochs=epochs,
        )
        counts.append(counted.reads)
    assert counts[0] == counts[1] > 0


def test_views_are_chosen_by_what_fits(tmp_path: Path) -> None:
    assert choose_views("off", VIEW_BYTES, 100, 30, tmp_path) == 0
    assert choose_views("8", VIEW_BYTES, 100, 30, tmp_path) == 8
    assert choose_views("8", VIEW_BYTES, 100, 3, tmp_path) == 3
    assert choose_views("auto", VIEW_BYTES, 100, 30, tmp_path) == 4
    assert choose_views("auto", VIEW_BYTES, 10**9, 30, tmp_path) == 0
    with pytest.raises(EdgeDistillError, match=r"would take \d+\.\d\d GB, and .* GB are free"):
        choose_views("4", VIEW_BYTES, 10**10, 30, tmp_path / "not" / "there" / "yet")


def test_room_that_a_whole_cache_takes_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = [(each, [answers(1)]) for each in range(4)]
    parameters = {each: np.zeros((1, 5), np.int16) for each in range(4)}
    write_teacher_cache(tmp_path / "kept", {"views": 4}, 1, views, parameters)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert choose_views("4", VIEW_BYTES, 10**6, 30, tmp_path / "kept") == 4
    assert choose_views("auto", VIEW_BYTES, 10**6, 30, tmp_path / "kept") == 4
    assert choose_views("auto", VIEW_BYTES, 10**6, 2, tmp_path / "kept") == 0
    with pytest.raises(EdgeDistillError, match=r"would take"):
        choose_views("3", VIEW_BYTES, 10**6, 30, tmp_path / "kept")


def test_a_search_for_lambda_and_its_run_share_one_cache(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path
) -> None:
    """A short run has fewer epochs than the cache has views."""
    settings: dict[str, Any] = {"teacher_cache": "auto", "epochs": 12, "lambda_layer": "auto"}
    result = run(teacher, images, cache=tmp_path / "kept", **settings)
    assert result.lambda_choice is not None
    assert result.lambda_choice.epochs == 3
    assert len(np.load(tmp_path / "kept" / "logits.npy")) == 4


def test_a_cache_whose_files_do_not_belong_together_is_named(
    teacher: Teacher, images: SubtaskImages, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"teacher_cache": "1", "epochs": 1}
    run(teacher, images, cache=tmp_path / "kept", **settings)
    logits = np.load(tmp_path / "kept" / "logits.npy")
    np.save(tmp_path / "kept" / "logits.npy", logits[:, :-1])
    with pytest.raises(
        EdgeDistillError, match=r"is damaged \(its files are not of the same images\); delete that folder"
    ):
        run(teacher, images, cache=tmp_path / "kept", **settings)


def test_features_beyond_half_precision_are_refused_by_layer(tmp_path: Path) -> None:
    guidance = Guidance(logits=torch.zeros(1, 4), targets={"stage2": torch.full((1, 3), 1e6)})
    large = replace(answers(1), guidance=guidance)
    with pytest.raises(EdgeDistillError, match="layer 'stage2' are too large for the half precision"):
        write_teacher_cache(tmp_path / "kept", {}, 1, [(0, [large])], {0: np.zeros((1, 5), np.int16)})
    assert open_teacher_cache(tmp_path / "kept", {}) is None


def test_an_unfinished_cache_is_made_anew(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    whole = run(teacher, images, cache=tmp_path / "kept", teacher_cache="1", epochs=1)
    shutil.move(tmp_path / "kept", tmp_path / "kept.partial")
    (tmp_path / "kept.partial" / "cache.json").unlink()
    again = run(teacher, images, cache=tmp_path / "kept", teacher_cache="1", epochs=1)
    assert losses(again) == losses(whole)
