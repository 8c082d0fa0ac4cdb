import contextlib
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.decode import read_image
from reference.image_files import chunk, encoded, png, quadrants

_ORIENTATION = 0x0112


def _read(data: bytes) -> Any:
    image = read_image(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_give_the_pixels_written(kind: str) -> None:
    if kind in ("WEBP", "JPEG2000") and not features.check({"WEBP": "webp", "JPEG2000": "jpg_2000"}[kind]):
        pytest.skip(f"this Pillow was built without {kind}")
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(_read(encoded(Image.fromarray(quadrants()), kind, **options)), quadrants())


def test_jpeg_gives_the_picture_nearly() -> None:
    image = Image.fromarray(quadrants(32, 64))
    read = _read(encoded(image, "JPEG", quality=95, subsampling=0))
    assert np.abs(read - quadrants(32, 64)).mean() < 2


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: np.rot90(a, 2)),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: np.rot90(a.transpose(1, 0, 2), 2)),
        (8, lambda a: np.rot90(a, 3)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_undone(orientation: int, turn: Any, kind: str) -> None:
    upright = quadrants()
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    # The stored pixels are the upright ones, turned the other way round.
    stored = Image.fromarray(np.ascontiguousarray(turn(upright)))
    np.testing.assert_array_equal(_read(encoded(stored, kind, exif=exif)), upright)


def test_damaged_exif_does_not_cost_the_image() -> None:
    data = encoded(Image.fromarray(quadrants()), "PNG", exif=b"Exif\x00\x00II*\x00" + b"\xff" * 40)
    np.testing.assert_array_equal(_read(data), quadrants())


def test_unreadable_orientation_does_not_cost_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(image: Image.Image) -> Image.Image:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr("edgedistill_deploy.images.decode.ImageOps.exif_transpose", broken)
    np.testing.assert_array_equal(_read(encoded(Image.fromarray(quadrants()))), quadrants())


def test_grey_is_repeated_over_the_channels() -> None:
    grey = np.arange(240, dtype=np.uint8).reshape(12, 20)
    np.testing.assert_array_equal(_read(encoded(Image.fromarray(grey))), np.stack([grey] * 3, axis=-1))


def test_one_bit_is_black_and_white() -> None:
    bits = np.indices((8, 16)).sum(axis=0) % 2 == 0
    for kind in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(_read(encoded(Image.fromarray(bits), kind))[..., 0], np.where(bits, 255, 0))


def _over_white(rgb: Any, alpha: Any) -> Any:
    weight = alpha[..., None] / 255
    return rgb * weight + 255 * (1 - weight)


def _alpha_ramp() -> Any:
    return np.linspace(0, 255, 240).round().astype(np.uint8).reshape(12, 20)


def test_alpha_is_composited_on_white() -> None:
    rgba = np.dstack([quadrants(), _alpha_ramp()])
    wanted = _over_white(quadrants(), _alpha_ramp())
    assert np.abs(_read(encoded(Image.fromarray(rgba))) - wanted).max() <= 1


def test_grey_with_alpha_is_composited_on_white() -> None:
    grey = np.full((12, 20), 60, dtype=np.uint8)
    la = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(_alpha_ramp())])
    wanted = _over_white(np.stack([grey] * 3, axis=-1), _alpha_ramp())
    assert np.abs(_read(encoded(la)) - wanted).max() <= 1


@pytest.mark.parametrize("premultiplied", ["RGBa", "La", "PA"])
def test_rarer_modes_with_alpha_are_composited_on_white(premultiplied: str) -> None:
    from edgedistill_deploy.images.colour import rgb_of

    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image = {
        "RGBa": clear.convert("RGBa"),
        "La": clear.convert("LA").convert("La"),
        "PA": clear.convert("P").convert("PA"),
    }[premultiplied]
    if premultiplied == "PA":
        image.putalpha(Image.new("L", (4, 4), 0))
    assert np.asarray(rgb_of(image)).min() == 255


def _palette_image() -> Image.Image:
    image = Image.new("P", (4, 2))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    image.putdata([0, 1, 2, 1, 0, 1, 2, 1])
    return image


_WHITE, _RED, _BLUE, _BLACK = (255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0)


def test_palette_without_transparency() -> None:
    read = _read(encoded(_palette_image()))
    assert [tuple(pixel) for pixel in read[0]] == [_BLACK, _RED, _BLUE, _RED]


def test_a_transparent_palette_entry_is_white() -> None:
    for kind in ("PNG", "GIF"):
        read = _read(encoded(_palette_image(), kind, transparency=0))
        assert [tuple(pixel) for pixel in read[0]] == [_WHITE, _RED, _BLUE, _RED], kind


