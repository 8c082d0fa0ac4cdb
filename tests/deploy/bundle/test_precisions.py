"""Which file a runtime takes for a precision: what is offered can be opened, and computes in what was asked for."""

import re
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import (
    EXPERT_FILES,
    FP16_FILES,
    INT8_FILES,
    PRECISIONS,
    USUAL_PRECISIONS,
    computes_in,
    device_precision,
    find_role,
    model_role,
    suits,
)
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.runtimes.opening import RUNTIMES

BY_ROLE = {model_role(name): name for name in PRECISIONS}


def having(*roles: str) -> Bundle:
    return Bundle(path=Path("run"), manifest={"files": {role: {} for role in roles}})


@given(roles=st.sets(st.sampled_from([*BY_ROLE, "golden"])), runtime=st.sampled_from(RUNTIMES))
def test_what_is_offered_can_be_opened_and_what_is_not_cannot(roles: Collection[str], runtime: str) -> None:
    bundle = having(*roles)
    offered = [name for name in USUAL_PRECISIONS if find_role(roles, name, runtime)]
    if not offered:
        with pytest.raises(BundleError, match=f"The bundle run holds no model for {runtime} yet; run"):
            bundle.precisions_for(runtime)
    else:
        assert list(bundle.precisions_for(runtime)) == offered
    for name in offered:
        role = bundle.role_for(name, runtime)
        assert role in roles
        assert computes_in(BY_ROLE[role]) == computes_in(name)
    for name in {*USUAL_PRECISIONS} - {*offered}:
        with pytest.raises(BundleError, match=f"has no model of precision {name}; it has "):
            bundle.role_for(name, runtime)


@given(roles=st.sets(st.sampled_from([*BY_ROLE])))
def test_every_file_is_opened_under_its_own_name_too(roles: Collection[str]) -> None:
    assert {having(*roles).role_for(name) for name in having(*roles).precisions} == {*roles}


def test_tensorrt_takes_int8_files_of_its_own() -> None:
    assert having("model.fp32", "model.int8").precisions_for("tensorrt") == ("fp32",)
    assert having("model.fp32", "model.int8").precisions_for("onnxruntime") == ("fp32", "int8")
    mixed, plain = (having("model.int8-fp16-tensorrt"), having("model.int8-fp16-tensorrt", "model.int8-tensorrt"))
    assert mixed.precisions_for("tensorrt") == ("int8",)
    assert mixed.role_for("int8", "tensorrt") == "model.int8-fp16-tensorrt"
    assert plain.role_for("int8", "tensorrt") == "model.int8-tensorrt"


def test_what_each_model_computes_in() -> None:
    assert [computes_in(name) for name in PRECISIONS] == ["fp32", "fp16", "int8", "int8", "int8", "fp32"]
    assert {*INT8_FILES, *FP16_FILES} == {*EXPERT_FILES} - {"fp32"}


@given(name=st.text(max_size=80))
def test_any_device_name_gives_a_file_of_its_own_or_is_refused(name: str) -> None:
    try:
        precision = device_precision(name)
    except UsageError:
        return
    assert precision not in PRECISIONS
    assert re.fullmatch(r"int8-[a-z0-9-]{1,62}", precision)
    assert model_role(precision) == f"model.{precision}"
    assert computes_in(precision) == "int8"
    assert suits(precision, name)
    assert not suits(precision, f"{name}x" if len(name) < 60 else "x")


@pytest.mark.parametrize("name", ["tensorrt", "FP16 TensorRT", "any-size", "recovered", "", "../.."])
def test_a_device_cannot_take_the_name_of_another_file(name: str) -> None:
    with pytest.raises(UsageError, match="There can be no INT8 file for a device called"):
        device_precision(name)


def test_a_file_for_a_device_is_offered_there_alone() -> None:
    bundle = having("model.fp32", "model.int8", "model.int8-pi-5", "model.int8-any-size", "model.int8-tensorrt")
    assert bundle.precisions == ("fp32", "int8", "int8-tensorrt", "int8-pi-5")
    assert bundle.precisions_for("onnxruntime") == ("fp32", "int8")
    assert bundle.precisions_for("onnxruntime", "Pi 5") == ("fp32", "int8", "int8-pi-5")
    assert bundle.precisions_for("onnxruntime", "pi-4") == ("fp32", "int8")
    assert "int8-pi-5" not in bundle.precisions_for("tensorrt", "pi-5")


def test_an_unknown_precision_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"There is no precision 'int9'\. Did you mean"):
        having("model.fp32").role_for("int9")
