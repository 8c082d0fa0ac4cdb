"""Which parts of a picture speak for an answer: closed forms, a slow re-implementation, and spots at known places."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgedistill_deploy import Expert, Explanation
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import DataError, EdgeDistillError, UsageError
from edgedistill_deploy.prediction.occlusion import FILLS, describe_region, log_odds, place_of, plan_patches
from reference.colour_pictures import picture
from reference.plain_experts import linear_expert, red_blocks, spotted

SIZE = (21, 14)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    random = np.random.default_rng(3)
    weights = random.normal(0, 0.01, (2, *SIZE, 3)).astype(np.float32)
    return linear_expert(tmp_path_factory.mktemp("linear") / "bundle", weights, np.array([0.5, 0], np.float32))


def noise(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("across", [1, 3, 7])
def test_on_a_linear_model_the_map_has_its_closed_form(linear: Bundle, across: int) -> None:
    """Between two classes the log odds are linear, so a patch's fall is the weights times what covering changes."""
    random = np.random.default_rng(3)
    weights = random.normal(0, 0.01, (2, *SIZE, 3)).astype(np.float32).astype(np.float64)
    pixels = noise(SIZE)
    with Expert(linear, threads=1) as expert:
        found = expert.explain(rgb=pixels, fill="mean", across=across)
    answer = int(np.argmax(found.prediction.logits))
    change = (weights[answer] - weights[1 - answer]) * (pixels - np.rint(pixels.reshape(-1, 3).mean(axis=0)))
    gain = change.sum(axis=2)
    total, count, falls = np.zeros(SIZE), np.zeros(SIZE), []
    for place in plan_patches(SIZE, across):
        total[place] += gain[place].sum()
        count[place] += 1
        falls.append(gain[place].sum())
    np.testing.assert_allclose(found.map, total / count, atol=2e-4)
    assert found.look_count == len(falls) + 1
    if max(falls) > 1e-3:
        assert found.region is not None
        assert found.region.fall == pytest.approx(max(falls), abs=2e-4)
    else:
        assert found.region is None


def slow_map(model: Path, pixels: NDArray[np.uint8], fill: str) -> NDArray[np.float64]:
    """Return the map (8, 8) as the page describes it: patches of a seventh, rounded up, which overlap by half."""
    side, length = 8, 2
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def odds(shown: NDArray[np.uint8], target: int) -> float:
        logits = session.run(["logits"], {"image": shown[None]})[0][0].astype(np.float64)
        share = math.exp(logits[target]) / sum(math.exp(each) for each in logits)
        return math.log(share / (1 - share))

    target = int(np.argmax(session.run(["logits"], {"image": pixels[None]})[0][0]))
    image = Image.fromarray(pixels)
    mean = [round(float(np.mean(pixels[..., channel]))) for channel in range(3)]
    behind = image.filter(ImageFilter.GaussianBlur(length)) if fill == "blur" else Image.new("RGB", (8, 8), tuple(mean))
    falls: list[list[list[float]]] = [[[] for _ in range(side)] for _ in range(side)]
    for top in range(side - length + 1):
        for left in range(side - length + 1):
            covered = image.copy()
            box = (left, top, left + length, top + length)
            covered.paste(behind.crop(box), box)
            fall = odds(pixels, target) - odds(np.asarray(covered), target)
            for row in range(top, top + length):
                for column in range(left, left + length):
                    falls[row][column].append(fall)
    return np.array([[sum(cell) / len(cell) for cell in row] for row in falls])


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_the_map_is_that_of_a_slow_re_implementation(made_colours: Bundle, fill: Any, batch_size: int | None) -> None:
    image = picture("yellow", (8, 8), seed=5)
    with Expert(made_colours, threads=1) as expert:
        found = expert.explain(image, fill=fill, batch_size=batch_size)
    np.testing.assert_allclose(found.map, slow_map(made_colours.file("model.fp32"), np.asarray(image), fill), atol=1e-4)
    assert found.map.shape == (8, 8)
    assert found.map.dtype == np.float32
    assert not found.map.flags.writeable
    np.testing.assert_array_equal(found.pixels, np.asarray(image))
    assert (found.look_count, found.fill) == (50, fill)


