"""The ledger's figures against arithmetic, and its record."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_calibration.judging.ledger import Figures, LedgerStep, compare_logits, read_ledger, write_ledger
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.errors import BundleError
from reference.shape_bundles import empty_bundle


def test_figures_of_a_small_case_by_hand() -> None:
    reference = np.array([[3, 0], [0, 4], [1, 0], [0, 2]], np.float32)
    candidate = np.array([[3, 0], [0, 4], [0, 1], [0, 2]], np.float32)
    figures = compare_logits(reference, candidate, np.array([0, 1, 1, 0]))
    assert (figures.sample_count, figures.accuracy, figures.agreement) == (4, 0.75, 0.75)
    assert figures.sqnr_db == pytest.approx(10 * math.log10((9 + 16 + 1 + 4) / 2))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 100))
def test_noise_of_known_size_gives_the_decibels_it_has(count: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = random.normal(0, 5, (count, classes)).astype(np.float32)
    noise = random.normal(0, 1, reference.shape)
    noise *= np.linalg.norm(reference) / np.linalg.norm(noise) / 10
    figures = compare_logits(reference, (reference + noise).astype(np.float32), np.zeros(count, np.int64))
    assert figures.sqnr_db == pytest.approx(20, abs=0.01)


def test_the_same_logits_have_no_noise_and_rank_above_any_other() -> None:
    logits = np.eye(3, dtype=np.float32)
    same = compare_logits(logits, logits, np.arange(3))
    close = compare_logits(logits, logits + np.float32(1e-6), np.arange(3))
    assert same.sqnr_db is None
    assert same.rank > close.rank


def test_agreement_ranks_before_signal_to_noise() -> None:
    alike, near = (
        Figures(sample_count=10, accuracy=0.5, agreement=agreement, sqnr_db=sqnr_db)
        for agreement, sqnr_db in ((1.0, 10.0), (0.9, 40.0))
    )
    assert alike.rank > near.rank


def test_a_reference_of_zeros_is_drowned_by_any_noise() -> None:
    zeros = np.zeros((2, 3), np.float32)
    figures = compare_logits(zeros, zeros + 1, np.zeros(2, np.int64))
    assert figures.sqnr_db is not None
    assert figures.sqnr_db < -3000


def test_the_record_is_a_file_of_the_bundle_with_room_for_nodes(tmp_path: Path) -> None:
    figures = Figures(sample_count=8, accuracy=0.75, agreement=0.875, sqnr_db=None)
    node = {"name": "conv_1", "sqnr_db": 12.5}
    step = LedgerStep(stage="int8", model_sha256="ab" * 32, figures=figures, nodes=(node,), bytes=5)
    why = {"student": "the bundle carries no answers of it"}
    bundle = write_ledger(empty_bundle(tmp_path / "bundle"), [step], why)
    assert open_bundle(bundle.path).file("ledger") == bundle.path / "ledger.json"
    assert json.loads(bundle.file("ledger").read_text()) == {
        "kind": "ledger",
        "schema": 1,
        "steps": [
            {
                "stage": "int8",
                "model_sha256": "ab" * 32,
                "sample_count": 8,
                "accuracy": 0.75,
                "agreement": 0.875,
                "sqnr_db": None,
                "teacher_agreement": None,
                "bytes": 5,
                "nodes": [node],
            }
        ],
        "left_out": why,
    }
    assert read_ledger(bundle) == json.loads(bundle.file("ledger").read_text())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"ledger\.json is not JSON: .*; run `edgedistill calibrate` again"),
        ('{"kind": "chain"}', r"ledger\.json is not a ledger of schema 1; run `edgedistill calibrate` again"),
        ("[]", r"ledger\.json is not a ledger of schema 1"),
    ],
)
def test_what_is_no_ledger_is_refused(content: str, message: str, tmp_path: Path) -> None:
    bundle = empty_bundle(tmp_path / "bundle")
    (bundle.path / "ledger.json").write_text(content)
    with pytest.raises(BundleError, match=message):
        read_ledger(bundle.with_file("ledger", bundle.path / "ledger.json"))
