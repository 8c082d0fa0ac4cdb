"""An expert in a program: what it takes, what it answers, and what it refuses."""

import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from edgedistill_deploy import Expert, Prediction
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError, DataError, EdgeDistillError, UsageError
from edgedistill_deploy.prediction.answers import NotAnswered
from edgedistill_deploy.prediction.pictures import picture_of
from reference.colour_pictures import RGB, add_decision, changed, expected_logits, picture, write_pictures


@pytest.fixture
def expert(made_colours: Bundle) -> Any:
    with Expert(made_colours, threads=1) as opened:
        yield opened


def png_of(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("name", RGB)
def test_the_answer_is_what_pillow_and_onnx_runtime_give(made_colours: Bundle, expert: Expert, name: str) -> None:
    image = picture(name)
    answer = expert.predict(image)
    logits = expected_logits(made_colours.file("model.fp32"), image)
    shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    np.testing.assert_allclose(answer.logits, logits, atol=1e-5)
    np.testing.assert_allclose(answer.probabilities, shares, atol=1e-6)
    assert answer.class_name == name == made_colours.class_names[int(np.argmax(logits))]
    assert answer.probability == pytest.approx(shares.max(), abs=1e-6)
    assert [each for each, _ in answer.top(9)] == [made_colours.class_names[place] for place in np.argsort(-logits)]
    assert sum(share for _, share in answer.top(3)) == pytest.approx(1)
    assert answer.in_domain is None
    assert answer.milliseconds == answer.prepare_ms + answer.inference_ms > 0
    assert str(answer) == f"the picture: {name}, {100 * shares.max():.1f} %"
    assert not answer.logits.flags.writeable


def test_one_picture_in_every_form_gets_the_same_answer(made_colours: Bundle, expert: Expert, tmp_path: Path) -> None:
    image = picture("green")
    path, content, pixels = tmp_path / "green.png", png_of(image), np.asarray(image)
    path.write_bytes(content)
    opened = Image.open(io.BytesIO(content))
    swapped = np.ascontiguousarray(pixels[..., ::-1])
    answers = [
        expert.predict(path),
        expert.predict(str(path)),
        expert.predict(content),
        expert.predict(bytearray(content)),
        expert.predict(memoryview(content)),
        expert.predict(image),
        expert.predict(opened),
        expert.predict(rgb=pixels),
        expert.predict(bgr=swapped),
        expert.predict(bgr=pixels[..., ::-1]),  # a view that steps backwards
        expert.predict([path])[0],
        expert.predict(rgb=[pixels])[0],
        expert.predict(bgr=(swapped,))[0],
    ]
    assert isinstance(answers[0], Prediction)
    for answer in answers:
        np.testing.assert_array_equal(answer.logits, answers[0].logits)
    assert (answers[0].name, answers[6].name, answers[2].name) == (str(path), "the picture", "the picture")
    assert expert.predict([content, path])[0].name == "picture 0"


def test_lists_of_any_length_are_answered_in_order(expert: Expert) -> None:
    names = [tuple(RGB)[place % 3] for place in range(70)]  # more than two batches
    found = expert.predict([picture(name, seed=place) for place, name in enumerate(names)])
    assert [each.class_name for each in found] == names
    alone = expert.predict(picture(names[69], seed=69))
    np.testing.assert_allclose(found[69].logits, alone.logits, atol=1e-6)
    assert expert.predict([]) == []


def test_grey_arrays_are_taken_and_are_no_colour(expert: Expert) -> None:
    grey = np.full((40, 60), 128, np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(expert.predict(rgb=grey).logits, expert.predict(bgr=rgb).logits)


def test_a_picture_that_pillow_opened_is_turned_upright_like_a_file(expert: Expert, tmp_path: Path) -> None:
    """Left half red, right half green, stored lying on its side as cameras do."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40], pixels[:, 40:] = RGB["red"], RGB["green"]
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).rotate(90, expand=True).save(path, exif=exif)
    by_file = expert.predict(path)
    with Image.open(path) as opened:
        for each in (opened, opened.convert("RGB")):
            np.testing.assert_array_equal(expert.predict(each).logits, by_file.logits)
        assert expert.predict(opened).name == str(path)
    np.testing.assert_allclose(by_file.logits, expert.predict(rgb=pixels).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": np.zeros((4, 4, 3), np.uint8)}, r"array of shape \(4, 4, 3\).*predict\(rgb=array\).*bgr=array"),
        ({"images": [np.zeros((4, 4, 3), np.uint8)]}, r"Picture 0 is an array"),
        ({"images": 7}, r"The picture is an int; give a path, the bytes of an image file"),
        ({"images": ["a.png", None]}, r"Picture 1 is a NoneType"),
        ({"images": "a.png", "rgb": np.zeros((4, 4, 3), np.uint8)}, r"predict takes one of"),
        ({}, r"predict takes one of: a picture or a list of pictures, rgb=array, bgr=array"),
        ({"rgb": np.zeros((4, 4, 3), np.float32)}, r"rgb is float32 \(4, 4, 3\); it must be uint8"),
        ({"bgr": np.zeros((4, 4, 4), np.uint8)}, r"bgr is uint8 \(4, 4, 4\)"),
        ({"bgr": np.zeros((3, 4, 4), np.uint8)}, r"height first and channels last"),
        ({"rgb": np.zeros((2, 4, 4, 3), np.uint8)}, r"rgb=list\(array\)"),
        ({"rgb": np.zeros((0, 4, 3), np.uint8)}, r"no pixels"),
        ({"rgb": [np.zeros((4, 4, 3), np.uint8), "a.png"]}, r"rgb\[1\] is a str; it must be a numpy array"),
        ({"rgb": np.broadcast_to(np.uint8(0), (1 << 14, 1 << 14, 3))}, r"more than the \d+ pixels allowed"),
    ],
)
def test_what_has_no_one_meaning_is_refused_in_one_sentence(
    expert: Expert, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        expert.predict(**given)


def test_pictures_that_cannot_be_read_are_named(expert: Expert, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(png_of(picture("red"))[:200])
    for given, message in (
        (tmp_path / "none.png", f"{tmp_path}/none.png does not exist"),
        (broken, f"{broken} cannot be read as an image"),
        (b"", "The picture is empty"),
        (b"<html>", "The picture cannot be read as an image: "),
        ([png_of(picture("red")), b"<html>"], "Picture 1 cannot be read as an image: "),
        (Image.new("F", (4, 4)), "The picture cannot be used: floating point"),
        (Image.new("RGB", (1, 1 << 22)), "The picture cannot be prepared: An image of 1 x 4194304 pixels"),
        (Image.new("1", (1 << 14, 1 << 14)), "more than the"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            expert.predict(given)
    with Image.open(broken) as opened, pytest.raises(DataError, match=f"^{broken} cannot be read as an image"):
        expert.predict(opened)
    with pytest.raises(DataError, match="broken"):
        expert.predict([png_of(picture("red")), broken])


def test_in_a_stream_a_bad_picture_takes_no_other_with_it(expert: Expert, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, ("red", "green", "yellow", "red"))
    paths[1].write_bytes(b"nothing")
    asked: list[int] = []

    def pictures() -> Any:
        for place, path in enumerate(paths):
            asked.append(place)
            yield picture_of(path)

    answers = expert.answer(pictures(), batch_size=2)
    assert next(answers).name == str(paths[0])
    assert asked == [0, 1]  # the second batch is not read before it is wanted
    bad, *rest = answers
    assert isinstance(bad, NotAnswered)
    assert bad.reason == "no image"
    assert [each.class_name for each in rest if isinstance(each, Prediction)] == ["yellow", "red"]
    assert [each.name for each in expert.answer([picture_of(paths[1])])] == [str(paths[1])]
    with pytest.raises(UsageError, match="batch_size is 0"):
        list(expert.answer([], batch_size=0))


def test_threads_share_an_expert(expert: Expert) -> None:
    names = [tuple(RGB)[place % 3] for place in range(60)]
    pictures = [picture(name, seed=place) for place, name in enumerate(names)]
    gate = threading.Barrier(4)

    def ask(own: list[Image.Image]) -> list[str]:
        gate.wait(timeout=60)
        return [expert.predict(each).class_name for each in own]

    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(ask, [pictures[start::4] for start in range(4)]))
    assert shares == [names[start::4] for start in range(4)]


def test_a_closed_expert_says_so(made_colours: Bundle) -> None:
    expert = Expert(made_colours.path, precision="fp32")
    expert.close()
    expert.close()
    with pytest.raises(EdgeDistillError, match="The expert is closed"):
        expert.predict(picture("red"))


def test_an_expert_that_knows_its_limits_says_whether_the_picture_is_one_of_its_classes(colours: Bundle) -> None:
    with Expert(changed(colours, add_decision)) as expert:
        colourful, grey = expert.predict([picture("red"), Image.new("RGB", (8, 8), (60, 60, 60))])
    for answer, decision in ((colourful, True), (grey, False)):
        assert answer.in_domain is decision is bool(np.ptp(answer.logits) >= 4)


def test_numbers_that_are_not_finite_are_no_answer(colours: Bundle) -> None:
    def overflow(model: onnx.ModelProto) -> None:
        """Divide by zero where a picture is black."""
        model.graph.node[-1].output[0] = "before"
        model.graph.node.extend(
            [
                helper.make_node("ReduceMax", ["pixels", "all"], ["brightest"], keepdims=0),
                helper.make_node("Unsqueeze", ["brightest", "last"], ["column"]),
                helper.make_node("Div", ["before", "column"], ["logits"]),
            ]
        )
        model.graph.initializer.extend(
            [numpy_helper.from_array(np.array([1, 2, 3]), "all"), numpy_helper.from_array(np.array([1]), "last")]
        )

    with Expert(changed(colours, overflow)) as expert:
        black, red = expert.answer([picture_of(Image.new("RGB", (8, 8))), picture_of(picture("red"))])
        assert isinstance(red, Prediction)
        assert isinstance(black, NotAnswered)
        with pytest.raises(DataError, match=r"not finite .*try precision fp32"):
            expert.predict(Image.new("RGB", (8, 8)))


def test_a_bundle_that_does_not_fit_its_model_is_refused(colours: Bundle) -> None:
    with pytest.raises(BundleError, match="export it again"), Expert(_with_four_classes(colours)) as expert:
        expert.predict(picture("red"))


def _with_four_classes(bundle: Bundle) -> Bundle:
    names = [*bundle.class_names, "blue"]
    return bundle.with_fields(subtask={"name": "colours", "class_names": names, "class_indices": [0, 1, 2, 3]})


def test_a_changed_model_and_what_is_no_bundle_are_refused(colours: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        Expert(tmp_path / "nothing")
    with pytest.raises(BundleError, match="has no model of precision int8"):
        Expert(colours, precision="int8")
    with pytest.raises(UsageError, match="no precision 'in8'"):
        Expert(colours, precision="in8")
    with pytest.raises(UsageError, match="no runtime 'onxruntime'"):
        Expert(colours, runtime="onxruntime")
    content = bytearray((colours.path / "model.fp32.onnx").read_bytes())
    content[-1] ^= 1
    (colours.path / "model.fp32.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="was changed after it was registered"):
        Expert(colours.path)
