"""The promised names, both ways: each is there, and nothing else is promised."""

import ast
import importlib
from pathlib import Path

import pytest

PROMISED = {
    "edgedistill": """DistillConfig DistillResult ExportConfig LayerPair Subspace Subtask SubtaskImages Teacher
        build_student distill export_onnx find_subspaces inspect_subspaces load_teacher open_source pair_layers
        shrink_teacher split_for_subtask""",
    "edgedistill_calibration": "CalibrationConfig calibrate calibrate_recovered",
    "edgedistill_deploy": """Bundle DeviceInfo EdgeDistillError Expert Explanation LatencyConfig LatencyReport
        ParityLimits ParityReport Prediction Preprocess Session Validation ValidationRequest check_parity create_bundle
        measure_latency open_bundle open_images open_model open_session read_device read_image validate_bundle
        write_latency write_parity write_report""",
}


@pytest.mark.parametrize("package", PROMISED)
def test_the_public_names_are_those_promised(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(name for name in module.__all__ if name != "__version__") == sorted(PROMISED[package].split())
    for name in PROMISED[package].split():
        value = getattr(module, name)
        assert value.__doc__, f"{name} has no docstring"
    assert dir(module) == module.__all__


@pytest.mark.parametrize("package", PROMISED)
def test_other_names_are_not_there(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module {package!r} has no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


@pytest.mark.parametrize("package", PROMISED)
def test_type_checkers_see_the_names_that_are_imported(package: str) -> None:
    module = importlib.import_module(package)
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    seen = {
        name.name: node.module
        for branch in ast.parse(source).body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname == name.name
    }
    assert sorted(seen) == module.__all__
    for name, home in seen.items():
        assert getattr(module, name) is getattr(importlib.import_module(str(home)), name)


def test_a_submodule_never_hides_a_public_name() -> None:
    importlib.import_module("edgedistill.distillation.subdistill")
    importlib.import_module("edgedistill.distillation.training")
    import edgedistill

    assert callable(edgedistill.distill)
