"""Flips: the right images in the right order, pictures that show them, names that are safe anywhere."""

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.evaluation.images import open_evaluation
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity import flips as flips_module
from edgedistill_deploy.parity.check import DEFAULT_LIMITS, check_answers, collect_answers
from edgedistill_deploy.parity.flips import find_flips, picture_name, write_flip_record, write_flips
from edgedistill_deploy.parity.thumbnails import thumbnail
from edgedistill_deploy.records.decisions import Flip, FlipReport
from edgedistill_deploy.runtimes.opening import open_session
from reference.measured_bundles import bundle_of
from reference.measured_models import CLASS_NAMES, images_of, logits_of_images

PREDICTED = [0, 1, 2, 0, 1, 2, 0, 1]
TEACHER = [0, 2, 2, 1, 1, 0, 0, 0]
LABELS = [0, 2, 2, 0, 1, 1, 0, -1]
FLIPPED = {1: "lost", 3: "gained", 5: "both_wrong", 7: "unlabelled"}


def flips_of(bundle: Bundle, images: ImageSet | None = None, **limits: int) -> FlipReport:
    evaluation = open_evaluation(bundle, images)
    with open_session(bundle, threads=1) as session:
        answers = collect_answers(session, evaluation)
        report = check_answers(bundle, session, evaluation, answers, DEFAULT_LIMITS)
    return find_flips(report, evaluation, answers, bundle.class_names, **limits)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Bundle, ImageSet]:
    return bundle_of(tmp_path, PREDICTED, TEACHER, LABELS)


def test_flips_are_the_images_decided_differently_surest_first(made: tuple[Bundle, ImageSet]) -> None:
    bundle, images = made
    report = flips_of(bundle)
    logits = logits_of_images(images_of(PREDICTED)).astype(np.float64)
    sure = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    wanted = sorted(FLIPPED, key=lambda row: -sure[row])
    assert report.flip_count == len(report.flips) == 4
    assert [flip.digest for flip in report.flips] == [images.digest(row) for row in wanted]
    assert [flip.rank for flip in report.flips] == [1, 2, 3, 4]
    assert [flip.outcome for flip in report.flips] == [FLIPPED[row] for row in wanted]
    assert report.outcomes == {"lost": 1, "gained": 1, "both_wrong": 1, "unlabelled": 1}
    for flip, row in zip(report.flips, wanted, strict=True):
        assert flip.candidate == CLASS_NAMES[PREDICTED[row]]
        assert flip.teacher == CLASS_NAMES[TEACHER[row]]
        assert flip.label == (CLASS_NAMES[LABELS[row]] if LABELS[row] >= 0 else None)
        assert flip.candidate_probability == pytest.approx(sure[row], abs=1e-5)
        assert flip.teacher_probability == pytest.approx(np.exp(5) / (np.exp(5) + 2), abs=1e-6)
        assert f"recorded image {row} " in flip.name
    assert report.ranked_by == "candidate_probability"


def test_own_images_are_called_by_their_own_names(made: tuple[Bundle, ImageSet]) -> None:
    bundle, images = made
    recorded, own = flips_of(bundle), flips_of(bundle, images)
    # The set's label of the image whose label the bundle does not know is its own.
    assert {flip.digest for flip in own.flips} == {flip.digest for flip in recorded.flips}
    names = {images.digest(row): images.name(row) for row in range(len(images))}
    assert all(flip.name == names[flip.digest] for flip in own.flips)


def test_answers_that_are_not_finite_come_first(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [1, 0], [0, 1], defect="not_finite_when_dark")
    with np.load(bundle.file("reference")) as stored:
        arrays = dict(stored)
    arrays["images"][0] //= 8
    np.savez_compressed(bundle.path / "reference.npz", **arrays)
    bundle = bundle.with_file("reference", bundle.path / "reference.npz")
    report = flips_of(bundle)
    assert report.flips[0].candidate == "not finite"
    assert report.flips[0].candidate_probability is None
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["flips"][0]["outcome"] == "both_wrong"


