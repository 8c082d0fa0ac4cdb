"""Data sets in torchvision's layouts: the same images and labels as torchvision's own classes give."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from edgedistill.data.sources import absolute_name, open_source, why_not_counted
from edgedistill.data.splits import split_for_subtask
from edgedistill_deploy.errors import DataError, MissingDependencyError, UsageError
from reference.photographs import photograph, save

Patch = pytest.MonkeyPatch


def pixels(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def jpeg(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(seed, (48, 40)).save(path)
    return path


def lines(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts) + "\n")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_mnist(root: Path, patch: Patch, name: str = "MNIST") -> None:
    for prefix, count in (("train", 6), ("t10k", 4)):
        for kind, array in (("images-idx3", pixels(count, 28, 28)), ("labels-idx1", np.arange(count, dtype=np.uint8))):
            path = root / name / "raw" / f"{prefix}-{kind}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = b"".join(int(length).to_bytes(4, "big") for length in array.shape)
            path.write_bytes(bytes((0, 0, 8, array.ndim)) + shape + array.tobytes())


def write_fashion(root: Path, patch: Patch) -> None:
    write_mnist(root, patch, "FashionMNIST")


def write_food(root: Path, patch: Patch) -> None:
    for split, seed in (("train", 0), ("test", 10)):
        listed = {name: [f"{name}/{split}{n}" for n in range(2)] for name in ("waffles", "apple_pie")}
        for place, each in enumerate(path for paths in listed.values() for path in paths):
            jpeg(root / "food-101" / "images" / f"{each}.jpg", seed + place)
        lines(root / "food-101" / "meta" / f"{split}.json", json.dumps(listed))


def write_pets(root: Path, patch: Patch) -> None:
    for split, seed in (("trainval", 0), ("test", 10)):
        rows = [("Abyssinian_1", 1), ("great_pyrenees_7", 2), ("Abyssinian_2", 1)]
        names = [f"{name}{seed}" for name, _ in rows]
        for place, name in enumerate(names):
            jpeg(root / "oxford-iiit-pet" / "images" / f"{name}.jpg", seed + place)
        texts = [f"{name} {label} 1 1" for name, (_, label) in zip(names, rows, strict=True)]
        lines(root / "oxford-iiit-pet" / "annotations" / f"{split}.txt", *texts)


def write_dtd(root: Path, patch: Patch) -> None:
    for place, split in enumerate(("train", "val", "test")):
        listed = [f"{name}/{name}_{place}.jpg" for name in ("banded", "dotted")[place == 1 :]]
        for number, each in enumerate(listed):
            jpeg(root / "dtd" / "dtd" / "images" / each, 10 * place + number)
        lines(root / "dtd" / "dtd" / "labels" / f"{split}1.txt", *listed)


def write_aircraft(root: Path, patch: Patch) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    lines(data / "variants.txt", "A300B4", "Boeing 717")
    for place, split in enumerate(("train", "val", "test")):
        for number in range(2):
            jpeg(data / "images" / f"{place}{number}.jpg", 10 * place + number)
        lines(data / f"images_variant_{split}.txt", f"{place}0 Boeing 717", f"{place}1 A300B4")


def write_signs(root: Path, patch: Patch) -> None:
    base = root / "gtsrb"
    for label in range(3):
        for number in range(2):
            save(photograph(10 * label + number), base / "GTSRB" / "Training" / f"{label:05}" / f"{number}.ppm")
    for number in range(2):
        save(photograph(50 + number), base / "GTSRB" / "Final_Test" / "Images" / f"{number:05}.ppm")
    lines(base / "GT-final_test.csv", "Filename;Width;ClassId", "00000.ppm;1;2", "00001.ppm;1;0")


def write_imagenette(root: Path, patch: Patch) -> None:
    for place, split in enumerate(("train", "val")):
        for number, synset in enumerate(("n01440764", "n02102040")):
            jpeg(root / "imagenette2-160" / split / synset / f"{synset}_{place}.JPEG", 10 * place + number)


def write_caltech(root: Path, patch: Patch) -> None:
    categories = root / "caltech101" / "101_ObjectCategories"
    for place, name in enumerate(("BACKGROUND_Google", "Faces", "ant")):
        for number in (1, 2):
            jpeg(categories / name / f"image_{number:04}.jpg", 10 * place + number)
    (root / "caltech101" / "Annotations").mkdir()


def write_eurosat(root: Path, patch: Patch) -> None:
    for place, name in enumerate(("Forest", "River")):
        for number in range(2):
            jpeg(root / "eurosat" / "2750" / name / f"{name}_{number}.jpg", 10 * place + number)


def write_sun(root: Path, patch: Patch) -> None:
    lines(root / "SUN397" / "ClassName.txt", "/a/abbey", "/b/bakery/shop")
    for place, name in enumerate(("a/abbey", "b/bakery/shop")):
        for number in range(2):
            jpeg(root / "SUN397" / name / f"sun_{place}{number}.jpg", 10 * place + number)


def write_flowers(root: Path, patch: Patch) -> None:
    io: Any = pytest.importorskip("scipy.io", reason="scipy is not installed")
    base = root / "flowers-102"
    for number in range(1, 7):
        jpeg(base / "jpg" / f"image_{number:05}.jpg", number)
    io.savemat(base / "imagelabels.mat", {"labels": np.array([[1, 2, 102, 1, 2, 3]])})
    io.savemat(base / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]})
    sums = {key: (name, md5(base / name)) for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))}
    patch.setattr(torchvision.datasets.Flowers102, "_file_dict", sums)


def write_svhn(root: Path, patch: Patch) -> None:
    io: Any = pytest.importorskip("scipy.io", reason="scipy is not installed")
    sums = {}
    for split in ("train", "test"):
        path = root / f"{split}_32x32.mat"
        io.savemat(path, {"X": pixels(32, 32, 3, 4), "y": np.array([[10], [1], [9], [2]])})
        sums[split] = ["", path.name, md5(path)]
    patch.setattr(torchvision.datasets.SVHN, "split_list", sums)


def write_stl(root: Path, patch: Patch) -> None:
    base = root / "stl10_binary"
    lines(base / "class_names.txt", "airplane", "bird", "car")
    for split in ("train", "test"):
        (base / f"{split}_X.bin").write_bytes(pixels(3, 3, 96, 96).tobytes())
        (base / f"{split}_y.bin").write_bytes(bytes((3, 1, 2)))
    known = torchvision.datasets.STL10
    for listed in ("train_list", "test_list"):
        mended = [[name, md5(base / name)] for name, _ in getattr(known, listed) if (base / name).is_file()]
        patch.setattr(known, listed, mended)


Write = Callable[[Path, Patch], None]
SETS: dict[str, tuple[Write, dict[str, dict[str, Any]]]] = {
    "MNIST": (write_mnist, {"train": {"train": True}, "test": {"train": False}}),
    "FashionMNIST": (write_fashion, {"train": {"train": True}, "test": {"train": False}}),
    "Food101": (write_food, {"train": {"split": "train"}, "test": {"split": "test"}}),
    "OxfordIIITPet": (write_pets, {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "DTD": (write_dtd, {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}),
    "FGVCAircraft": (
        write_aircraft,
        {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}},
    ),
    "GTSRB": (write_signs, {"train": {"split": "train"}, "test": {"split": "test"}}),
    "Imagenette": (
        write_imagenette,
        {"train": {"split": "train", "size": "160px"}, "validation": {"split": "val", "size": "160px"}},
    ),
    "Caltech101": (write_caltech, {"train": {}}),
    "EuroSAT": (write_eurosat, {"train": {}}),
    "SUN397": (write_sun, {"train": {}}),
    "Flowers102": (
        write_flowers,
        {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}},
    ),
    "SVHN": (write_svhn, {"train": {"split": "train"}, "test": {"split": "test"}}),
    "STL10": (write_stl, {"train": {"split": "train"}, "test": {"split": "test"}}),
}


def named(found: Any, label: int) -> str:
    """Return the name of a label as torchvision's class has it."""
    names = getattr(found, "classes", None) or getattr(found, "categories", None)
    if not names:
        return str(label)
    name = names[label][0] if isinstance(names[label], tuple) else names[label]
    return str(name.split(" - ")[0])


