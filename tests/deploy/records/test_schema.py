"""One definition of a record: what is written is read back equal, and what is read is what the JSON schemas allow."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.latency.measurement import LatencyConfig, measure_latency
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.records.decisions import FlipReport
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.model import MeasuredModel
from edgedistill_deploy.records.parity import DriftRow, ParityReport, UnreadableParity, read_parity
from edgedistill_deploy.records.schema import Share, Time, read_as
from edgedistill_deploy.records.values import as_text
from edgedistill_deploy.records.writing import FLAT, HIDDEN, plain
from edgedistill_deploy.runtimes.opening import open_session
from reference.measured_bundles import bundle_of
from reference.measured_models import images_of
from reference.report_bundles import latency_record, models_only, parity_record

SCHEMAS = Path(__file__).parents[1] / "schemas"
REPORTS: dict[str, Any] = {"parity": ParityReport, "latency": LatencyReport}
SUBSTITUTES: tuple[Any, ...] = (None, True, "text", 0.5, 1, [], {})
LABELS = [0, 1, 2] * 10
PREDICTED = [1, *LABELS[1:]]


def validator_of(kind: str) -> Any:
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def from_text(document: Any) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return models_only(tmp_path_factory.mktemp("schema") / "bundle")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the product itself finds of a model."""
    made, _ = bundle_of(tmp_path_factory.mktemp("measured"), PREDICTED, LABELS, LABELS)
    config = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.0, min_runs=20)
    found = validate_bundle(made, ValidationRequest(flips=True, threads=1))
    with open_session(made, threads=1) as session:
        latency = measure_latency(session, images_of([0, 1]), config)
    return {"parity": found.reports[0], "latency": latency, "flips": found.flips[0]}


@pytest.mark.parametrize("kind", ["parity", "latency", "flips"])
def test_what_is_written_is_read_back_equal(measured: dict[str, Any], kind: str) -> None:
    report = measured[kind]
    assert type(report).from_json(from_text(report.to_json())) == report


@pytest.mark.parametrize("kind", ["parity", "latency"])
def test_every_key_of_a_record_is_in_its_schema(measured: dict[str, Any], kind: str) -> None:
    document, validator = from_text(measured[kind].to_json()), validator_of(kind)
    validator.validate(document)
    assert set(document) == set(validator.schema["properties"]) == set(validator.schema["required"])


def test_parity_and_latency_of_a_model_share_their_identity(measured: dict[str, Any]) -> None:
    model: MeasuredModel = measured["parity"].model
    assert measured["latency"].model == measured["flips"].model == model
    assert (model.runtime, model.provider, model.precision) == ("onnxruntime", "cpu", "fp32")
    assert measured["latency"].to_json()["device"]["name"] == measured["parity"].to_json()["device"]


def record_of(bundle: Bundle, kind: str) -> dict[str, Any]:
    if kind == "parity":
        drift = {
            "variant": "bgr",
            "what": "Blue first.",
            "accuracy": 0.5,
            "drop_points": 45.0,
            "interval": [40.0, 50.0],
            "changed_share": 1.0,
            "mean_abs_difference": 9.5,
        }
        return from_text(  # type: ignore[no-any-return]
            parity_record(
                bundle,
                "fp32",
                per_class=parity_record(bundle, "fp32")["per_class"][:1],
                diagnosis=[{"name": "bgr", "detail": "Swapped.", "evidence": {"accuracy": 0.4}}],
                preprocess_drift=[drift],
                in_domain={"accepted": 0.9, "accepted_accuracy": 0.95},
                placement={"cpu": 3},
            )
        )
    return from_text(latency_record(bundle, "fp32", samples_ms=[1.0, 2.0], placement={"cpu": 3}))  # type: ignore[no-any-return]