def test_the_folder_holds_a_picture_of_each_flip_and_an_index(made: tuple[Bundle, ImageSet], tmp_path: Path) -> None:
    bundle, _ = made
    report = flips_of(bundle)
    index = write_flips(tmp_path / "flips", [report])
    record = json.loads(index.read_text(encoding="utf-8"))
    assert (index.name, record["kind"], record["schema"]) == ("flips.json", "flip-set", 1)
    (written,) = record["records"]
    assert written["precision"] == "fp32"
    stored = images_of(PREDICTED)
    for flip in written["flips"]:
        path = tmp_path / "flips" / flip["file"]
        assert path.name.startswith(f"{flip['rank']:04d}_true-{flip['label'] or 'unknown'}_teacher-{flip['teacher']}_")
        row = int(re.findall(r"recorded image (\d+)", flip["name"])[0])
        with Image.open(path) as picture:
            assert picture.size == (192, 192)
            assert np.array_equal(np.asarray(picture)[::48, ::48], stored[row])


def test_a_second_run_replaces_the_first_and_spares_the_rest(made: tuple[Bundle, ImageSet], tmp_path: Path) -> None:
    report = flips_of(made[0])
    folder = tmp_path / "flips"
    write_flips(folder, [report])
    (folder / "fp32" / "mine.png").write_bytes(b"mine")
    write_flips(folder, [replace(report, flips=report.flips[:1], pictures=report.pictures[:1])])
    names = sorted(path.name for path in (folder / "fp32").iterdir())
    assert names == [picture_name(report.flips[0]), "mine.png"]
    with pytest.raises(UsageError, match=r"mine.png is a file; name a folder for the pictures"):
        write_flips(folder / "fp32" / "mine.png", [report])


def test_the_record_inlines_the_first_pictures(made: tuple[Bundle, ImageSet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flips_module, "INLINED", 2)
    path = write_flip_record(made[0], flips_of(made[0]))
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.parent.name == "flips"
    assert (record["kind"], record["schema"], record["flip_count"]) == ("flips", 1, 4)
    inlined = [flip["thumbnail"] for flip in record["flips"]]
    assert [bool(each) for each in inlined] == [True, True, False, False]
    with Image.open(io.BytesIO(base64.b64decode(inlined[0], validate=True))) as picture:
        assert (picture.format, picture.size) == ("PNG", (128, 128))


def test_what_is_listed_and_pictured_is_bounded(made: tuple[Bundle, ImageSet], tmp_path: Path) -> None:
    report = flips_of(made[0], listed=3, pictures=2)
    assert (report.flip_count, len(report.flips), len(report.pictures)) == (4, 3, 2)
    assert sum(report.outcomes.values()) == 4
    record = json.loads(write_flips(tmp_path / "flips", [report]).read_text(encoding="utf-8"))
    assert [flip["file"] is None for flip in record["records"][0]["flips"]] == [False, False, True]


def test_a_model_that_agrees_has_none(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    report = flips_of(bundle)
    assert (report.flip_count, report.flips, report.pictures) == (0, (), ())
    assert json.loads(write_flips(tmp_path / "flips", [report]).read_text())["records"][0]["flips"] == []


@pytest.mark.parametrize(("shape", "size"), [((4, 4), (96, 96)), ((40, 90), (90, 40)), ((500, 250), (48, 96))])
def test_pictures_keep_their_proportions(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert thumbnail(np.zeros((*shape, 3), np.uint8), 96).size == size


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=300), min_size=3, max_size=3))
def test_any_class_names_make_safe_file_names(names: Sequence[str]) -> None:
    flip = Flip(
        rank=7,
        name="",
        digest="",
        label=names[0],
        teacher=names[1],
        teacher_probability=1.0,
        candidate=names[2],
        candidate_probability=1.0,
        outcome="lost",
    )
    name = picture_name(flip)
    assert re.fullmatch(r"0007_true-[A-Za-z0-9_]+_teacher-[A-Za-z0-9_]+_candidate-[A-Za-z0-9_]+\.png", name)
    assert len(name) < 180
