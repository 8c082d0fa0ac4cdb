"""The glyph set: what is drawn, what is skipped, and that no family is on both sides of a split."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

pytest.importorskip("benchmarks.glyphs", reason="the benchmarks are not part of the installed package")

from benchmarks.glyphs import fonts, render
from benchmarks.glyphs.glyphset import CHARACTERS, SUPERCLASSES, TRAIN, GlyphSet, read_glyphs, write_glyphs
from edgedistill_deploy.errors import DataError, UsageError

LETTERS = "0123456789ABab"


@pytest.fixture(scope="module")
def font_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the one TrueType font that Pillow carries, whatever is installed."""
    carried = ImageFont.load_default(20)
    if not isinstance(carried, ImageFont.FreeTypeFont):
        pytest.skip("this Pillow was built without FreeType")
    folder = tmp_path_factory.mktemp("fonts")
    (folder / "carried.ttf").write_bytes(carried.font_bytes)
    return folder


def survey(folder: Path, characters: str = LETTERS) -> list[fonts.FontFile]:
    return fonts.survey_fonts(fonts.find_font_files([folder]), characters)


def test_a_set_has_every_character_the_font_draws(font_folder: Path) -> None:
    glyphs = render.render_glyphs(survey(font_folder), render.RenderConfig(characters=LETTERS))
    assert glyphs.images.shape == (len(LETTERS), 32, 32)
    assert glyphs.images.dtype == np.uint8
    assert glyphs.class_names == tuple(LETTERS)
    assert glyphs.labels.tolist() == list(range(len(LETTERS)))
    assert (glyphs.images.reshape(len(glyphs), -1).max(1) > 128).all()


def test_no_ink_touches_the_border(font_folder: Path) -> None:
    images = render.render_glyphs(survey(font_folder), render.RenderConfig(characters=LETTERS)).images
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert border.max() < 64


def test_the_seed_decides_the_pictures(font_folder: Path) -> None:
    config = render.RenderConfig(characters=LETTERS)
    first, again = (render.render_glyphs(survey(font_folder), config).images for _ in range(2))
    other = render.render_glyphs(survey(font_folder), render.RenderConfig(characters=LETTERS, seed=1)).images
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_another_font_beside_it_changes_nothing(font_folder: Path) -> None:
    font = survey(font_folder)[0]
    stranger = fonts.FontFile(path=font.path, family="aaa stranger", characters=LETTERS)
    config = render.RenderConfig(characters=LETTERS)
    alone = render.render_glyphs([font], config)
    both = render.render_glyphs([font, stranger], config)
    np.testing.assert_array_equal(both.images[both.family == both.family.max()], alone.images)


def test_characters_the_font_lacks_are_skipped(font_folder: Path) -> None:
    absent = "ऄ㐂"
    assert survey(font_folder, LETTERS + absent)[0].characters == LETTERS


def test_a_font_that_draws_one_picture_for_all_keeps_one() -> None:
    class OneBox:
        def getbbox(self, text: str) -> tuple[int, int, int, int]:
            return (0, 0, 0, 0) if text == fonts.UNASSIGNED else (0, 0, 8, 8)

    picture = fonts.draw_ink(ImageFont.load_default(20), "A")  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fonts, "draw_ink", lambda font, text: None if text == fonts.UNASSIGNED else picture)
        assert fonts.drawn_characters(OneBox(), "abA") == "A"  # type: ignore[arg-type]


def test_broken_and_picture_fonts_are_left_out(font_folder: Path, tmp_path: Path) -> None:
    whole = (font_folder / "carried.ttf").read_bytes()
    (tmp_path / "broken.ttf").write_bytes(whole[:200])
    (tmp_path / "MyDingbats.ttf").write_bytes(whole)
    (tmp_path / "notes.txt").write_bytes(whole)
    assert survey(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "key"), [("Lato Semibold Italic", "lato"), ("DejaVu Sans Condensed", "dejavu sans"), ("Black", "black")]
)
def test_members_of_a_family_share_a_key(name: str, key: str) -> None:
    assert fonts.family_key(name) == key


