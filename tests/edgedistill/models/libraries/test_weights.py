"""State dicts are read as they are found, and what does not fit is shown from both sides."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from edgedistill.models.libraries._weights import choose_candidate, describe_mismatch, read_checkpoint
from edgedistill.models.libraries.messages import first_line
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.errors import DataError
from reference.foreign_teachers import LABELS, small_timm, write_labels

NAMES = ["conv1.weight", "bn1.bias", "blocks.0.fc.weight", "fc.weight", "fc.bias"]


def state_of(names: list[str]) -> dict[str, Tensor]:
    return {name: torch.full((2,), float(place)) for place, name in enumerate(names)}


def teacher_of(path: Path, name: str = "test_resnet", **options: Any) -> Teacher:
    return load_teacher(f"timm:{name}", weights=path, classes=write_labels(path.with_suffix(".txt")), **options)


def same_answers(teacher: Teacher, model: torch.nn.Module, side: int = 160) -> bool:
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return bool(torch.equal(teacher.model(images), model(images)))


@given(
    prefix=st.lists(st.sampled_from(["module", "_orig_mod", "model", "backbone", "net", "any"]), max_size=3),
    key=st.sampled_from(["", "state_dict", "model", "net", "model_state_dict", "ema", "state_dict_ema", "whatever"]),
    counters=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_one_prefix_and_one_level_come_off_and_no_tensor_moves(prefix: list[str], key: str, counters: bool) -> None:
    wanted = state_of([*NAMES, "bn1.num_batches_tracked"])
    held = state_of(NAMES + ["bn1.num_batches_tracked"] * counters)
    state = {".".join([*prefix, name]): tensor for name, tensor in held.items()}
    checkpoint = {key: state, "epoch": 3, "optimizer": {"state": {}}} if key else state
    chosen = choose_candidate(checkpoint, wanted)
    assert chosen is not None
    assert chosen.key == key
    assert chosen.prefix == "".join(f"{part}." for part in prefix)
    assert {name: tensor.tolist() for name, tensor in chosen.state.items()} == {
        name: tensor.tolist() for name, tensor in held.items()
    }
    note = chosen.note(Path("w.pth"))
    assert bool(note) == bool(key or prefix)


@given(missing=st.sampled_from(NAMES), prefix=st.sampled_from(["", "module."]))
@settings(max_examples=20, deadline=None)
def test_nothing_is_chosen_where_a_name_is_missing(missing: str, prefix: str) -> None:
    state = state_of([f"{prefix}{name}" for name in NAMES if name != missing])
    assert choose_candidate({"state_dict": state}, state_of(NAMES)) is None
    assert describe_mismatch({"state_dict": state}, state_of(NAMES)) == (
        f"4 of 5 names match; only the model has `{missing}`"
    )


def test_averaged_weights_are_taken_before_the_others() -> None:
    checkpoint = {"state_dict": state_of(NAMES), "state_dict_ema": state_of(NAMES)}
    chosen = choose_candidate(checkpoint, state_of(NAMES))
    assert chosen is not None
    assert chosen.key == "state_dict_ema"


def test_names_that_do_not_fit_are_shown_from_both_sides_and_whole() -> None:
    long = "a_very_long_name_" * 8
    said = describe_mismatch(state_of(["_conv_stem.weight", "_blocks.0._bn0.bias", long]), state_of(NAMES))
    assert said == (
        f"0 of 5 names match; yours begin `_conv_stem`, `_blocks.0`, `{long}`; "
        "the model's begin `conv1`, `bn1`, `blocks.0`, `fc`"
    )


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: state, None),
        (lambda state: {f"module.{name}": each for name, each in state.items()}, "the prefix 'module.'"),
        (lambda state: {"epoch": 7, "net": state, "optimizer": {}}, "under 'net'"),
        (lambda state: {"model": {f"_orig_mod.{k}": v for k, v in state.items()}}, "'model' was used and the prefix"),
    ],
)
def test_a_teacher_is_filled_from_such_files_and_says_what_was_taken_off(
    tmp_path: Path, wrap: Any, note: str | None
) -> None:
    model = small_timm()
    torch.save(wrap(model.state_dict()), tmp_path / "w.pth")
    teacher = teacher_of(tmp_path / "w.pth")
    assert same_answers(teacher, model)
    assert [note in each for each in teacher.notes] == [True] * (note is not None) if note else teacher.notes == ()


def test_weights_of_other_widths_are_refused_with_both_shapes(tmp_path: Path) -> None:
    save_file(small_timm(channels=(32, 48, 48, 64)).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"do not fit timm:test_resnet: \S+ is \(\d+,.*\) and the model's is \("):
        teacher_of(tmp_path / "w.safetensors")


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": {"lr": 0.1}}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="holds no state dict"):
        read_checkpoint(tmp_path / "w.pth")


def test_objects_beside_the_tensors_are_named_and_not_loaded(tmp_path: Path) -> None:
    torch.save({"state_dict": small_timm().state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    with pytest.raises(DataError) as refused:
        read_checkpoint(tmp_path / "w.pth")
    assert str(refused.value) == (
        f"The weights {tmp_path / 'w.pth'} cannot be read without running code from them (besides tensors they hold an "
        "object of argparse.Namespace); save them as safetensors or as a plain state dict."
    )


def test_a_message_of_a_library_becomes_plain_text() -> None:
    error = ValueError("\n two \x1b[1mbold\x1b[0m words\x07. \nand more")
    assert first_line(error) == "two bold words"


def test_a_transformer_is_built_at_the_size_asked_for_so_its_positions_stay(tmp_path: Path) -> None:
    model = small_timm("test_vit", img_size=64)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    teacher = teacher_of(tmp_path / "w.safetensors", "test_vit", image_size=64)
    assert same_answers(teacher, model, 64)
    assert teacher.notes == ()


def test_positions_of_another_size_are_resampled_as_timm_does(tmp_path: Path) -> None:
    model: Any = small_timm("test_vit", img_size=64)
    torch.save({"module." + name: each for name, each in model.state_dict().items()}, tmp_path / "w.pth")
    teacher = teacher_of(tmp_path / "w.pth", "test_vit")
    model.set_input_size(img_size=(160, 160))  # timm's own resampling
    assert same_answers(teacher, model)
    assert any("timm resampled it: pos_embed is (1, 17, 64)" in note for note in teacher.notes)
    assert any("'module.'" in note for note in teacher.notes)


def test_a_teacher_of_grey_images_gets_the_grey_of_colours(tmp_path: Path) -> None:
    model = small_timm(in_chans=1)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    teacher = teacher_of(tmp_path / "w.pth")
    assert teacher.class_names == LABELS
    colours = torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    red, green, blue = colours.double().unbind(dim=3)
    grey = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    expected = model(((grey - teacher.mean[0]) / teacher.std[0]).float()[:, None])
    assert torch.allclose(teacher.model(teacher.normalise()(colours)), expected, atol=1e-4)
