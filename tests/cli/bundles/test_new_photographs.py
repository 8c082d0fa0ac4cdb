"""`validate --data` on images that nobody recorded the teacher's answers to: its file in the bundle gives them."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from command import run_command
from edgedistill_deploy.bundle.extended import EXTENDED_ROLE, read_extended
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.reference import read_reference, write_reference
from edgedistill_deploy.records.parity import ParityReport
from reference.class_bundles import ANIMALS, LION, SIZE, animals, class_bundle

COUNT = 96


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A sound expert, whose teacher's file is there and answers like it."""
    made = class_bundle(tmp_path / "expert", animals([(LION, LION, LION)] * 40))
    shutil.copy(made.file("model.fp32"), made.path / "teacher.fp32.onnx")
    return made.with_file("teacher.fp32", made.path / "teacher.fp32.onnx")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Images of all animals that the bundle does not know; every eighth has the label of another animal."""
    labels = np.arange(COUNT) % len(ANIMALS)
    images = np.random.default_rng(5).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    images[..., 0] = labels[:, None, None]
    labels[::8] = (labels[::8] + 1) % len(ANIMALS)
    np.savez(tmp_path / "new.npz", images=images, labels=labels, class_names=np.array(ANIMALS))
    return tmp_path / "new.npz"


def validate(bundle: Bundle, images: Path, *more: str | Path) -> dict[str, Any]:
    outcome = run_command("validate", bundle.path, "--data", f"npz:{images}", "--precision", "fp32", "--json", *more)
    assert outcome.code in (0, 3, 4), outcome.stderr
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def answers(path: Path, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Ask a file without EdgeDistill."""
    (logits,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        ["logits"], {"image": images}
    )
    chosen: NDArray[np.int64] = np.asarray(logits).argmax(axis=1)
    return chosen


def test_the_teachers_file_answers_what_was_not_recorded(bundle: Bundle, photographs: Path) -> None:
    record = validate(bundle, photographs)
    assert (record["sample_count"], record["unknown_count"], record["answered_count"]) == (COUNT, 0, COUNT)
    assert any("96 images were not recorded" in note and "onnxruntime cpu" in note for note in record["notes"])
    with np.load(photographs) as given:
        right = float(np.mean(answers(bundle.file("teacher.fp32"), given["images"]) == given["labels"]))
    assert record["accuracy"]["teacher"] == pytest.approx(right)
    assert record["agreement"] == 1.0
    assert ParityReport.from_json(record).images.answered_count == COUNT
    # The build's reference is not touched, and nothing is kept unasked.
    assert not open_bundle(bundle.path).has(EXTENDED_ROLE)


def test_recorded_answers_come_first(bundle: Bundle, photographs: Path, tmp_path: Path) -> None:
    """An image that the bundle knows keeps its recorded answer, though the teacher's file would answer otherwise."""
    recorded = read_reference(bundle.file("reference"))
    assert recorded.images is not None
    other = int(np.flatnonzero(recorded.logits.argmax(axis=1) != recorded.labels)[0])
    with np.load(photographs) as given:
        images = np.concatenate([recorded.images[other : other + 1], given["images"]])
        labels = np.concatenate([recorded.labels[other : other + 1], given["labels"]])
    np.savez(tmp_path / "both.npz", images=images, labels=labels, class_names=np.array(ANIMALS))
    digest = _digest_of(recorded.images[other])
    _give_digest(bundle, other, digest)
    record = validate(open_bundle(bundle.path), tmp_path / "both.npz")
    assert (record["sample_count"], record["answered_count"]) == (COUNT + 1, COUNT)
    assert record["agreement"] == pytest.approx(COUNT / (COUNT + 1))


def _digest_of(image: NDArray[np.uint8]) -> str:
    height, width, _ = image.shape
    return hashlib.sha256(f"{height}x{width}x3|".encode() + image.tobytes()).hexdigest()


def _give_digest(bundle: Bundle, row: int, digest: str) -> None:
    recorded = read_reference(bundle.file("reference"))
    digests = recorded.digests.copy()
    digests[row] = digest
    write_reference(bundle.path / "reference.npz", replace(recorded, digests=digests))
    bundle.with_file("reference", bundle.path / "reference.npz")


