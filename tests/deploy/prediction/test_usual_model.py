"""Which model answers when none is named."""

import shutil
import sys
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.prediction.usual_model import choose_model

DEVICE = "pi5"


@pytest.fixture
def several(colours: Bundle) -> Bundle:
    """A bundle with two files of the expert and the teacher's."""
    for role, name in (("model.int8", "model.int8.onnx"), ("teacher.fp32", "teacher.fp32.onnx")):
        shutil.copy(colours.path / "model.fp32.onnx", colours.path / name)
        colours = colours.with_file(role, colours.path / name)
    return colours


def recommending(bundle: Bundle, **changes: Any) -> Bundle:
    choice = {
        "precision": "int8",
        "runtime": "onnxruntime",
        "provider": "openvino",
        "model_sha256": bundle.model_sha256("model.int8"),
        "reason": "Int8 is recommended: it is faster.",
        **changes,
    }
    return bundle.with_fields(choices={DEVICE: choice})


def chosen(bundle: Bundle, **asked: Any) -> tuple[str, str, str]:
    found = choose_model(bundle, device=DEVICE, **asked)
    return found.precision, found.runtime, found.provider


SAFE = ("fp32", "onnxruntime", "cpu")


def test_the_model_that_is_recommended_for_the_device_is_taken(several: Bundle) -> None:
    assert chosen(recommending(several)) == ("int8", "onnxruntime", "openvino")
    assert choose_model(recommending(several), device="another").precision == "fp32"
    assert "Nothing is recommended for this device yet" in choose_model(several).reason


def test_the_device_is_this_machine_by_its_name_in_records(several: Bundle) -> None:
    choices = {read_device().name: recommending(several, provider="cpu").manifest["choices"][DEVICE]}
    assert choose_model(several.with_fields(choices=choices)).precision == "int8"


def test_a_provider_that_is_not_installed_any_more_is_left_for_cpu_with_a_doubt(
    several: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    choices = {read_device().name: recommending(several).manifest["choices"][DEVICE]}
    bundle = several.with_fields(choices=choices)
    found = choose_model(bundle)
    assert (found.precision, found.runtime, found.provider) == SAFE
    assert found.doubtful
    assert "but the installed ONNX Runtime has no provider openvino any more" in found.reason
    assert choose_model(bundle, provider="openvino").provider == "openvino"  # who names it hears of it when it opens


def test_a_provider_that_is_installed_is_taken(several: Bundle, openvino: pytest.MonkeyPatch) -> None:
    choices = {read_device().name: recommending(several).manifest["choices"][DEVICE]}
    assert choose_model(several.with_fields(choices=choices)).provider == "openvino"


def test_what_the_user_names_wins(several: Bundle) -> None:
    bundle = recommending(several)
    assert chosen(bundle, precision="fp32") == SAFE
    assert chosen(bundle, precision="teacher", provider="cuda") == ("teacher", "onnxruntime", "cuda")
    assert chosen(bundle, provider="openvino") == ("int8", "onnxruntime", "openvino")
    assert chosen(bundle, provider="cpu") == SAFE
    assert chosen(bundle, runtime="tensorrt") == ("fp32", "tensorrt", "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": 64 * "0"},
        {"model_sha256": None},
        {"precision": "fp16"},
        {"precision": "nonsense"},
        {"precision": ["int8"]},
        {"runtime": 7},
        {"runtime": "nonsense"},
        {"provider": "qnn:htp,backend_path=mine.so"},  # would load a library
    ],
)
def test_a_recommendation_that_does_not_fit_the_bundle_does_not_count(several: Bundle, change: dict[str, Any]) -> None:
    assert chosen(recommending(several, **change)) == SAFE
    assert chosen(several.with_fields(choices={DEVICE: "int8"})) == SAFE


def test_where_no_model_held_the_limit_fp32_answers_with_a_warning(several: Bundle) -> None:
    reason = "Nothing is recommended: int8 does not hold the limit."
    found = choose_model(recommending(several, precision=None, model_sha256=None, reason=reason), device=DEVICE)
    assert (found.precision, found.doubtful, found.reason) == ("fp32", True, f"On {DEVICE}: {reason}")


def test_a_bundle_without_fp32_answers_with_what_it_has(several: Bundle) -> None:
    small = several.without_file("model.fp32").without_file("teacher.fp32")
    assert choose_model(small).precision == "int8"
    with pytest.raises(BundleError, match="holds no model for onnxruntime"):
        choose_model(small.without_file("model.int8"))
