"""Settings of calibration: what is refused, and which profile a machine gets."""

import subprocess
import sys
from typing import Any

import pytest

from edgedistill_calibration import CalibrationConfig
from edgedistill_calibration.config import CANDIDATES, METHODS, PROFILES, SAMPLED_NODES, machine_profile
from edgedistill_deploy.errors import UsageError


def test_defaults_try_all_ranges_for_this_machine_on_as_many_images_as_suit_the_model() -> None:
    config = CalibrationConfig()
    assert (config.images, config.held_out, config.method, config.seed) == ("auto", "auto", "auto", 0)
    assert config.profile == machine_profile()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_listed_name_is_accepted(method: str, profile: str) -> None:
    assert CANDIDATES[CalibrationConfig(method=method, profile=profile).method]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": 0}, "images must be a whole number of at least 1, or auto, and 0 was given"),
        ({"images": 2.5}, "images must be a whole number of at least 1, or auto, and 2.5 was given"),
        ({"images": "all"}, "images must be a whole number of at least 1, or auto, and 'all' was given"),
        ({"held_out": True}, "held_out must be a whole number of at least 1, or auto, and True was given"),
        ({"ledger_nodes": "auto"}, "ledger_nodes must be a whole number of at least 0, or all, and 'auto' was given"),
        ({"ledger_nodes": "few"}, "ledger_nodes must be a whole number of at least 0, or all, and 'few' was given"),
        ({"ledger_nodes": -1}, "ledger_nodes must be a whole number of at least 0, or all, and -1 was given"),
        ({"seed": -1}, "seed must be a whole number of at least 0, and -1 was given"),
        (
            {"method": "min-max"},
            (
                "method must be one of minmax, moving-average, percentile, least-squares, auto, and 'min-max' was "
                "given. Did you mean minmax"
            ),
        ),
        ({"method": "entropy"}, "method must be one of .*, and 'entropy' was given.$"),
        ({"profile": "x68"}, "profile must be one of x86, arm, and 'x68' was given. Did you mean x86"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CalibrationConfig(**wrong)


@pytest.mark.parametrize(
    ("machine", "profile"), [("x86_64", "x86"), ("AMD64", "x86"), ("aarch64", "arm"), ("arm64", "arm")]
)
def test_the_profile_follows_the_kind_of_processor_and_not_its_flags(
    machine: str, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert machine_profile() == profile


def test_a_retired_profile_is_taken_with_a_note() -> None:
    assert CalibrationConfig(profile="x86").notes == ()
    (note,) = CalibrationConfig(profile="x86-no-vnni").notes
    assert note.startswith("The profile x86-no-vnni is retired, and x86 was taken")
    with pytest.raises(UsageError, match="method must be one of"):
        CalibrationConfig(method="x86-no-vnni")


def test_settings_are_read_without_onnx() -> None:
    code = (
        "import sys; from edgedistill_calibration import CalibrationConfig; CalibrationConfig();"
        "print(sorted({'onnx', 'onnxruntime', 'numpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_few_nodes_are_measured_where_a_file_holds_its_limit_and_all_where_that_is_asked() -> None:
    few = CalibrationConfig(ledger_nodes=100)
    assert (few.node_limit(50, holds=True), few.node_limit(50, holds=False), few.node_limit(300, holds=False)) == (
        SAMPLED_NODES, 50, 100,
    )  # fmt: skip
    assert CalibrationConfig(ledger_nodes="all").node_limit(300, holds=True) == 300
    assert CalibrationConfig(ledger_nodes=3).node_limit(50, holds=True) == 3
    assert CalibrationConfig(ledger_nodes=0).node_limit(50, holds=False) == 0
