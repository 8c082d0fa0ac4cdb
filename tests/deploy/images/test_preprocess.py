import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from edgedistill_deploy.errors import BundleError, DataError, UsageError
from edgedistill_deploy.images.preprocess import INTERPOLATIONS, Preprocess

_TORCHVISION = {
    "nearest": v2.InterpolationMode.NEAREST,
    "bilinear": v2.InterpolationMode.BILINEAR,
    "bicubic": v2.InterpolationMode.BICUBIC,
    "lanczos": v2.InterpolationMode.LANCZOS,
}


def _noise(height: int, width: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(1, 40),
    crop_fraction=st.sampled_from([1.0, 0.95, 0.9, 0.875, 0.5]),
    interpolation=st.sampled_from(sorted(INTERPOLATIONS)),
)
def test_square_inputs_equal_those_of_torchvision(
    height: int, width: int, size: int, crop_fraction: float, interpolation: str
) -> None:
    image = _noise(height, width)
    preprocess = Preprocess(size=(size, size), crop_fraction=crop_fraction, interpolation=interpolation)
    oracle = v2.Compose(
        [v2.Resize(int(size / crop_fraction), interpolation=_TORCHVISION[interpolation]), v2.CenterCrop(size)]
    )
    np.testing.assert_array_equal(preprocess.apply(image), np.asarray(oracle(image)))


def test_equals_the_transform_timm_builds_for_a_model() -> None:
    from timm.data.transforms_factory import create_transform

    image = _noise(333, 517)
    timm_transform = create_transform(
        (3, 224, 224), crop_pct=0.875, interpolation="bicubic", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    wanted = torch.round(timm_transform(image) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    preprocess = Preprocess(size=(224, 224), crop_fraction=0.875, interpolation="bicubic")
    np.testing.assert_array_equal(preprocess.apply(image), wanted)


@settings(max_examples=60, deadline=None)
@given(
    image_size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop_fraction=st.floats(0.3, 1.0),
    resize_mode=st.sampled_from(["shortest", "squash"]),
)
def test_every_image_gets_the_size_asked_for_and_no_border(
    image_size: tuple[int, int], size: tuple[int, int], crop_fraction: float, resize_mode: str
) -> None:
    white = Image.new("RGB", (image_size[1], image_size[0]), "white")
    preprocess = Preprocess(size=size, crop_fraction=crop_fraction, resize_mode=resize_mode)
    prepared = preprocess.apply(white)
    assert prepared.shape == (*size, 3)
    assert prepared.dtype == np.uint8
    assert prepared.min() == 255, "a crop beyond the image would show as black"


def test_shortest_keeps_the_aspect_and_squash_does_not() -> None:
    circle_box = np.zeros((40, 80, 3), dtype=np.uint8)
    circle_box[10:30, 30:50] = 255  # a square of half the height
    image = Image.fromarray(circle_box)
    kept = Preprocess(size=(20, 20), interpolation="nearest").apply(image)[..., 0] > 0
    squashed = Preprocess(size=(20, 20), interpolation="nearest", resize_mode="squash").apply(image)[..., 0] > 0
    assert (kept.any(axis=1).sum(), kept.any(axis=0).sum()) == (10, 10)
    assert (squashed.any(axis=1).sum(), squashed.any(axis=0).sum()) == (10, 5)


def test_an_image_of_the_right_size_passes_unchanged() -> None:
    image = _noise(32, 48)
    np.testing.assert_array_equal(Preprocess(size=(32, 48)).apply(image), np.asarray(image))


def test_transparency_is_composited_before_resizing() -> None:
    prepared = Preprocess(size=(4, 4)).apply(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    assert prepared.min() == 255


def test_an_elongated_image_is_refused_before_memory_is_taken() -> None:
    line = Image.new("RGB", (1_000_000, 1))
    with pytest.raises(DataError, match=r"1000000 x 1 pixels would have to grow to 224000000 x 224; crop it"):
        Preprocess(size=(224, 224)).apply(line)


def test_digest_is_the_sha256_of_the_fields_in_key_order() -> None:
    canonical = (
        '{"colour":"rgb","crop_fraction":0.875,"input_dtype":"uint8","interpolation":"bicubic",'
        '"resize_mode":"shortest","size":[224,192]}'
    )
    preprocess = Preprocess(size=(224, 192), crop_fraction=0.875, interpolation="bicubic")
    assert preprocess.digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_whole_numbers_given_as_int_or_float_are_the_same_contract() -> None:
    assert Preprocess(size=(8, 8), crop_fraction=1).digest == Preprocess(size=(8, 8), crop_fraction=1.0).digest


@pytest.mark.parametrize(
    "change", [{"size": (9, 8)}, {"resize_mode": "squash"}, {"crop_fraction": 0.9}, {"interpolation": "bicubic"}]
)
def test_any_change_changes_the_digest(change: dict[str, Any]) -> None:
    plain = Preprocess(size=(8, 8))
    assert dataclasses.replace(plain, **change).digest != plain.digest


def test_json_round_trip() -> None:
    preprocess = Preprocess(size=(5, 7), resize_mode="squash", crop_fraction=0.5, interpolation="nearest")
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    assert Preprocess.from_json({**preprocess.to_json(), "digest": preprocess.digest}) == preprocess


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (0, 8)}, r"size is \(0, 8\); it must be \(height, width\), whole numbers from 1 to 8192"),
        ({"size": (8,)}, r"size is \(8,\)"),
        ({"size": (8.0, 8)}, r"size is \(8.0, 8\)"),
        ({"size": (True, 8)}, r"size is \(True, 8\)"),
        ({"size": 8}, r"size is 8;"),
        ({"size": (8, 9000)}, r"size is \(8, 9000\)"),
        ({"crop_fraction": 0.0}, r"crop_fraction is 0.0; it must lie between 0.05 and 1"),
        ({"crop_fraction": 1.5}, r"crop_fraction is 1.5"),
        ({"crop_fraction": float("nan")}, r"crop_fraction is nan"),
        ({"crop_fraction": True}, r"crop_fraction is True"),
        ({"crop_fraction": "0.9"}, r"crop_fraction is '0.9'"),
        ({"interpolation": "bilinaer"}, r"interpolation is 'bilinaer', which is unknown. Did you mean bilinear\?"),
        ({"resize_mode": "longest"}, r"resize_mode is 'longest', which is unknown. Known: shortest, squash\."),
        ({"colour": "bgr"}, r"colour is 'bgr', which is unknown. Known: rgb\."),
        ({"input_dtype": "float32"}, r"input_dtype is 'float32', which is unknown. Known: uint8."),
        ({"interpolation": ["bilinear"]}, r"interpolation is \['bilinear'\]"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Preprocess(**{"size": (8, 8), **given})


_RECORD = Preprocess(size=(8, 8)).to_json()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], r"preprocess record is list; it must be a JSON object"),
        ({**_RECORD, "mean": [0.5]}, r"unknown key 'mean'. Known: "),
        ({**_RECORD, "interpolatoin": "x"}, r"unknown key 'interpolatoin'. Did you mean interpolation"),
        ({key: value for key, value in _RECORD.items() if key != "size"}, r"lacks size"),
        ({**_RECORD, "size": "8x8"}, r"does not hold: size is '8x8'"),
        ({**_RECORD, "digest": "0" * 64}, r"its digest is not that of its fields"),
    ],
)
def test_damaged_records_are_refused(record: object, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Preprocess.from_json(record)
