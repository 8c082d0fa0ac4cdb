"""Teachers of torchvision, of transformers and of one's own code, each held against its library."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from edgedistill.export.deployed import Deployed, logits_in_torch
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill.networks.layers import maps_and_contexts
from edgedistill.networks.pairing import pair_layers
from edgedistill_deploy.errors import DataError, MissingDependencyError, UsageError
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model
from reference.foreign_teachers import (
    LABELS,
    SHUFFLENET,
    seeded,
    shufflenet,
    small_timm,
    write_labels,
    write_transformers_folder,
)


def photograph() -> Image.Image:
    """An image with long waves in other colours, 150 x 117."""
    rows, columns = np.mgrid[0:117, 0:150]
    waves = [np.sin(rows / 21 + place) * np.cos(columns / 17 - place) for place in range(3)]
    return Image.fromarray(np.uint8(127.5 + 120 * np.stack(waves, axis=-1)))


def answer(teacher: Teacher, image: Image.Image) -> Tensor:
    """The teacher's logits for an image, prepared as EdgeDistill does."""
    pixels = torch.from_numpy(teacher.preprocess.apply(image).copy())
    with torch.no_grad():
        logits: Tensor = teacher.model(teacher.normalise()(pixels[None]))
    return logits


def torchvision_teacher(folder: Path, **options: Any) -> Teacher:
    torch.save({"model": shufflenet().state_dict()}, folder / "w.pth")
    labels = write_labels(folder / "labels.txt")
    return load_teacher(f"torchvision:{SHUFFLENET}", weights=folder / "w.pth", classes=labels, **options)


def test_a_torchvision_teacher_answers_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision.models import get_model_weights

    teacher = torchvision_teacher(tmp_path)
    transform: Any = get_model_weights(SHUFFLENET).DEFAULT.transforms()
    with torch.no_grad():
        expected = shufflenet()(transform(photograph())[None])
    assert torch.allclose(answer(teacher, photograph()), expected, atol=0.02 * float(expected.abs().max()))
    assert teacher.class_names == LABELS
    assert "under 'model'" in teacher.notes[0]