def test_extend_reference_keeps_the_answers_in_a_file_of_their_own(bundle: Bundle, photographs: Path) -> None:
    before = bundle.file("reference").read_bytes()
    first = validate(bundle, photographs, "--extend-reference")
    assert first["answered_count"] == COUNT
    kept = open_bundle(bundle.path)  # verifies every sha256
    assert kept.file("reference").read_bytes() == before
    extended = read_extended(kept)
    assert extended is not None
    with np.load(photographs) as given:
        assert (extended.logits.argmax(axis=1) == answers(kept.file("teacher.fp32"), given["images"])).all()
    assert kept.manifest["reference_extended"]["answers"] == [
        {"runtime": "onnxruntime", "provider": "cpu", "count": COUNT}
    ]
    second = validate(kept, photographs)
    assert (second["sample_count"], second["answered_count"]) == (COUNT, 0)
    assert "The teacher's answers to 96 images are those that --extend-reference kept." in second["notes"]
    assert second["accuracy"] == first["accuracy"]
    # Without --data it is the build's reference that judges, as before.
    alone = run_command("validate", bundle.path, "--precision", "fp32", "--json")
    assert json.loads(alone.stdout)["sample_count"] == 320


def test_more_photographs_are_added_to_those_kept(bundle: Bundle, photographs: Path, tmp_path: Path) -> None:
    validate(bundle, photographs, "--extend-reference")
    with np.load(photographs) as given:
        images, labels = given["images"] ^ 1, given["labels"]
    np.savez(tmp_path / "more.npz", images=images, labels=labels, class_names=np.array(ANIMALS))
    validate(bundle, tmp_path / "more.npz", "--extend-reference")
    kept = read_extended(open_bundle(bundle.path))
    assert kept is not None
    assert len(kept.labels) == 2 * COUNT
    assert validate(bundle, photographs)["answered_count"] == 0


def test_answers_of_another_teacher_are_not_used(bundle: Bundle, photographs: Path) -> None:
    validate(bundle, photographs, "--extend-reference")
    file = bundle.path / "teacher.fp32.onnx"
    file.write_bytes(file.read_bytes() + b"\x32\x00")  # an empty doc_string: another file, the same network
    bundle.with_file("teacher.fp32", file)
    assert validate(bundle, photographs)["answered_count"] == COUNT


def test_a_changed_extension_is_refused_by_name(bundle: Bundle, photographs: Path) -> None:
    validate(bundle, photographs, "--extend-reference")
    file = bundle.path / "reference-extended.npz"
    file.write_bytes(file.read_bytes() + b"x")
    outcome = run_command("validate", bundle.path, "--data", f"npz:{photographs}")
    assert (outcome.code, "reference-extended.npz" in outcome.stderr) == (1, True)


def test_without_the_teachers_file_the_sentence_says_how_to_get_it(bundle: Bundle, photographs: Path) -> None:
    (bundle.path / "teacher.fp32.onnx").unlink()
    bundle.without_file("teacher.fp32")
    outcome = run_command("validate", bundle.path, "--data", f"npz:{photographs}")
    assert outcome.code == 1
    assert "None of the 96 images is among the 320 whose teacher answers the bundle records" in outcome.stderr
    assert f"`edgedistill export {bundle.path}` writes teacher.fp32.onnx" in outcome.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--extend-reference keeps the answers to the images of --data; give both."),
        (("--data", "npz:new.npz", "--record", "kept"), "--record leaves the bundle as it is; give one of them."),
        (("--data", "npz:new.npz", "--device", "ssh://pi@host"), "--extend-reference works on this machine alone"),
    ],
)
def test_flags_that_exclude_each_other(bundle: Bundle, flags: tuple[str, ...], message: str) -> None:
    outcome = run_command("validate", bundle.path, "--extend-reference", *flags)
    assert (outcome.code, message in outcome.stderr) == (2, True), outcome.stderr
