"""The data set of photographs: what is divided stays divided; and the grid, tried without a photograph."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image

from benchmarks.real import animals, pictures
from benchmarks.real.animals import CUT_OUTS, LENGTHS, SIDE, compose, cut_outs_of, describe, make_animals
from benchmarks.real.cells import CELLS, METHODS, PAIRS, SHRUNK_CELLS, WITH_LABELS, find_cell, plan_of
from benchmarks.real.landscapes import FORMATIONS, part_of
from benchmarks.real.pictures import LANDSCAPES, OTHERS, SPLITS, divide
from benchmarks.real.table import read_cells, real_lines
from benchmarks.real.teachers import REPEATS, with_timm_names
from edgedistill.comparison.methods import is_untrained
from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.errors import UsageError
from reference.lite0 import with_timm_names as with_names_of_lite0
from reference.photographs import photograph


def cut_out(seed: int) -> Image.Image:
    """Return an RGBA picture with an opaque rectangle inside a transparent frame."""
    image = photograph(seed, (90, 60)).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    opaque = photograph(seed + 1, (60, 40)).convert("RGBA")
    image.paste(opaque, (15, 10))
    return image


@pytest.mark.parametrize("names", [LANDSCAPES, OTHERS])
def test_every_photograph_is_in_one_split(names: tuple[str, ...]) -> None:
    divided = divide(names)
    assert sorted(name for split in SPLITS for name in divided[split]) == sorted(names)
    assert all(len(divided[split]) >= 3 for split in SPLITS)
    assert divide(tuple(reversed(names))) == divided


def test_a_class_with_several_cut_outs_keeps_one_for_the_test() -> None:
    for name, own in CUT_OUTS.items():
        assert cut_outs_of(name, "train") == cut_outs_of(name, "val")
        if len(own) > 1:
            assert not set(cut_outs_of(name, "test")) & set(cut_outs_of(name, "train"))
    assert describe({}, {})["one_cut_out"] == ["zebra", "hippopotamus"]
    assert sum(len(own) > 1 for own in CUT_OUTS.values()) == 6


def test_a_composed_image_has_the_animal_and_depends_on_its_draws_alone() -> None:
    background = photograph(9, (400, 300))

    def made(seed: int) -> np.ndarray:
        return np.asarray(compose(cut_out(1), background, np.random.default_rng(seed)))

    assert made(3).shape == (SIDE, SIDE, 3)
    assert np.array_equal(made(3), made(3))
    assert not np.array_equal(made(3), made(4))


def test_an_animal_fills_the_share_of_the_image_that_is_said() -> None:
    night, snowman = Image.new("RGB", (400, 300)), Image.new("RGBA", (60, 60), "white")

    def side(seed: int) -> float:
        """Return the square root of the lit area, as a share of the image's side."""
        lit = np.asarray(compose(snowman, night, np.random.default_rng(seed))).max(axis=2) > 60
        return float(np.sqrt(lit.mean()))

    sides = [side(seed) for seed in range(20)]
    # Tilted by 15 degrees a square's longer side is 1.23 times its own, and a part may reach out of the image.
    assert min(sides) > LENGTHS[0] / 1.35
    assert max(sides) < LENGTHS[1] + 0.01


def test_the_folders_are_those_that_a_command_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def photographs(_: Path) -> Mapping[str, Path]:
        return {name: Path(name) for name in (*LANDSCAPES, *OTHERS)}

    monkeypatch.setattr(animals, "find_photographs", photographs)
    monkeypatch.setattr(animals, "open_photograph", lambda path: photograph(len(str(path)), (400, 300)))
    monkeypatch.setattr(animals, "open_cut_out", lambda name, _: cut_out(len(name)))
    folder = make_animals(tmp_path / "animals", tmp_path, {"train": 2, "val": 1, "test": 1})
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        found = {path.parent.name: path for path in (folder / split).rglob("*.jpg")}
        assert set(found) == set(CUT_OUTS)
        assert len(list((folder / split).rglob("*.jpg"))) == count * len(CUT_OUTS)
    division = json.loads((folder / "division.json").read_text(encoding="utf-8"))
    shown = [name for split in SPLITS for name in division["backgrounds"][split]]
    assert len(set(shown)) == len(shown)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    make_animals(folder, tmp_path, {"train": 9, "val": 9, "test": 9})
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_tensors_of_a_package_get_the_names_of_timm() -> None:
    # The package's names follow from timm's by the inverse of an independent table, for lite0; lite2 has more blocks.
    inner = ("_expand_conv.weight", "_bn0.weight", "_depthwise_conv.weight", "_bn1.bias", "_project_conv.weight")
    names = ["_conv_stem.weight", "_bn0.running_mean", "_conv_head.weight", "_bn1.weight", "_fc.bias"]
    for size, repeats in REPEATS.items():
        blocks = [f"_blocks.{place}.{name}" for place in range(1, sum(repeats)) for name in inner]
        state: dict[str, Any] = dict.fromkeys([*names, "_blocks.0._project_conv.weight", *blocks])
        renamed = with_timm_names(state, repeats)
        known = timm.create_model(f"tf_efficientnet_{size}", pretrained=False).state_dict()
        assert set(renamed) <= set(known)
        assert len(renamed) == len(state)
        if size == "lite0":
            assert renamed == with_names_of_lite0(state)


