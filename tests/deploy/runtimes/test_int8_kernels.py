"""INT8 is computed exactly on every processor: where the kernels would saturate they are told not to, or it is said."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.runtimes import _onnxruntime, int8_kernels
from edgedistill_deploy.runtimes.int8_kernels import (
    EXACT_OPTION,
    find_int8_kernels,
    is_probe_exact,
    probe_feeds,
    read_probe,
    set_exact_int8,
)
from edgedistill_deploy.runtimes.opening import open_model, probe_int8_kernels
from edgedistill_deploy.runtimes.session import SessionRequest
from reference.as_written import open_as_written
from reference.emulated_x86 import run_without_vnni
from reference.saturating_bundles import images_of, saturating_bundle

ROOT = Path(__file__).resolve().parents[3]

# Validates a bundle's INT8 model with the ONNX Runtime that is installed ("new"), then with one that does not know the
# option ("old").
VALIDATING = """
import json, sys
from pathlib import Path
import onnxruntime
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.latency.measurement import LatencyConfig, measure_latency
from edgedistill_deploy.parity.check import check_parity
from edgedistill_deploy.runtimes.int8_kernels import find_int8_kernels
from edgedistill_deploy.runtimes.opening import open_session

class OldOptions(onnxruntime.SessionOptions):
    def add_session_config_entry(self, key, value):
        if key != "session.x64quantprecision":
            super().add_session_config_entry(key, value)

def validate():
    bundle = open_bundle(Path(sys.argv[1]))
    with open_session(bundle, precision="int8", threads=1) as session:
        brief = LatencyConfig(warmup_s=0, warmup_runs=1, duration_s=0, min_runs=1)
        latency = measure_latency(session, read_golden(bundle.file("golden"))[0], brief)
        return {"parity": check_parity(bundle, session).to_json(), "latency": latency.to_json()}

records = {"new": validate()}
onnxruntime.SessionOptions = OldOptions
find_int8_kernels.cache_clear()
records["old"] = validate()
print(json.dumps(records))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return saturating_bundle(tmp_path_factory.mktemp("saturating") / "bundle")


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    path = tmp_path / "probe.onnx"
    path.write_bytes(read_probe())
    return path


def test_the_probe_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_int8_probe.py"))
    assert script["make_probe"]().SerializeToString(deterministic=True) == read_probe()


def test_the_probe_tells_a_saturated_sum_from_a_whole_one(probe: Path) -> None:
    session = open_as_written(probe)
    names = [each.name for each in session.get_outputs()]
    meant = dict(zip(names, session.run(names, probe_feeds()), strict=True))
    assert is_probe_exact(meant)
    for name in names:
        assert not is_probe_exact({**meant, name: meant[name] * np.float32(32767 / 64770)})


def test_sessions_are_exact_on_this_processor(bundle: Bundle, probe: Path) -> None:
    with open_model(probe, precision="int8") as session:
        assert is_probe_exact(session.run(probe_feeds()))
        assert session.int8_kernels == probe_int8_kernels() != "saturating"
    images, labels = images_of(40, seed=1)
    with open_model(bundle.file("model.int8"), precision="int8") as session:
        assert (session.run({"image": images})["logits"].argmax(1) == labels).all()


def test_float_models_and_graphs_as_they_are_written_have_no_int8_kernels(bundle: Bundle) -> None:
    with open_model(bundle.file("model.fp32"), precision="fp32") as session:
        assert session.int8_kernels is None
    with open_model(bundle.file("model.int8"), precision="int8", optimised=False) as session:
        assert session.int8_kernels is None


@pytest.mark.parametrize(
    ("without", "with_option", "kernels", "is_set"),
    [(True, True, "exact", False), (False, True, "made_exact", True), (False, False, "saturating", False)],
)
def test_the_option_is_set_where_it_is_needed_and_helps(
    without: bool, with_option: bool, kernels: str, is_set: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        int8_kernels, "_is_exact", lambda ort, *, exact_option: with_option if exact_option else without
    )
    find_int8_kernels.cache_clear()
    entries: list[tuple[str, str]] = []

    class Options:
        def add_session_config_entry(self, *entry: str) -> None:
            entries.append(entry)  # type: ignore[arg-type]

    try:
        assert set_exact_int8(onnxruntime, Options()) == kernels
    finally:
        find_int8_kernels.cache_clear()
    assert entries == ([EXACT_OPTION] if is_set else [])


def test_a_build_that_cannot_run_the_probe_is_not_judged() -> None:
    class FewOperators:
        SessionOptions = onnxruntime.SessionOptions

        @staticmethod
        def InferenceSession(*_arguments: Any, **_options: Any) -> None:  # noqa: N802
            raise RuntimeError("Could not find an implementation for QuantizeLinear(13)")

    assert find_int8_kernels(FewOperators()) is None


def test_a_model_that_cannot_be_loaded_with_the_option_is_loaded_without(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    load = _onnxruntime._load

    def refuses_first(*arguments: Any) -> Any:
        loaded.append(arguments)
        if len(loaded) == 1:
            raise RuntimeError("Attempt to replace the existing tensor")
        return load(*arguments)

    monkeypatch.setattr(_onnxruntime, "set_int8_options", lambda ort, options, path: "made_exact")
    monkeypatch.setattr(_onnxruntime, "_load", refuses_first)
    request = SessionRequest(path=bundle.file("model.int8"), sha256="", precision="int8", provider="cpu", threads=1)
    with _onnxruntime.open_onnx(request) as session:
        assert session.int8_kernels == "saturating"


@pytest.fixture(scope="module")
def without_vnni(bundle: Bundle) -> dict[str, Any]:
    """The records of both ONNX Runtimes on a processor without VNNI."""
    records: dict[str, Any] = json.loads(run_without_vnni(VALIDATING, bundle.path))
    return records


def test_without_vnni_a_bundle_validates_as_with_it(without_vnni: dict[str, Any]) -> None:
    parity, latency = (without_vnni["new"][kind] for kind in ("parity", "latency"))
    assert parity["verdict"] == "pass"
    assert parity["accuracy"]["candidate"] == parity["agreement"] == 1
    assert parity["int8_kernels"] == latency["int8_kernels"] == "made_exact"
    assert parity["diagnosis"] == []
    assert not any("saturate" in note for note in parity["notes"])
    assert "saturating" not in latency["flags"]


def test_without_vnni_and_the_option_saturation_is_named_as_the_cause(without_vnni: dict[str, Any]) -> None:
    parity, latency = (without_vnni["old"][kind] for kind in ("parity", "latency"))
    assert parity["verdict"] == "fail"
    assert parity["accuracy"]["candidate"] < 0.6
    assert parity["int8_kernels"] == latency["int8_kernels"] == "saturating"
    assert [each["name"] for each in parity["diagnosis"]] == ["saturating_kernels"]
    assert parity["diagnosis"][0]["evidence"]["accuracy_repaired"] == 1
    assert any(
        "The INT8 kernels saturate on this processor" in note and "logits are off by" in note
        for note in parity["notes"]
    )
    assert "saturating" in latency["flags"]