def test_the_labels_of_torchvisions_weights_come_along(tmp_path: Path) -> None:
    torch.save(shufflenet(1000).state_dict(), tmp_path / "w.pth")
    teacher = load_teacher(f"torchvision:{SHUFFLENET}:IMAGENET1K_V1", weights=tmp_path / "w.pth", image_size=64)
    assert teacher.class_names[:2] == ("tench", "goldfish")
    assert teacher.preprocess.size == (64, 64)
    assert teacher.preprocess.crop_fraction == 224 / 256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet5O", "torchvision has no classifier 'resnet5O'.*Did you mean resnet50"),
        ("torchvision:resnet50:IMAGENET1K_V3", "no weights 'IMAGENET1K_V3' of resnet50.*Did you mean IMAGENET1K_V"),
        ("torchvision:vgg16:IMAGENET1K_FEATURES", "end before the logits, so they tell no classes apart"),
        ("timm:hf-hub:resnet", "is named timm:hf-hub:OWNER/NAME"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_teacher(name)


def test_weights_of_another_torchvision_network_are_shown_from_both_sides(tmp_path: Path) -> None:
    torch.save(small_timm().state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        DataError, match=r"do not fit torchvision:.* 7 of 282 names match; only the file has `conv1\.3\.weight`"
    ):
        load_teacher(f"torchvision:{SHUFFLENET}", weights=tmp_path / "w.pth")


@pytest.mark.parametrize(("held", "asked", "used"), [(64, 64, 64), (64, None, 224), (64, 96, 96)])
@pytest.mark.slow
def test_positions_of_torchvisions_transformers_are_resampled(
    tmp_path: Path, held: int, asked: int | None, used: int
) -> None:
    from torchvision import models
    from torchvision.models.vision_transformer import interpolate_embeddings

    build: Any = models.get_model
    source = seeded(lambda: build("vit_b_32", num_classes=4, image_size=held))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    labels = write_labels(tmp_path / "l.txt")
    teacher = load_teacher("torchvision:vit_b_32", weights=tmp_path / "w.pth", classes=labels, image_size=asked)
    expected = build("vit_b_32", num_classes=4, image_size=used).eval()
    expected.load_state_dict(interpolate_embeddings(used, 32, source.state_dict()))
    images = torch.randn(1, 3, used, used, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.equal(teacher.model(images), expected(images))
    assert bool(teacher.notes) == (used != held)


CROP = {"height": 64, "width": 64}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "squashed": ("ViTImageProcessor", {"size": {"height": 64, "width": 64}, "resample": 3}),
    "cropped": ("CLIPImageProcessor", {"size": {"shortest_edge": 70}, "crop_size": CROP}),
    "blue first": ("MobileViTImageProcessor", {"size": {"shortest_edge": 70}, "crop_size": CROP}),
    "by a share": ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
    "scaled twice": ("EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}, "do_center_crop": False}),
    "not scaled": (
        "ViTImageProcessor",
        {"size": {"height": 64, "width": 64}, "do_rescale": False, "image_mean": [9, 99, 199], "image_std": [50] * 3},
    ),
}  # fmt: skip


@pytest.mark.parametrize("processor", PROCESSORS)
def test_an_image_becomes_what_transformers_makes_of_it(tmp_path: Path, processor: str) -> None:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    kind, options = PROCESSORS[processor]
    prepare = getattr(library, kind)(**options)
    teacher = load_teacher(str(write_transformers_folder(tmp_path / "mine", "resnet", prepare)))
    network = library.AutoModelForImageClassification.from_pretrained(tmp_path / "mine").eval()
    with torch.no_grad():
        expected = network(**prepare(images=photograph(), return_tensors="pt")).logits
    assert torch.allclose(answer(teacher, photograph()), expected, atol=0.03 * float(expected.abs().max()))
    assert teacher.class_names == LABELS


def test_an_image_processor_that_does_something_else_is_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    prepare = library.ViTImageProcessor(size={"height": 64, "width": 64}, do_resize=False)
    folder = write_transformers_folder(tmp_path / "mine", processor=prepare)
    with pytest.raises(DataError, match=r"ViTImageProcessor, does something .*the same image gets another size"):
        load_teacher(f"transformers:{folder}")


def test_a_network_without_a_trained_classifier_is_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = write_transformers_folder(tmp_path / "mine")
    library.ViTModel(library.ViTConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(DataError, match=r"not a trained classifier: it lacks weights for classifier\.bias"):
        load_teacher(f"transformers:{folder}")


def test_labels_that_transformers_made_up_are_asked_for(tmp_path: Path) -> None:
    made_up: dict[str, Any] = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    folder = write_transformers_folder(tmp_path / "mine", **made_up)
    with pytest.raises(UsageError, match=r"no labels for its 2 outputs.*--teacher-classes"):
        load_teacher(str(folder))
    assert load_teacher(str(folder), classes=write_labels(tmp_path / "l.txt", ("a", "b"))).class_names == ("a", "b")


def test_an_image_size_that_a_network_cannot_take_is_told_before_the_data_are_read(tmp_path: Path) -> None:
    folder = write_transformers_folder(tmp_path / "mine")
    with pytest.raises(DataError, match=r"cannot take images of 100 x 100 pixels .*choose another --image-size"):
        load_teacher(str(folder), image_size=100)


def test_transformers_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"needs transformers.*pip install 'edgedistill\[transformers\]'"):
        load_teacher("transformers:owner/name")


def own_teacher(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> str:
    """Write a module with a function `make` into the current folder."""
    monkeypatch.chdir(folder)
    name = f"own_{folder.name}"
    lines = [
        "from pathlib import Path",
        "import edgedistill",
        "from edgedistill_deploy.images.preprocess import Preprocess",
        "from reference.foreign_teachers import LABELS, small_timm",
        "Path('ran').touch()",
        "def make():",
        f"    return {body}",
    ]
    (folder / f"{name}.py").write_text("\n".join(lines), encoding="utf-8")
    return f"python:{name}:make"


MINE = (
    "edgedistill.Teacher(name='x', model=small_timm(), class_names=LABELS, preprocess=Preprocess(size=(96, 96)),"
    " mean=(0.5,) * 3, std=(0.5,) * 3)"
)


def test_code_runs_only_where_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = own_teacher(tmp_path, monkeypatch, MINE)
    with pytest.raises(UsageError, match=r"runs Python code.*--allow-code on the command line"):
        load_teacher(name)
    assert not (tmp_path / "ran").exists()
    teacher = load_teacher(name, allow_code=True)
    assert (teacher.name, teacher.class_names, teacher.preprocess.size) == (name, LABELS, (96, 96))
    assert str(tmp_path) not in sys.path
    assert len(teacher.weights_sha256) == 64
    with torch.no_grad():
        next(teacher.model.parameters()).add_(1)
    again = load_teacher(name, allow_code=True)
    assert again.weights_sha256 == teacher.weights_sha256  # of the weights as they were made


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("3", "returned int; it must return an edgedistill.Teacher or a torch module"),
        ("{}['x']", "failed with KeyError"),
        ("small_timm().conv1", "does not say how images are prepared"),
        (MINE.replace("class_names=LABELS", "class_names=LABELS[:2]"), "has 4 outputs, and 2 labels were given"),
        (MINE.replace("model=small_timm()", "model=small_timm().conv1"), r"must return logits .* returned shape \(1, "),
    ],
)
def test_what_code_returns_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        load_teacher(own_teacher(tmp_path, monkeypatch, body), allow_code=True)


def test_a_module_with_timms_settings_needs_labels_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = own_teacher(tmp_path, monkeypatch, "small_timm()")
    teacher = load_teacher(name, allow_code=True, classes=write_labels(tmp_path / "l.txt"))
    assert teacher.preprocess.size == (160, 160)
    for missing in ("python:nowhere:make", name.replace("make", "made"), "python:json"):
        with pytest.raises(UsageError, match=r"cannot be imported|has no function|is named python:MODULE:FUNCTION"):
            load_teacher(missing, allow_code=True)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ("bgr:0..255", [255, 51, 102]),
        ("-1..1", [-0.2, -0.6, 1.0]),
        ("caffe", [102 - 123.675, 51 - 116.28, 255 - 103.53]),
    ],
)
def test_other_pixel_values_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: str, expected: list[float]
) -> None:
    torch.save(small_timm().state_dict(), tmp_path / "w.pth")
    labels = write_labels(tmp_path / "l.txt")
    teacher = load_teacher("timm:test_resnet", weights=tmp_path / "w.pth", classes=labels, pixels=pixels)
    colour = torch.tensor([102, 51, 255], dtype=torch.uint8).expand(1, 160, 160, 3)
    given = torch.tensor(expected, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.allclose(teacher.model(teacher.normalise()(colour)), small_timm()(given), atol=1e-3)
    with pytest.raises(UsageError, match=r"no pixel values 'bgr'.*bgr:"):
        load_teacher("timm:test_resnet", weights=tmp_path / "w.pth", classes=labels, pixels="bgr")


def foreign(kind: str, folder: Path) -> Teacher:
    """A teacher of this kind at 64 x 64."""
    if kind == "torchvision":
        return torchvision_teacher(folder, image_size=64)
    if kind == "grey":
        torch.save(small_timm(in_chans=1).state_dict(), folder / "w.pth")
        labels = write_labels(folder / "l.txt")
        return load_teacher("timm:test_resnet", weights=folder / "w.pth", classes=labels, image_size=64)
    return load_teacher(str(write_transformers_folder(folder / "mine", kind.removeprefix("transformers "))))


@pytest.mark.parametrize("kind", ["torchvision", "grey", "transformers vit", "transformers resnet"])
def test_layers_are_paired_and_the_file_for_devices_answers_alike(tmp_path: Path, kind: str) -> None:
    teacher = foreign(kind, tmp_path)
    pairs = pair_layers(teacher.model, small_timm(), (64, 64))
    assert len(pairs) >= 3
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    names = [pair.teacher for pair in pairs]
    for map_, context in maps_and_contexts(teacher.model, names, images, lambda logits: logits[:, 0].sum()).values():
        assert map_.shape == context.shape
        assert context.abs().max() > 0
    deployed = Deployed(teacher.model, teacher.normalise(), (2, 0))
    samples = np.random.default_rng(4).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    write_onnx(deployed, (64, 64), tmp_path / "teacher.onnx", opset=17, metadata={}, samples=samples)
    with open_model(tmp_path / "teacher.onnx", precision="teacher") as session:
        assert np.allclose(logits_of(session, samples), logits_in_torch(deployed, samples), atol=1e-4)
