"""Reading records: what the schemas allow is read, and whatever is damaged is left out by name, never half believed."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.records._subspace_file import read_subspace_rows
from edgedistill_deploy.records.reading import Records, read_records
from reference.report_bundles import (
    add_record,
    full_bundle,
    latency_record,
    models_only,
    parity_record,
    write_subspaces,
)

SCHEMAS = Path(__file__).parents[1] / "schemas"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return models_only(tmp_path / "bundle")


@pytest.mark.parametrize(("kind", "make"), [("parity", parity_record), ("latency", latency_record)])
def test_the_records_of_these_tests_are_such_as_the_product_writes(bundle: Bundle, kind: str, make: Any) -> None:
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8"))
    written = json.loads(json.dumps(make(bundle, "fp32")))
    jsonschema.validate(written, schema)


def test_a_full_bundle_is_read_without_a_problem(tmp_path: Path) -> None:
    records = read_records(full_bundle(tmp_path / "bundle"))
    assert records.problems == ()
    assert [each.report.model.precision for each in records.parity] == ["fp32", "int8", "teacher"]
    assert [each.report.model.precision for each in records.latency] == ["fp32", "int8", "teacher"]
    assert len(records.epochs) == 30
    assert [each.stage for each in records.ledger] == ["fp32", "int8"]
    assert [each.layer for each in records.subspaces] == ["layer1", "layer2", "layer3", "layer4"]


def test_checks_stand_beside_the_relations_and_the_diagnosis_is_named(bundle: Bundle) -> None:
    check = {"name": "golden_images", "passed": False, "detail": "Other pixels."}
    found = {"name": "swapped_channels", "detail": "Red and blue are swapped.", "evidence": {"accuracy": 0.4}}
    add_record(bundle, parity_record(bundle, "fp32", checks=[check], diagnosis=[found]))
    [record] = read_records(bundle).parity
    tests, (diagnosis,) = record.report.soundness.tests, record.report.findings.diagnosis
    assert [each.name for each in tests if not each.passed] == ["golden_images"]
    assert (diagnosis.name, diagnosis.detail) == ("swapped_channels", "Red and blue are swapped.")
    assert record.name == "parity/workbench-onnxruntime-fp32.json"


def test_a_record_of_before_there_were_checks_is_read(bundle: Bundle) -> None:
    record = parity_record(bundle, "fp32")
    add_record(bundle, {name: value for name, value in record.items() if name not in ("checks", "diagnosis")})
    [read] = read_records(bundle).parity
    assert (len(read.report.soundness.tests), read.report.findings.diagnosis) == (4, ())


def test_records_of_earlier_versions_without_the_int8_keys_are_read(bundle: Bundle) -> None:
    for make in (parity_record, latency_record):
        record = make(bundle, "int8")
        device = record["device"]
        holders = [record, device] if isinstance(device, dict) else [record]
        removed = [holder.pop(key, None) for holder in holders for key in ("int8_instructions", "int8_kernels")]
        assert any(removed)
        add_record(bundle, record)
    records = read_records(bundle)
    (parity,), (latency,) = records.parity, records.latency
    assert records.problems == ()
    assert (parity.report.arithmetic.int8_instructions, parity.report.arithmetic.int8_kernels) == (None, None)
    assert (latency.report.device.int8_instructions, latency.report.int8_kernels) == (None, None)


def test_an_empty_bundle_has_no_records_and_no_problems(bundle: Bundle) -> None:
    records = read_records(bundle)
    assert records == Records()


def test_a_record_of_another_model_file_is_left_out(bundle: Bundle) -> None:
    add_record(bundle, parity_record(bundle, "fp32", model_sha256="0" * 64))
    records = read_records(bundle)
    assert records.parity == ()
    assert records.problems == (
        (
            "parity/workbench-onnxruntime-fp32.json was measured on a model file that the bundle no longer has; it is "
            "left out."
        ),
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("kind", "latency", "it is not a parity record of schema 1"),
        ("schema", 2, "it is not a parity record of schema 1"),
        ("verdict", "splendid", "the verdict 'splendid' is none of pass, fail, inconclusive"),
        ("sample_count", -3, "-3 stands where a count belongs"),
        ("sample_count", True, "True stands where a count belongs"),
        ("agreement", "0.9", "'0.9' stands where a number belongs"),
        ("agreement", 97.0, "97.0 stands where a share belongs"),
        ("accuracy", [], r"\[\] stands where an object belongs"),
        ("per_class", {}, r"\{\} stands where a list belongs"),
        ("device", None, "None stands where a text belongs"),
        ("reasons", [3], "3 stands where a text belongs"),
    ],
)
def test_a_parity_record_with_a_wrong_field_is_named(bundle: Bundle, field: str, value: Any, said: str) -> None:
    path = add_record(bundle, parity_record(bundle, "fp32"))
    path.write_text(json.dumps({**parity_record(bundle, "fp32"), field: value}))
    records = read_records(bundle)
    assert records.parity == ()
    with pytest.raises(AssertionError, match=rf"{path.name} is left out: {said}\."):
        raise AssertionError(records.problems[0])


@pytest.mark.parametrize("field", ["accuracy", "verdict", "limits", "model_sha256"])
def test_a_missing_field_is_named(bundle: Bundle, field: str) -> None:
    record = parity_record(bundle, "fp32")
    path = add_record(bundle, record)
    del record[field]
    path.write_text(json.dumps(record))
    assert read_records(bundle).problems == (f"parity/{path.name} is left out: it has no {field}.",)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "samples_ms must hold times"),
        ([1.0, -1.0], "-1.0 stands where a time"),
        ([1e300], "1e.300 stands where a time"),
    ],
)
def test_latency_samples_must_be_times(bundle: Bundle, samples: list[float], said: str) -> None:
    add_record(bundle, latency_record(bundle, "fp32", samples_ms=samples))
    records = read_records(bundle)
    assert records.latency == ()
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(records.problems[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe", "codec can't decode"),
        (b'{"kind": "parity", "schema": 1, "agreement": NaN}', "NaN is not a JSON value"),
        (b"[" * 100_000, "is left out"),
    ],
)
def test_a_file_that_is_no_json_is_named(bundle: Bundle, content: bytes, said: str) -> None:
    (bundle.path / "parity").mkdir()
    (bundle.path / "parity" / "broken.json").write_bytes(content)
    (problem,) = read_records(bundle).problems
    assert problem.startswith("parity/broken.json is left out")
    assert said in problem


def test_a_record_beyond_the_size_limit_is_not_read(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill_deploy.records.reading.MAX_RECORD_BYTES", 100)
    add_record(bundle, parity_record(bundle, "fp32"))
    assert "is left out: it is larger than 100 bytes." in read_records(bundle).problems[0]


def test_a_link_out_of_the_bundle_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(parity_record(bundle, "fp32")))
    (bundle.path / "parity").mkdir()
    (bundle.path / "parity" / "link.json").symlink_to(outside)
    records = read_records(bundle)
    assert records.parity == ()
    assert records.problems == ("parity/link.json is left out: it leads out of the bundle.",)


def test_damaged_training_rows_and_ledgers_are_named(bundle: Bundle) -> None:
    (bundle.path / "distill").mkdir()
    (bundle.path / "distill" / "metrics.jsonl").write_text('{"epoch": 0}\n')
    (bundle.path / "ledger.json").write_text('{"kind": "ledger", "schema": 1, "steps": [4]}')
    assert read_records(bundle).problems == (
        "ledger.json is left out: 4 stands where an object belongs.",
        "distill/metrics.jsonl is left out: it has no loss.",
    )


def test_subspaces_are_read_as_safetensors_writes_them(tmp_path: Path) -> None:
    numpy_writer = pytest.importorskip("safetensors.numpy", reason="the format's own library is the oracle")
    eigenvalues = np.array([4.0, 2.0, 1.0, 1.0, -0.5])
    tensors = {
        "layer1/mean": np.zeros(5),
        "layer1/basis": np.eye(5)[:, :2],
        "layer1/eigenvalues": eigenvalues,
        "layer1/variance": np.ones(2),
        "layer1/sample_count": np.array(1234),
    }
    numpy_writer.save_file(tensors, tmp_path / "s.safetensors", metadata={"format": "edgedistill-subspaces-1"})
    (row,) = read_subspace_rows(tmp_path / "s.safetensors")
    assert (row.layer, row.width, row.rank, row.sample_count) == ("layer1", 5, 2, 1234)
    np.testing.assert_array_equal(row.eigenvalues, eigenvalues)
    assert row.captured == pytest.approx(6 / 8)


def test_a_spectrum_without_positive_part_has_no_share(tmp_path: Path) -> None:
    write_subspaces(tmp_path / "s", {"a": (np.zeros(3), 1)})
    assert read_subspace_rows(tmp_path / "s")[0].captured is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_subspaces_are_refused_or_read_never_crash(
    tmp_path: Path, position: int, value: int, cut: bool
) -> None:
    path = tmp_path / "s"
    write_subspaces(path, {"a": (np.arange(4.0)[::-1], 2), "b/c": (np.ones(3), 3)})
    content = bytearray(path.read_bytes())
    position %= len(content)
    content[position] = value
    path.write_bytes(content[:position] if cut else content)
    try:
        rows = read_subspace_rows(path)
    except BundleError as error:
        assert "cannot be read as subspaces" in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert all(np.isfinite(row.eigenvalues).all() for row in rows)


def test_eigenvalues_that_do_not_fit_their_layer_are_refused(tmp_path: Path) -> None:
    write_subspaces(tmp_path / "s", {"a": (np.array([1.0, np.nan]), 1)})
    with pytest.raises(BundleError, match="a has no 2 finite eigenvalues"):
        read_subspace_rows(tmp_path / "s")


def test_an_absurd_array_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill_deploy.records._subspace_file.MAX_VALUES", 2)
    write_subspaces(tmp_path / "s", {"a": (np.ones(3), 1)})
    with pytest.raises(BundleError, match=r"cannot be read as subspaces \(the shape \[3\]\)"):
        read_subspace_rows(tmp_path / "s")


def test_changed_subspaces_are_a_problem(tmp_path: Path) -> None:
    bundle = full_bundle(tmp_path / "bundle")
    path = bundle.path / "distill" / "subspaces.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    records = read_records(bundle)
    assert records.subspaces == ()
    assert "subspaces.safetensors has" in records.problems[0]


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=_json_values, kind=st.sampled_from(["parity", "latency"]))
def test_any_value_in_any_field_is_read_or_named(tmp_path: Path, data: st.DataObject, value: Any, kind: str) -> None:
    bundle = models_only(tmp_path / "bundle") if not (tmp_path / "bundle").exists() else _reopened(tmp_path / "bundle")
    record = (parity_record if kind == "parity" else latency_record)(bundle, "fp32")
    field = data.draw(st.sampled_from(sorted(record)))
    path = bundle.path / kind / "any.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**record, field: value}))
    records = read_records(bundle)
    path.unlink()
    assert len(records.parity) + len(records.latency) + len(records.problems) == 1


def _reopened(path: Path) -> Bundle:
    from edgedistill_deploy.bundle.folder import open_bundle

    return open_bundle(path, verify=False)