def test_the_grid_names_classes_of_imagenet_and_plans_every_cell(tmp_path: Path) -> None:
    labels = [label.split(",")[0] for label in labels_of_synsets().values()]
    assert set(CUT_OUTS) <= set(labels)
    assert set(FORMATIONS) <= set(labels)
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    assert find_cell(CELLS[0].name) == CELLS[0]
    with pytest.raises(UsageError, match="There is no cell 'animals'; there are animals-lite0-under-lite2-300"):
        find_cell("animals")
    with pytest.raises(UsageError, match=r"benchmarks\.real\.prepare"):
        plan_of(CELLS[0], tmp_path)
    for folder in ("animals", "landscapes"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "division.json").write_text('{"classes": ["alp", "valley"]}', encoding="utf-8")
    for pair in PAIRS.values():
        (tmp_path / pair.teacher).mkdir(exist_ok=True)
        (tmp_path / pair.teacher / "model.safetensors").touch()
    for cell in CELLS:
        plan = plan_of(cell, tmp_path, seeds=2, epochs=3)
        assert plan.sizes == (cell.count,)
        assert set(plan.methods) == {*METHODS, *(WITH_LABELS if cell.is_labelled else ())}
        epochs = {
            name: plan.config(plan.tasks[0], name, 0, 1.0).epochs
            for name, own in plan.methods.items()
            if not is_untrained(own)
        }
        assert epochs.pop("patient") == 9
        assert set(epochs.values()) == {3}


def test_the_table_says_what_was_found_and_which_cells_are_missing(tmp_path: Path) -> None:
    assert real_lines(read_cells(tmp_path)) == []
    lead = {"mean": 0.031, "interval": [0.01, 0.052]}
    rows = [
        {"method": "subdistill", "mean": 0.91, "deviation": 0.012, "difference": None},
        {"method": "logits", "mean": 0.879, "deviation": None, "difference": lead},
    ]
    task = {"image_size": 128, "settings": {"epochs": 6}}
    worth = [{"sentence": "subdistill was worth it."}]
    record = {"rows": rows, "worth": worth, "teacher_accuracy": 0.95, "tasks": [task], "seeds": [0, 1]}
    (tmp_path / CELLS[0].name).mkdir()
    (tmp_path / CELLS[0].name / "comparison.json").write_text(json.dumps(record), encoding="utf-8")
    text = "\n".join(real_lines(read_cells(tmp_path)))
    assert "subdistill was worth it. SubDistill's lead in points on logits (+3.1 [+1.0, +5.2])." in text
    assert "`tf_efficientnet_lite0` with its trained weights under EfficientNet-Lite2, animals, 300 images" in text
    assert "of 128 pixels, 6 epochs, 2 seeds" in text
    assert "| subdistill | 91.0 ± 1.2 |" in text
    assert "| logits | 87.9 (+3.1 [+1.0, +5.2]) |" in text
    assert "| vid | – |" in text
    assert f"Not run: {', '.join(cell.name for cell in CELLS[1:])}." in text


def test_the_splits_of_a_landscape_show_other_parts_of_it() -> None:
    wide = photograph(4, (1000, 400))
    parts = [np.asarray(part_of(wide, split)) for split in SPLITS]
    assert np.array_equal(np.concatenate(parts, axis=1), np.asarray(wide))


def test_a_photograph_is_opened_small(tmp_path: Path) -> None:
    photograph(1, (2400, 1200)).save(tmp_path / "large.jpg")
    assert max(pictures.open_photograph(tmp_path / "large.jpg").size) == pictures.LARGEST


def test_the_shrunk_teacher_is_the_same_network_in_all_its_cells(tmp_path: Path) -> None:
    (tmp_path / "animals").mkdir()
    (tmp_path / "lite0").mkdir()
    (tmp_path / "animals" / "division.json").touch()
    (tmp_path / "lite0" / "model.safetensors").touch()
    tasks = [plan_of(find_cell(cell.name), tmp_path).tasks[0] for cell in SHRUNK_CELLS]
    assert {task.student for task in tasks} == {"teacher:0.5"}
    assert [(task.student_channels, task.student_weights) for task in tasks] == [
        ("relevance", "auto"),
        ("taylor", "auto"),
        ("magnitude", "auto"),
        ("random", "auto"),
        ("", "none"),
    ]