def test_the_answer_is_that_of_predict(made_colours: Bundle) -> None:
    image = picture("green")
    with Expert(made_colours, threads=1) as expert:
        found, answer = expert.explain(image), expert.predict(image)
        assert found.look_count == expert.looks_to_explain
    assert isinstance(found, Explanation)
    np.testing.assert_allclose(found.prediction.logits, answer.logits, atol=1e-5)
    assert found.prediction.class_name == answer.class_name
    assert found.milliseconds >= found.prediction.prepare_ms


@pytest.mark.parametrize(("precision", "batch"), [("fp32", "N"), ("int8", "N"), ("fp32", 1), ("fp32", 6)])
def test_a_spot_is_found_where_it_is(tmp_path: Path, precision: str, batch: str | int) -> None:
    """Also by a quantised file, and by a model that takes one size of batch alone."""
    bundle = red_blocks(tmp_path / "bundle", (35, 35), batch=batch, precision=precision)
    with Expert(bundle, precision=precision, threads=1) as expert:
        for row, column in ((3, 3), (17, 30), (31, 10)):
            found = expert.explain(rgb=spotted((35, 35), (row, column)))
            assert found.prediction.class_name == "spot"
            assert found.region is not None
            left, top, right, bottom = found.region.box
            assert left <= (column + 0.5) / 35 <= right
            assert top <= (row + 0.5) / 35 <= bottom
            assert found.region.probability < found.prediction.probability
            highest = np.unravel_index(np.argmax(found.map), found.map.shape)
            assert abs(int(highest[0]) - row) <= 5
            assert abs(int(highest[1]) - column) <= 5
            assert found.map[(row + 17) % 35, (column + 17) % 35] < 0.1 * found.map.max()


def test_the_part_is_told_in_the_whole_pictures_shares(tmp_path: Path) -> None:
    """The model sees the middle 35 of 70 columns."""
    pixels = np.full((35, 70, 3), 120, np.uint8)
    pixels[3:8, 30:35] = (230, 20, 20)
    with Expert(red_blocks(tmp_path / "bundle", (35, 35)), threads=1) as expert:
        found = expert.explain(rgb=pixels)
    assert found.region is not None
    left, top, right, bottom = found.region.box
    assert left <= 32 / 70 <= right
    assert top <= 5 / 35 <= bottom
    assert right - left == pytest.approx(5 / 70)
    assert found.region.place == "the top"
    assert describe_region(found).startswith("The top speaks most for spot: without it ")
    assert found.to_json()["region"] == [left, top, right, bottom]


def test_where_nothing_counts_no_part_is_named(tmp_path: Path) -> None:
    weights = np.zeros((3, *SIZE, 3), np.float32)
    bundle = linear_expert(tmp_path / "bundle", weights, np.array([0, 2, 1], np.float32))
    with Expert(bundle, threads=1) as expert:
        found = expert.explain(rgb=noise(SIZE))
    assert found.region is None
    assert not found.map.any()
    assert str(found) == "the picture: class 1, 66.5 %. No single part speaks for class 1."
    assert found.to_json()["place"] is None


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (200, 3)])
def test_pictures_of_odd_sizes_are_explained(tmp_path: Path, size: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).normal(0, 0.01, (2, *size, 3)).astype(np.float32)
    with Expert(linear_expert(tmp_path / "bundle", weights, np.zeros(2, np.float32)), threads=1) as expert:
        assert expert.explain(rgb=noise(size)).map.shape == size


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 64))
def test_patches_cover_every_pixel_and_stay_inside(height: int, width: int, across: int) -> None:
    patches = plan_patches((height, width), across)
    for side, length, starts in ((height, patches.height, patches.tops), (width, patches.width, patches.lefts)):
        assert length == math.ceil(side / across)
        assert starts[0] == 0
        assert starts[-1] + length == side
        steps = np.diff(starts)
        assert all(0 < step <= math.ceil(length / 2) for step in steps)
        assert len(starts) <= 3 * across
    assert len(patches) == len(list(patches)) == len(patches.tops) * len(patches.lefts)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=6), st.data())