def key(image: Image.Image, name: str) -> tuple[bytes, str]:
    return np.asarray(image.convert("RGB")).tobytes(), name


@pytest.mark.parametrize("name", SETS)
def test_images_and_labels_are_torchvisions(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    write, splits = SETS[name]
    write(tmp_path, monkeypatch)
    opened = open_source(f"torchvision:{name}:{tmp_path}")
    for split, given in splits.items():
        own = getattr(torchvision.datasets, name)(str(tmp_path), **given)
        images = getattr(opened, split)
        wanted = sorted(key(image, named(own, int(label))) for image, label in (own[row] for row in range(len(own))))
        found = [key(images.read(row), opened.class_names[images.labels[row]]) for row in range(len(images))]
        assert sorted(found) == wanted
        assert images.digest(0)
    for split in {"train", "validation", "test"} - set(splits):
        assert getattr(opened, split) is None


def test_a_subtask_of_such_a_set_is_split(tmp_path: Path, monkeypatch: Patch) -> None:
    for place, name in enumerate(("Forest", "River", "Highway")):
        for number in range(5):
            jpeg(tmp_path / "eurosat" / "2750" / name / f"{name}_{number}.jpg", 10 * place + number)
    parts = split_for_subtask(open_source(f"torchvision:EuroSAT:{tmp_path}"), ["River", "Forest"])
    assert parts.test is not None
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 10


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:MNITS:.", r"There is no source torchvision:MNITS\. Did you mean MNIST"),
        ("torchvision:MNIST", r"names no folder; write torchvision:MNIST:DIR"),
        ("torchvision:MNIST:nowhere", r"There is no folder nowhere\. Fetch it with python -c .*MNIST\('nowhere'"),
        ("torchvision:CIFAR10:.", r"from pickles, and reading one runs whatever .* name cifar10:DIR"),
    ],
)
def test_sources_that_are_none(source: str, message: str) -> None:
    for refuse in (open_source, why_not_counted):
        with pytest.raises(UsageError, match=message):
            refuse(source)


def test_a_folder_that_holds_something_else(tmp_path: Path, monkeypatch: Patch) -> None:
    for name in SETS:
        with pytest.raises(DataError, match=rf"does not hold {name} as torchvision lays it out \(.+\)\. Fetch it with"):
            open_source(f"torchvision:{name}:{tmp_path}")
    assert list(tmp_path.iterdir()) == []
    write_flowers(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingDependencyError, match=r"Reading Flowers102 needs scipy"):
        open_source(f"torchvision:Flowers102:{tmp_path}")


def test_it_is_not_opened_before_a_run_and_means_the_same_everywhere(tmp_path: Path, monkeypatch: Patch) -> None:
    assert "because torchvision loads torch" in why_not_counted(f"torchvision:MNIST:{tmp_path}")
    monkeypatch.chdir(tmp_path)
    assert absolute_name("torchvision:MNIST:a") == f"torchvision:MNIST:{tmp_path}/a"
    assert absolute_name("npz:a.npz") == f"npz:{tmp_path}/a.npz"