def test_palette_entries_may_be_half_transparent() -> None:
    read = _read(encoded(_palette_image(), transparency=bytes([0, 128, 255])))
    assert tuple(read[0, 0]) == _WHITE
    np.testing.assert_allclose(read[0, 1], (255, 127, 127), atol=1)
    assert tuple(read[0, 2]) == _BLUE


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_is_white(mode: str) -> None:
    image = Image.new(mode, (4, 4), "black")
    image.putpixel((0, 0), 200 if mode == "L" else (200, 200, 200))
    read = _read(encoded(image, transparency=0 if mode == "L" else (0, 0, 0)))
    assert tuple(read[0, 0]) == (200, 200, 200)
    assert tuple(read[1, 1]) == _WHITE


def _wide_grey_png(values: Any, extra: bytes = b"") -> bytes:
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], depth=16, rows=rows, extra=extra)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 128, 129, 257], [256 * 128, 65535, 257 * 200, 65406]])
    wanted = np.floor(values / 257 + 0.5)
    np.testing.assert_array_equal(_read(_wide_grey_png(values))[..., 0], wanted)


@pytest.mark.parametrize(("kind", "dtype"), [("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<i4")])
def test_sixteen_bit_grey_of_other_formats(kind: str, dtype: str) -> None:
    values = np.arange(0, 65536, 257 * 17, dtype=np.uint16)[None, :]
    read = _read(encoded(Image.fromarray(values.astype(dtype)), kind))
    np.testing.assert_array_equal(read[0, :, 0], values[0] // 257)


def test_a_transparent_value_of_sixteen_bit_grey_is_white() -> None:
    values = np.array([[1000, 30000]])
    read = _read(_wide_grey_png(values, extra=chunk(b"tRNS", struct.pack(">H", 1000))))
    assert read[0, 0, 0] == 255
    assert read[0, 1, 0] == round(30000 / 257)


def test_grey_beyond_sixteen_bits_and_floating_point_are_refused(tmp_path: Path) -> None:
    deep = Image.fromarray(np.array([[0, 70000]], dtype=np.int32))
    with pytest.raises(DataError, match=r"2 bytes|grey values from 0 to 70000 exceed 16 bits; save the image with 8"):
        read_image(encoded(deep, "TIFF"))
    path = tmp_path / "depth.tif"
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(path)
    with pytest.raises(DataError, match=r"depth.tif cannot be used: floating point pixels have no agreed white"):
        read_image(path)


def test_sixteen_bit_colour_loses_only_its_low_bytes() -> None:
    values = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) * 3600
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    assert np.abs(_read(png(3, 2, depth=16, colour=2, rows=rows)) - values / 257).max() <= 1


def test_cmyk_and_adobe_cmyk_jpegs_keep_their_colours() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow ink make red
    for kind in ("TIFF", "JPEG"):  # Pillow writes the Adobe marker, with inks inverted, into a CMYK JPEG
        data = encoded(cmyk, kind)
        assert (kind != "JPEG") or b"Adobe" in data
        np.testing.assert_allclose(_read(data)[8, 8], (255, 0, 0), atol=3)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "PNG", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(_read(data)[0, 0], (255, 0, 0), err_msg=kind)


def test_a_file_reads_like_its_bytes_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "Blüte 花.jpg"
    path.write_bytes(encoded(Image.fromarray(quadrants())))
    np.testing.assert_array_equal(np.asarray(read_image(path)), quadrants())


def test_the_result_holds_no_open_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(quadrants()).save(path)
    image = read_image(path)
    path.unlink()
    assert image.getpixel((0, 0)) == (220, 20, 30)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(random), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"cut.{kind.lower()} cannot be read as an image: .*; replace or remove it\."):
        read_image(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.png"
    path.touch()
    with pytest.raises(DataError, match=r"none\.png is empty \(0 bytes\); replace or remove it"):
        read_image(path)


def test_text_is_refused_with_the_formats_that_are_read() -> None:
    with pytest.raises(DataError, match=r"The image of 5 bytes cannot be read as an image: it is none of JPEG, PNG"):
        read_image(b"hello")


def test_postscript_is_not_run() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(DataError, match="it is none of"):
        read_image(postscript)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"is not a file"):
        read_image(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(b"x")

    def locked(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(DataError, match=r"locked\.png cannot be read: Permission denied"):
        read_image(path)


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (12_000, 12_000, r"12000 x 12000 pixels are more than the 134217728 allowed; scale it down"),
        (100_000, 100_000, r"its header promises more than 134217728 pixels"),
    ],
)
def test_a_decompression_bomb_is_refused_by_its_header(width: int, height: int, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_image(png(width, height, depth=1, rows=b"\x00"))


def test_a_large_photo_gives_no_warning() -> None:
    bits = np.zeros((9_500, 9_500), dtype=bool)  # between Pillow's limit for a warning and that for an error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(encoded(Image.fromarray(bits))).size == (9_500, 9_500)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_damage_anywhere_gives_an_image_or_a_data_error(kind: str, cut: float, flips: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(Image.fromarray(quadrants()), kind))
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    with contextlib.suppress(DataError):
        assert read_image(bytes(data[: int(cut * len(data)) + 1])).mode == "RGB"