def test_log_odds_are_those_of_the_probability(logits: list[float], data: st.DataObject) -> None:
    target = data.draw(st.integers(0, len(logits) - 1))
    shares = np.exp(np.array(logits, np.longdouble) - max(logits))
    expected = np.log(shares[target] / np.delete(shares, target).sum())
    assert log_odds(np.array([logits]), target)[0] == pytest.approx(float(expected), abs=1e-9)
    assert log_odds(np.array([[2.5]]), 0)[0] == 2.5


def test_places_are_named_by_thirds() -> None:
    assert place_of((0, 0, 0.2, 0.2)) == "the upper left"
    assert place_of((0.4, 0.4, 0.6, 0.6)) == "the centre"
    assert place_of((0.9, 0.4, 1, 0.6)) == "the right"
    assert place_of((0.3, 0.9, 0.7, 1)) == "the bottom"


@pytest.mark.parametrize(
    ("given_to_it", "sentence"),
    [
        ({}, "explain takes one of: a picture, rgb=array, bgr=array."),
        ({"image": ["a.png", "b.png"]}, "explain takes one picture, and a list was given; call it for each."),
        ({"image": noise((8, 8))}, "which does not say whether red or blue comes first"),
        ({"rgb": noise((8, 8)), "fill": "blurr"}, "fill is 'blurr', which is unknown. Did you mean blur?"),
        ({"rgb": noise((8, 8)), "across": 0}, "across is 0; it must be a whole number from 1 to 64 patches."),
        ({"rgb": noise((8, 8)), "batch_size": 0}, "batch_size is 0; it must be 1 or more."),
    ],
)
def test_what_is_asked_wrongly_is_refused_in_one_sentence(
    made_colours: Bundle, given_to_it: dict[str, Any], sentence: str
) -> None:
    with Expert(made_colours, threads=1) as expert, pytest.raises(UsageError) as refused:
        expert.explain(**given_to_it)
    assert sentence in str(refused.value)


def test_what_cannot_be_read_or_run_is_named(made_colours: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    expert = Expert(made_colours, threads=1)
    with pytest.raises(DataError, match=r"empty\.png is empty \(0 bytes\)"):
        expert.explain(tmp_path / "empty.png")
    expert.close()
    with pytest.raises(EdgeDistillError, match="The expert is closed"):
        expert.explain(picture("red"))


def test_numbers_that_are_not_finite_are_no_explanation(tmp_path: Path) -> None:
    """The root of a sum that only the whole picture keeps above 0."""
    weights = np.full((2, *SIZE, 3), 0.001, np.float32)
    weights[:, 0, 0] = 1
    bundle = linear_expert(tmp_path / "bundle", weights, np.array([-760, -755], np.float32), last="Sqrt")
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[0, 0] = 255
    with Expert(bundle, threads=1) as expert:
        assert expert.predict(rgb=pixels).class_name == "class 1"
        with pytest.raises(
            DataError, match=r"gave numbers for the picture that are not finite \(fp32 on onnxruntime\)"
        ):
            expert.explain(rgb=pixels)


def test_progress_counts_every_look(made_colours: Bundle) -> None:
    from edgedistill_deploy.prediction.pictures import picture_of

    told: list[tuple[int, int]] = []
    with Expert(made_colours, threads=1) as expert:
        expert.explain_picture(
            picture_of(picture("red")), batch_size=20, progress=lambda done, total, note="": told.append((done, total))
        )
    assert told == [(20, 50), (40, 50), (50, 50)]
