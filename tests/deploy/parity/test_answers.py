"""The answers record: the right counts and pictures, with labels and without, and read back with suspicion."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity.answers import spread_over_classes
from edgedistill_deploy.parity.thumbnails import inline_picture
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.records.answers import AnswersReport, media_type_of
from reference.measured_bundles import bundle_of
from reference.measured_models import images_of

PREDICTED = [0, 1, 2, 0, 1, 2, 0, 0]
TEACHER = [0, 2, 2, 1, 1, 2, 0, 1]
LABELS = [0, 2, 2, 0, 1, -1, 0, 1]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Bundle, ImageSet]:
    return bundle_of(tmp_path, PREDICTED, TEACHER, LABELS)


def answers_of(bundle: Bundle, **asked: Any) -> AnswersReport:
    (found,) = validate_bundle(bundle, ValidationRequest(threads=1, **asked)).answers
    return found


def test_answers_are_counted_against_the_labels(made: tuple[Bundle, ImageSet]) -> None:
    found = answers_of(made[0])
    assert (found.sample_count, found.judged_count, found.truth) == (8, 7, "label")
    assert found.confusion is not None
    assert found.confusion.class_names == ("red", "green", "blue")
    assert found.confusion.candidate == ((3, 0, 0), (1, 1, 0), (0, 1, 1))
    assert found.confusion.teacher == ((2, 1, 0), (0, 2, 0), (0, 0, 2))
    told = [(each.truth, each.answer, each.support, each.candidate_count, each.teacher_count) for each in found.pairs]
    assert told == [("green", "red", 2, 1, 0), ("blue", "green", 2, 1, 0)]


def test_where_nothing_is_labelled_the_teacher_is_the_truth(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, PREDICTED, TEACHER, [-1] * 8)
    found = answers_of(bundle)
    assert (found.judged_count, found.truth) == (8, "teacher")
    assert found.confusion is not None
    assert found.confusion.teacher == ((2, 0, 0), (0, 3, 0), (0, 0, 3))
    assert found.confusion.candidate == ((2, 0, 0), (2, 1, 0), (0, 1, 2))
    assert [each.label for each in found.examples] == [None] * 8


def test_examples_show_their_own_image_and_both_answers(made: tuple[Bundle, ImageSet]) -> None:
    bundle, images = made
    found = answers_of(bundle)
    assert [each.digest for each in found.examples] == [images.digest(row) for row in range(8)]
    assert [each.candidate for each in found.examples] == [("red", "green", "blue")[row] for row in PREDICTED]
    assert [each.teacher for each in found.examples] == [("red", "green", "blue")[row] for row in TEACHER]
    pixels = images_of(PREDICTED)
    for example, expected in zip(found.examples, pixels, strict=True):
        assert example.thumbnail is not None
        with Image.open(io.BytesIO(base64.b64decode(example.thumbnail))) as picture:
            np.testing.assert_array_equal(np.asarray(picture)[::32, ::32], expected)


def test_records_are_written_with_pictures_and_without(made: tuple[Bundle, ImageSet]) -> None:
    bundle, _ = made
    for wanted in (True, False):
        validate_bundle(bundle, ValidationRequest(threads=1, pictures=wanted), write=True)
        texts = [path.read_text() for kind in ("answers", "flips") for path in (bundle.path / kind).glob("*.json")]
        assert len(texts) == 2
        assert [any(magic in text for magic in ("iVBOR", "/9j/")) for text in texts] == [wanted, wanted]
        assert json.loads(texts[1])["flip_count"] == 3


def test_a_record_is_read_back_as_it_was_written(made: tuple[Bundle, ImageSet]) -> None:
    found = answers_of(made[0])
    assert AnswersReport.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"confusion": {"class_names": ["a", "b"], "teacher": [[1, 0]], "candidate": [[1, 0], [0, 1]]}},
            "of 2 classes",
        ),
        ({"confusion": {"class_names": ["a"], "teacher": [[-1]], "candidate": [[1]]}}, "-1 stands where a count"),
        ({"truth": "guess"}, "is none of label, teacher"),
        ({"judged_count": "many"}, "stands where a count belongs"),
    ],
)
def test_what_is_no_record_is_refused(made: tuple[Bundle, ImageSet], change: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        AnswersReport.from_json({**answers_of(made[0]).to_json(), **change})


def test_many_classes_have_pairs_and_no_matrix(monkeypatch: pytest.MonkeyPatch, made: tuple[Bundle, ImageSet]) -> None:
    monkeypatch.setattr("edgedistill_deploy.parity.answers.MOST_CLASSES", 2)
    found = answers_of(made[0])
    assert found.confusion is None
    assert len(found.pairs) == 2


def test_examples_are_spread_over_the_classes_and_inside_each() -> None:
    classes = np.repeat([0, 1, 2], [100, 1, 50])
    rows = spread_over_classes(classes, 7)
    assert [int(classes[row]) for row in rows] == [0, 0, 0, 1, 2, 2, 2]
    assert rows[1] - rows[0] > 10 < rows[2] - rows[1]
    many = spread_over_classes(np.arange(1000), 12)
    assert len(many) == 12
    assert (many[0], many[-1]) == (0, 999)
    assert spread_over_classes(np.array([5, 5]), 12) == [0, 1]


def test_a_photograph_is_kept_as_a_small_jpeg_and_a_flat_drawing_exactly() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise[:20, :20]).resize((200, 300), Image.Resampling.BICUBIC))
    photograph, drawing = inline_picture(smooth), inline_picture(np.full((28, 28, 3), 7, np.uint8))
    assert (media_type_of(photograph), media_type_of(drawing)) == ("image/jpeg", "image/png")
    assert len(photograph) < 12_000
    assert len(inline_picture(noise)) < 40_000
    with Image.open(io.BytesIO(base64.b64decode(photograph))) as picture:
        assert max(picture.size) == 128