def places_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in a document, of a list the first item alone; a machine words its state as it
    likes."""
    if path:
        yield path
    if path[:1] == ("conditions",) and len(path) == 2:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places_of(item, (*path, key))


def changed(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(record)
    holder: Any = document
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return document


@pytest.mark.parametrize("kind", ["parity", "latency"])
def test_the_reader_accepts_what_the_schema_allows_and_refuses_values_of_other_types(bundle: Bundle, kind: str) -> None:
    record, validator = record_of(bundle, kind), validator_of(kind)
    validator.validate(record)
    REPORTS[kind].from_json(record)
    outcomes = {"read": 0, "refused": 0}
    for path in places_of(record):
        for value in SUBSTITUTES:
            document = changed(record, path, value)
            broken = [error.validator for error in validator.iter_errors(document)]
            if not broken:
                REPORTS[kind].from_json(document)
                outcomes["read"] += 1
            elif "type" in broken:
                with pytest.raises(DataError):
                    REPORTS[kind].from_json(document)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


@pytest.mark.parametrize("kind", ["parity", "latency"])
def test_a_missing_key_is_named_or_is_one_that_was_added_later(bundle: Bundle, kind: str) -> None:
    record = record_of(bundle, kind)
    for key in set(record) - {"kind", "schema"}:
        shorter = {name: value for name, value in record.items() if name != key}
        try:
            found = REPORTS[kind].from_json(shorter).to_json()[key]
        except DataError as error:
            assert str(error) == f"it has no {key}"  # noqa: PT017  # either outcome is right
        else:
            assert not found


def test_impossible_limits_are_named(bundle: Bundle) -> None:
    record = record_of(bundle, "parity")
    with pytest.raises(DataError, match=r"^max_drop is -0\.5; it must lie between 0 and 1: 0\.02 is two points$"):
        ParityReport.from_json({**record, "limits": {"max_drop": -0.5, "confidence": 0.95}})


@pytest.mark.parametrize("document", [None, [], "text", {"kind": "parity"}, {"kind": "flips", "schema": 1}])
def test_what_is_no_record_is_refused(document: Any) -> None:
    for report in (ParityReport, LatencyReport, FlipReport):
        with pytest.raises(DataError):
            report.from_json(document)


def test_a_record_for_a_summary_says_whose_it_is_and_what_is_wrong(bundle: Bundle) -> None:
    found = read_parity({**record_of(bundle, "parity"), "verdict": "maybe", "device": 3})
    assert isinstance(found, UnreadableParity)
    assert (found.bundle, found.model.device, found.model.precision) == ("bundle", "3", "fp32")
    assert found.problem == "3 stands where a text belongs"


def test_a_parity_report_prints_one_screen(bundle: Bundle) -> None:
    lines = str(ParityReport.from_json(record_of(bundle, "parity"))).splitlines()
    assert lines[0].startswith("Parity with the teacher: fp32 on workbench, onnxruntime cpu, model ")
    assert lines[1] == "bundle      bundle, 2,000 images"
    assert lines[2].startswith("verdict     pass: drop 0.40 points, 95% interval ")
    assert lines[2].endswith(", limit 2.00 points")
    assert lines[3].startswith("accuracy    94.9 %, interval 93.8 to 95.8 %")
    assert "checks      5 of 5 hold" in lines
    assert "diagnosis   bgr: Swapped." in lines
    assert len(lines) <= 16
    assert max(map(len, lines)) <= 100


def test_a_latency_report_prints_one_screen(bundle: Bundle) -> None:
    record = latency_record(bundle, "fp32", flags=["noisy"], warnings=["The medians vary by 9.0%."])
    lines = str(LatencyReport.from_json(from_text(record))).splitlines()
    assert lines[0].startswith("Latency: fp32 on workbench, onnxruntime cpu, model ")
    assert lines[1] == "machine     Example Processor 9, 2 cores, Debian GNU/Linux 12"
    assert lines[3].startswith("p50         200 µs, interval 198 µs to 202 µs")
    assert lines[5].endswith(" to –")
    assert lines[-3:] == [
        "conditions  governor performance, clock cpu0_mhz 2400.0, load 1min 1.02, pressure some_avg10 0.4",
        "flags       noisy",
        "warnings    The medians vary by 9.0%.",
    ]
    assert len(lines) <= 16
    assert max(map(len, lines)) <= 100


def test_drift_is_added_to_what_was_found(bundle: Bundle) -> None:
    report = ParityReport.from_json(record_of(bundle, "parity") | {"preprocess_drift": None, "notes": ["a"]})
    row = DriftRow(
        variant="bgr",
        what="",
        accuracy=0.5,
        drop_points=4.0,
        interval=(3.0, 5.0),
        changed_share=1.0,
        mean_abs_difference=9.0,
    )
    found = report.with_drift((row,), ("b",))
    assert (found.findings.preprocess_drift, found.findings.notes) == ((row,), ("a", "b"))
    assert found.judgement == report.judgement


# The engine itself, on a definition that has one of everything.


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    share: Share
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: Annotated[str, as_text]
    inner: Inner = field(metadata=FLAT)
    nested: Inner | None
    pair: tuple[float, int]
    counts: dict[str, int]
    colour: Literal["red", "green"]
    lasts_ms: Time | None = None
    seen: bool = False
    hidden: object = field(default=None, metadata=HIDDEN)


DOCUMENT = {
    "name": "a",
    "share": 0.5,
    "words": ["b"],
    "nested": {"share": -1, "words": []},
    "pair": [1.5, 2],
    "counts": {"x": 3},
    "colour": "red",
    "lasts_ms": 4,
    "seen": True,
}


def test_a_definition_is_written_and_read_by_one_rule() -> None:
    found = read_as(Outer, {**DOCUMENT, "hidden": "not read", "unknown": 1})
    assert found == Outer(
        name="a",
        inner=Inner(share=0.5, words=("b",)),
        nested=Inner(share=-1.0),
        pair=(1.5, 2),
        counts={"x": 3},
        colour="red",
        lasts_ms=4.0,
        seen=True,
    )
    assert plain(found) == DOCUMENT


@pytest.mark.parametrize(
    ("field_name", "value", "said"),
    [
        ("share", 2, "2 stands where a share belongs"),
        ("words", "b", "'b' stands where a list belongs"),
        ("nested", [], r"\[\] stands where an object belongs"),
        ("nested", {"share": "x"}, "'x' stands where a number belongs"),
        ("pair", [1.5], "zip"),
        ("pair", [1.5, 2.5], "2.5 stands where a count belongs"),
        ("counts", {"x": "y"}, "'y' stands where a count belongs"),
        ("colour", "blue", "the colour 'blue' is none of red, green"),
        ("lasts_ms", -1, "-1 stands where a time belongs"),
        ("seen", 1, "1 stands where true or false belongs"),
    ],
)
def test_an_unfit_value_is_refused(field_name: str, value: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        read_as(Outer, {**DOCUMENT, field_name: value})


def test_a_field_without_a_default_is_needed() -> None:
    with pytest.raises(KeyError, match="share"):
        read_as(Outer, {name: value for name, value in DOCUMENT.items() if name != "share"})
    shorter = {name: value for name, value in DOCUMENT.items() if name not in ("words", "lasts_ms", "seen")}
    assert read_as(Outer, shorter).inner.words == ()
