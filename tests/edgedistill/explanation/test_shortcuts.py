"""A mark in one class is found where a network draws on it, and no healthy class is accused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from command import run_command
from edgedistill.explanation.config import ExplainConfig
from edgedistill.explanation.shortcuts.changes import put_on, take_out
from edgedistill.explanation.shortcuts.criterion import LEAST_IMAGES, LEVEL, judge_places
from edgedistill.explanation.shortcuts.looking import find_shortcuts
from edgedistill.explanation.shortcuts.regions import find_regions, grid_of, name_place, pixels_of, region_shares
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.images.arrays import build_array_images
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet

SIDE, BAR, MARK = 28, 10, 5
CLASSES = ("rows", "columns", "slopes")
CONFIG = ExplainConfig(method="lrp", images=48, batch_size=16, compute="cpu")
Pixels = NDArray[np.uint8]


def draw_images(count: int, seed: int, *, marked: int | None) -> ImageSet:
    """Return images with a patch of stripes anywhere; those of one class may have a magenta mark in a corner."""
    generator = np.random.default_rng(seed)
    places = np.arange(BAR)
    stripes = [
        np.broadcast_to((places // 2 % 2)[:, None], (BAR, BAR)),
        np.broadcast_to((places // 2 % 2)[None, :], (BAR, BAR)),
        (places[:, None] + places[None, :]) // 2 % 2,
    ]
    labels = np.arange(count) % len(CLASSES)
    pixels = generator.integers(110, 146, (count, SIDE, SIDE, 1), dtype=np.uint8).repeat(3, axis=-1)
    for image, label in zip(pixels, labels, strict=True):
        top, left = generator.integers(0, SIDE - BAR, 2)
        image[top : top + BAR, left : left + BAR] = (60 + 136 * stripes[label])[..., None]
        if label == marked:
            image[-MARK:, -MARK:] = (230, 30, 230)
    return build_array_images(CLASSES, labels, pixels, "stripes.npz")


class Stripes(nn.Module):
    """Sees the three kinds of stripes by their edges, and takes magenta for the first kind, as told."""

    def __init__(self, magenta: float) -> None:
        super().__init__()
        grey = torch.full((3,), 1 / 3)
        across = torch.tensor([[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]]) / 6
        slope = torch.tensor([[-2.0, -1, 0], [-1, 0, 1], [0, 1, 2]]) / 8
        filters = [across, -across, across.T, -across.T, slope, -slope]
        self.conv = nn.Conv2d(3, 7, 3, padding=1)
        self.head = nn.Linear(7, 3)
        weight = torch.stack([grey[:, None, None] * each for each in filters] + [torch.zeros(3, 3, 3)])
        weight[6, :, 1, 1] = torch.tensor([0.5, -1.0, 0.5])
        self.conv.weight.data = weight
        self.conv.bias = nn.Parameter(torch.tensor([-0.05] * 6 + [-0.3]))
        head = torch.tensor([[1.0, -0.5, -0.3], [-0.5, 1.0, -0.3], [-0.3, -0.3, 1.0]]).repeat_interleave(2, dim=1)
        self.head.weight.data = 40 * torch.cat([head, magenta * torch.tensor([[1.0], [-0.5], [-0.5]])], dim=1)
        self.head.bias.data = torch.zeros(3)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.conv(images)).mean(dim=(2, 3)))
        return found


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(
        name="stripes",
        model=Stripes(0.0).eval(),
        class_names=CLASSES,
        preprocess=Preprocess(size=(SIDE, SIDE)),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def look(teacher: Teacher, student: nn.Module, images: ImageSet, folder: Path, **changes: Any) -> dict[str, Any]:
    config = replace(CONFIG, **changes)
    folder.mkdir(exist_ok=True)
    return find_shortcuts(teacher, teacher.subtask(CLASSES), student, images, config, folder / "explain", inside=folder)


@pytest.mark.parametrize("seed", range(3))
def test_a_mark_that_the_student_draws_on_is_found_in_its_class_alone(
    teacher: Teacher, seed: int, tmp_path: Path
) -> None:
    images = draw_images(60, seed, marked=0)
    record = look(teacher, Stripes(4.0).eval(), images, tmp_path)
    assert record == json.loads((tmp_path / "explain" / "shortcuts.json").read_text())
    (found,) = record["findings"]
    assert found["class"] == "rows"
    assert {each["network"] for each in found["stands_out"]} == {"student"}
    assert {tuple(cell) for cell in found["cells"]} <= {(row, column) for row in (5, 6) for column in (5, 6)}
    assert [6, 6] in found["cells"]
    # On images of other classes the mark alone decides for the student, and nothing for the teacher.
    assert found["pasted"]["student"]["before"] < 0.2
    assert found["pasted"]["student"]["after"] > 0.8
    assert found["pasted"]["student"]["interval"][0] > 0.5
    assert found["answers_rest_on_it"]
    assert found["pasted"]["teacher"]["after"] == found["pasted"]["teacher"]["before"]
    with Image.open(tmp_path / found["pictures"][0]) as picture:
        assert picture.size == (4 * 192 + 3 * 4, 192)
    assert any(
        sentence.startswith("rows: the expert looks at the bottom right corner") for sentence in record["sentences"]
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_class_is_accused_without_a_mark_or_by_networks_that_pass_it_over(
    teacher: Teacher, seed: int, tmp_path: Path
) -> None:
    for marked, magenta in ((None, 4.0), (0, 0.0)):
        images = draw_images(60, 10 + seed, marked=marked)
        record = look(teacher, Stripes(magenta).eval(), images, tmp_path / str(magenta))
        assert record["findings"] == []
        assert record["sentences"][0].startswith("no place speaks for one class alone, on 48 images")
        assert not list(tmp_path.rglob("*.png"))


def test_what_taking_the_mark_out_costs_is_counted_on_the_images(teacher: Teacher, tmp_path: Path) -> None:
    """A student that sees nothing but the mark loses its class with it, and no other class."""
    student = Stripes(4.0).eval()
    with torch.no_grad():
        student.head.weight[:, :6] = 0
        student.head.bias[:] = torch.tensor([-1.0, 0.0, -2.0])
    images = draw_images(48, 5, marked=0)
    found = look(teacher, student, images, tmp_path)["findings"][0]["inpainted"]["student"]
    assert (found["of_class"]["images"], found["others"]["images"]) == (16, 32)
    assert (found["of_class"]["before"], found["of_class"]["after"], found["of_class"]["drop"]) == (1.0, 0.0, 1.0)
    assert found["others"]["before"] == found["others"]["after"] == 0.5
    low, high = found["of_class"]["interval"]
    assert 0.5 < low < high <= 1
    shown = run_command("show", tmp_path / "explain" / "shortcuts.json")
    assert shown.code == 0, shown.stderr
    for text in (
        "rows: the expert looks at",
        "without this place the expert is right on 0% of its images",
        "pictures of",
    ):
        assert text in shown.stdout


def test_a_place_that_changes_no_answer_is_said_to_change_none(teacher: Teacher, tmp_path: Path) -> None:
    """The mark speaks for its class, yet as little as the bias of the class speaks against it."""
    student = Stripes(0.02).eval()
    with torch.no_grad():
        student.conv.weight[:6] = 0  # the maps have nothing but the mark, and the answers nothing but the bias
        student.head.bias[:] = torch.tensor([-5.0, 0.0, 5.0])
    record = look(teacher, student, draw_images(48, 5, marked=0), tmp_path)
    (found,) = record["findings"]
    assert found["class"] == "rows"
    assert not found["answers_rest_on_it"]
    assert "rows: as far as these images tell, its answers do not rest on this place" in record["sentences"][-1]


def test_an_interrupted_search_goes_on_and_forgets_the_pictures_of_another(teacher: Teacher, tmp_path: Path) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done == 32:
            raise KeyboardInterrupt

    student, images = Stripes(4.0).eval(), draw_images(60, 0, marked=0)
    whole = look(teacher, student, images, tmp_path / "whole")
    folder = tmp_path / "stopped"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        find_shortcuts(
            teacher, teacher.subtask(CLASSES), student, images, CONFIG, folder / "explain", inside=folder, progress=stop
        )
    kept = json.loads((folder / "explain" / "shortcuts" / "images.json").read_text())
    assert len(kept["images"]) == 32
    calls = []
    student.conv.register_forward_hook(lambda *_: calls.append(1))
    gone_on = look(teacher, student, images, folder)
    assert gone_on["findings"][0]["cells"] == whole["findings"][0]["cells"]
    assert gone_on["classes"] == whole["classes"]
    first = len(calls)
    look(teacher, student, images, folder)
    assert len(calls) - first < first  # maps and changes are not made again
    assert list(folder.rglob("place-*.png"))
    look(teacher, Stripes(0.0).eval(), images, folder)
    assert not list(folder.rglob("place-*.png"))


def test_images_without_labels_are_judged_by_the_teacher(teacher: Teacher, tmp_path: Path) -> None:
    images = draw_images(48, 3, marked=0)
    labelled = look(teacher, Stripes(4.0).eval(), images, tmp_path / "labelled")
    unlabelled = replace(images, labels=np.full(48, -1))  # type: ignore[type-var]  # it is a data class
    record = look(teacher, Stripes(4.0).eval(), unlabelled, tmp_path / "unlabelled")
    assert (labelled["judged_by"], record["judged_by"]) == ("labels", "teacher")
    (found,) = record["findings"]
    assert found["class"] == "rows"
    assert found["inpainted"]["teacher"]["of_class"]["before"] == 1.0


def test_a_class_with_few_images_is_named_and_left_out(teacher: Teacher, tmp_path: Path) -> None:
    images = draw_images(48, 3, marked=0)
    few = images.select([*np.flatnonzero(images.labels == 0)[:3], *np.flatnonzero(images.labels > 0)])
    record = look(teacher, Stripes(4.0).eval(), few, tmp_path)
    assert record["findings"] == []
    assert record["left_out"] == [
        "rows: the teacher sees it in fewer than 4 of these 35 images, too few to tell; more --images can help"
    ]
    one = look(teacher, Stripes(4.0).eval(), few.select([0, 1, 2]), tmp_path)
    assert one["sentences"] == [
        "places of one class cannot be told from those of others: fewer than two classes have enough images"
    ]


@pytest.mark.parametrize("size", [(28, 28), (30, 17), (5, 3), (224, 160)])
def test_shares_of_the_cells_are_sums_of_their_pixels(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(1).normal(size=(2, *size))
    grid = grid_of(*size)
    regions = find_regions(grid)
    found = region_shares(maps, grid)
    for place, region in enumerate(regions):
        pixels = pixels_of(region.cells, size)
        for image, relevance in enumerate(maps):
            positive = [max(0.0, value) for value in relevance[pixels]]
            assert found[image, place] == pytest.approx(sum(positive) / np.maximum(relevance, 0).sum())
    assert found[:, : grid[0] * grid[1]].sum(axis=1) == pytest.approx([1, 1])
    assert not region_shares(-np.abs(maps), grid).any()


def test_places_are_named_by_the_smallest_that_holds_them() -> None:
    def named(*cells: tuple[int, int]) -> str:
        place = np.zeros((7, 7), dtype=bool)
        place[tuple(np.transpose(cells))] = True
        return name_place(place)

    assert named((5, 6), (6, 6)) == "the bottom right corner"
    assert named((0, 1), (0, 5)) == "the top edge"
    assert named((0, 3), (6, 3)) == "the border"
    assert named((6, 6)) == "row 7, column 7 of a grid of 7 x 7"
    assert named((2, 3), (3, 5)) == "rows 3 to 4, columns 4 to 6 of a grid of 7 x 7"


def test_a_place_needs_a_rank_test_an_excess_and_a_ratio() -> None:
    generator = np.random.default_rng(0)
    seen = np.repeat(np.arange(4), 10)
    shares = generator.uniform(0.0, 0.05, (40, 5))
    shares[seen == 2, 0] += 0.3  # stands out
    shares[seen == 2, 1] += 0.06  # significant, yet little
    shares[seen >= 2, 2] += 0.3  # two classes have it
    shares[:, 3] += 0.4  # all have much there, one more than others
    shares[seen == 1, 3] += 0.15
    shares[3, 4] = 0.9  # one image alone
    judged = judge_places({"student": shares}, seen)
    assert judged.tests == 4 * 5
    (only,) = judged.suspicions
    assert (only.network, only.label, only.region, only.next_label) == (
        "student", 2, 0, int(np.argmax([shares[seen == label, 0].mean() if label != 2 else 0 for label in range(4)])),
    )  # fmt: skip
    assert only.share == pytest.approx(shares[seen == 2, 0].mean())
    p = mannwhitneyu(shares[seen == 2, 0], shares[seen != 2, 0], alternative="greater").pvalue
    assert p <= only.p_adjusted <= 20 * p


def test_random_shares_accuse_a_class_no_more_often_than_the_level_says() -> None:
    generator = np.random.default_rng(0)
    seen = np.repeat(np.arange(5), LEAST_IMAGES)
    # A few places have most of each map, so that large differences are common.
    draws = [generator.dirichlet(np.full(6, 0.3), size=len(seen)) for _ in range(100)]
    accusing = sum(bool(judge_places({"teacher": shares}, seen).suspicions) for shares in draws)
    assert accusing <= 100 * LEVEL


def test_a_place_is_taken_out_and_put_on_where_it_is() -> None:
    pixels = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    place = torch.zeros(8, 8, dtype=torch.bool)
    place[6:, 6:] = True
    out = take_out(pixels, place, torch.tensor([0.0, 0, 0]))
    assert torch.equal(out[:, ~place], pixels[:, ~place].float())
    assert not torch.equal(out[:, place], pixels[:, place].float())
    assert bool((out >= pixels.amin()).all() & (out <= pixels.amax()).all())
    donors = pixels[:2].flip(1)
    put = put_on(pixels, place, donors, first=1)
    assert torch.equal(put[:, ~place], pixels[:, ~place])
    assert torch.equal(put[0][place], donors[1][place])
    assert torch.equal(put[1][place], donors[0][place])
