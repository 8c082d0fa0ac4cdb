"""An explanation of small networks: kept batch by batch, checked against the parts that it is made of."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edgedistill.data.sampling import sample_evenly
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.explanation.agreement import compare_maps
from edgedistill.explanation.attribution import Path as Line
from edgedistill.explanation.attribution import attribute
from edgedistill.explanation.config import ExplainConfig
from edgedistill.explanation.explaining import Compared, explain_student
from edgedistill.explanation.flipping import SHARES
from edgedistill.explanation.noise import add_noise
from edgedistill.models.normalise import Normalise, give_own_pixels
from edgedistill.models.plain import PlainNet
from edgedistill.networks.logits import restrict_logits
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSet, batches
from reference.small_networks import small_network, small_teacher

CONFIG = ExplainConfig(method="integrated-gradients", images=6, steps=4, pictures=2, batch_size=4, compute="cpu")


def student(seed: int, classes: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PlainNet((6, 8), classes)


@pytest.fixture(scope="module")
def compared() -> Compared:
    teacher = small_teacher()
    return Compared(
        teacher=teacher,
        subtask=teacher.subtask(["3", "1", "2"]),
        student=student(1),
        untrained=(student(2), student(3)),
        rivals={"labels": student(4)},
    )


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> ImageSet:
    return split_for_subtask(open_source(f"npz:{tiny_digits}"), ["3", "1", "2"]).validation


def rows_in(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "integrated-gradients" / "images.json").read_text())["images"]
    return rows


def test_the_record_is_made_of_maps_for_the_class_that_the_teacher_sees(
    compared: Compared, images: ImageSet, tmp_path: Path
) -> None:
    other = student(5)
    give_own_pixels(other, (0.2, 0.3, 0.4), (0.5, 0.5, 0.5))
    compared = replace(compared, student=other)
    record = explain_student(compared, images, CONFIG, tmp_path)
    assert record == json.loads((tmp_path / "integrated-gradients.json").read_text())
    sample = sample_evenly(images, 6, 0)
    (pixels,) = (torch.from_numpy(each) for each in batches(sample, compared.teacher.preprocess, 10))
    teacher, own = compared.teacher.normalise(), Normalise((0.2, 0.3, 0.4), (0.5, 0.5, 0.5))
    classes = compared.subtask.class_indices
    with torch.no_grad():
        seen = restrict_logits(compared.teacher.model(teacher(pixels)), classes).argmax(dim=1)
    mean = torch.full((1, 1, 1, 3), 127.5)
    one = attribute(compared.teacher.model, teacher(pixels), seen, "integrated-gradients", classes, Line(steps=4))
    two = attribute(other, own(pixels), seen, "integrated-gradients", path=Line(steps=4, baseline=own(mean)))
    rows = rows_in(tmp_path)
    assert [row["class"] for row in rows] == [compared.subtask.class_names[place] for place in seen.tolist()]
    for place, row in enumerate(rows):
        found = compare_maps(one[place].double().numpy(), two[place].double().numpy())
        assert row["agreement"] == pytest.approx(found, abs=1e-3)
    noisy = attribute(
        compared.teacher.model,
        teacher(add_noise(pixels, [(0, place) for place in range(len(pixels))])),
        seen,
        "integrated-gradients",
        classes,
        Line(steps=4),
    )
    for place, row in enumerate(rows):
        clean = one[place].double().numpy()
        found = compare_maps(clean, noisy[place].double().numpy())
        change = np.linalg.norm(noisy[place] - one[place]) / np.linalg.norm(clean)
        assert row["noise"]["teacher"] == pytest.approx({**found, "change": change}, abs=1e-3)
    cosines = [row["agreement"]["cosine"] for row in rows]
    assert record["agreement"]["cosine"]["mean"] == pytest.approx(np.mean(cosines))
    assert set(record["floors"]) == set(record["above"]) == {"other_class", "random_student", "labels"}
    assert record["checks"]["completeness"].keys() == {"teacher", "student"}
    kept = [row["noise"]["student"]["change"] for row in rows]
    assert record["checks"]["noise"]["student"]["change"]["mean"] == pytest.approx(np.mean(kept))
    assert len(record["flipping"]["shares"]) == len(SHARES)
    assert [each["file"] for each in record["pictures"]] == [
        f"{tmp_path.name}/integrated-gradients/image-0{place}.png" for place in range(2)
    ]
    with Image.open(tmp_path / "integrated-gradients" / "image-01.png") as picture:
        assert picture.size == (3 * 192 + 2 * 4, 192)


def test_an_interrupted_explanation_goes_on_and_ends_as_without_a_stop(
    compared: Compared, images: ImageSet, tmp_path: Path
) -> None:
    told: list[int] = []

    def listen(done: int, total: int, note: str = "") -> None:
        assert total == 6 * 8  # images, and maps of each: of five networks, of another class, and two under noise
        told.append(done)

    def stop(done: int, total: int, note: str = "") -> None:
        if 6 * done > 4 * total:
            raise KeyboardInterrupt

    whole = explain_student(compared, images, CONFIG, tmp_path / "whole" / "explain", progress=listen)
    assert told == sorted(told)
    assert told[-1] == 6 * 8
    assert len(set(told)) == 2 * 8 + 1
    with pytest.raises(KeyboardInterrupt):
        explain_student(compared, images, CONFIG, tmp_path / "stopped" / "explain", progress=stop)
    folder = tmp_path / "stopped" / "explain"
    assert len(rows_in(folder)) == 4
    path = folder / "integrated-gradients" / "images.json"
    kept = json.loads(path.read_text())
    kept["images"][0]["class"] = "1"  # the first rows are taken as they are
    path.write_text(json.dumps(kept))
    gone_on = explain_student(compared, images, CONFIG, folder)
    assert rows_in(folder)[0]["class"] == "1"
    assert gone_on["agreement"]["cosine"]["mean"] == pytest.approx(whole["agreement"]["cosine"]["mean"], abs=1e-6)
    areas = [each["flipping"]["teacher_model"]["random_order"] for each in (gone_on, whole)]
    assert areas[0] == pytest.approx(areas[1], abs=1e-6)
    (folder / "integrated-gradients" / "image-01.png").unlink()
    explain_student(replace(compared, student=student(7)), images, CONFIG, folder)
    assert (folder / "integrated-gradients" / "image-01.png").is_file()
    assert rows_in(folder)[0]["agreement"] != kept["images"][0]["agreement"]


def test_two_classes_have_no_other_class_as_a_floor(compared: Compared, images: ImageSet, tmp_path: Path) -> None:
    two = replace(
        compared,
        subtask=compared.teacher.subtask(["3", "1"]),
        student=student(1, 2),
        untrained=(student(2, 2),),
        rivals={},
    )
    record = explain_student(two, images, replace(CONFIG, method="lrp", images=2), tmp_path, left_out=["labels: none"])
    assert set(record["floors"]) == {"random_student"}
    assert record["left_out"][:2] == [
        "labels: none",
        "other_class: with two classes, what speaks for one speaks against the other, so it is no floor",
    ]


def test_a_method_that_fits_one_network_alone_is_refused_before_any_work(
    compared: Compared, images: ImageSet, tmp_path: Path
) -> None:
    mixed = replace(compared, student=small_network("vit", classes=3))
    with pytest.raises(UsageError, match="cannot explain VisionTransformer"):
        explain_student(mixed, images, replace(CONFIG, method="lrp"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "lpr"}, "method cannot be 'lpr'"),
        ({"images": 0}, "images must be a number of at least 1"),
        ({"steps": 0}, "steps must be"),
        ({"compute": "tpu"}, "compute cannot be 'tpu'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExplainConfig(**setting)


def test_the_sample_has_as_many_of_each_class_as_of_the_others(images: ImageSet) -> None:
    members = [np.flatnonzero(images.labels == label) for label in range(3)]
    crowded = images.select([*members[0], *members[1][:2], *members[2][:5]])
    assert np.bincount(sample_evenly(crowded, 9, 0).labels, minlength=3).tolist() in ([4, 2, 3], [3, 2, 4])
    drawn = sample_evenly(crowded, 6, 0)
    assert np.bincount(drawn.labels).tolist() == [2, 2, 2]
    assert [drawn.digest(row) for row in range(6)] == [sample_evenly(crowded, 6, 0).digest(row) for row in range(6)]
    assert sample_evenly(crowded, 100, 0) is crowded