def test_one_design_under_two_names_is_one_family(font_folder: Path) -> None:
    members = [("b", "x"), ("a", "x"), ("b", "y"), ("c", "y"), ("d", "z")]
    assert fonts._merge_families(members) == {"a": "a", "b": "a", "c": "a", "d": "d"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("uvwxyz")), min_size=1))
def test_families_that_share_a_drawing_are_never_apart(members: list[tuple[str, str]]) -> None:
    merged = fonts._merge_families(members)
    by_drawing: dict[str, set[str]] = {}
    for family, drawing in members:
        by_drawing.setdefault(drawing, set()).add(merged[family])
    assert all(len(families) == 1 for families in by_drawing.values())


def test_families_go_to_the_splits_in_their_shares() -> None:
    splits = np.bincount([render.split_of_family(f"family {number}") for number in range(2000)], minlength=3)
    np.testing.assert_allclose(splits / 2000, [0.6, 0.2, 0.2], atol=0.04)


def test_a_family_lies_in_one_split(font_folder: Path) -> None:
    font = survey(font_folder)[0]
    crowd = [fonts.FontFile(path=font.path, family=f"family {n}", characters="01") for n in range(12)]
    glyphs = render.render_glyphs(crowd * 2, render.RenderConfig(characters="01"))
    for family in set(glyphs.family.tolist()):
        assert len(set(glyphs.split[glyphs.family == family].tolist())) == 1


def test_a_set_survives_the_file(tmp_path: Path, font_folder: Path) -> None:
    glyphs = render.render_glyphs(survey(font_folder), render.RenderConfig(characters=LETTERS))
    for name in ("first", "second"):
        write_glyphs(tmp_path / f"{name}.npz", glyphs)
    again = read_glyphs(tmp_path / "first.npz")
    np.testing.assert_array_equal(again.images, glyphs.images)
    assert again.class_names == glyphs.class_names
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    with np.load(tmp_path / "first.npz", allow_pickle=False) as arrays:
        assert arrays["superclass"].tolist()[:2] == ["digits-low", "digits-low"]


def test_only_relabels_in_the_order_given() -> None:
    glyphs = GlyphSet(
        images=np.arange(4, dtype=np.uint8).reshape(4, 1, 1),
        labels=np.array([0, 1, 2, 1], np.uint8),
        class_names=("a", "b", "c"),
        family=np.zeros(4, np.uint16),
        split=np.array([TRAIN, 1, 2, 0], np.uint8),
    )
    kept = glyphs.only("cb")
    assert kept.images.ravel().tolist() == [1, 2, 3]
    assert kept.labels.tolist() == [1, 0, 1]
    assert kept.split.tolist() == [1, 2, 0]


def test_the_characters_are_a_hundred_in_twenty_superclasses() -> None:
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 100
    assert {len(members) for members in SUPERCLASSES.values()} == {5}


@pytest.mark.parametrize("wrong", [{"characters": "aab"}, {"characters": ""}])
def test_repeated_characters_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="must be distinct and at least one"):
        render.RenderConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"size": 4}, {"fonts_per_family": 0}])
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="image side must be at least 8"):
        render.RenderConfig(**wrong)  # type: ignore[arg-type]


def test_no_fonts_is_said() -> None:
    with pytest.raises(DataError, match="No font draws any of the characters: install some"):
        render.render_glyphs([])


def test_a_file_that_is_no_glyph_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.npz").write_text("no")
    np.savez(tmp_path / "poor.npz", images=np.zeros((1, 2, 2), np.uint8))
    for name in ("wrong.npz", "poor.npz", "absent.npz"):
        with pytest.raises(DataError, match=rf"{name} is not a glyph set"):
            read_glyphs(tmp_path / name)
