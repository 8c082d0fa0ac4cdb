"""Where code may run is decided by its package: nothing that reaches a device meets a training framework."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    ).stdout


def modules_of(folder: str) -> list[str]:
    files = sorted((ROOT / folder).rglob("*.py"))
    names = [".".join(file.relative_to((ROOT / folder).parent).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize(
    ("folder", "blocked"),
    [
        (
            "deploy/edgedistill_deploy",
            (
                "torch torchvision timm accelerate safetensors edgedistill edgedistill_calibration edgedistill_cli "
                "typer rich onnx onnxruntime tensorrt jinja2 scipy datasets pyarrow fsspec aiohttp"
            ),
        ),
        (
            "calibration/edgedistill_calibration",
            "torch torchvision timm accelerate safetensors edgedistill edgedistill_cli typer rich",
        ),
    ],
)
def test_every_module_imports_without_what_it_must_not_need(folder: str, blocked: str) -> None:
    names = modules_of(folder)
    assert len(names) > 5
    printed = run_python(f"""
        import importlib, sys
        for name in {blocked.split()!r}:
            sys.modules[name] = None  # any import of it now fails
        for name in {names!r}:
            importlib.import_module(name)
        print("all imported")
    """)
    assert printed == "all imported\n"


@pytest.mark.parametrize(
    ("argv", "commands"),
    [
        (["--help"], []),
        (["--version"], []),
        (["build", "--help"], ["training"]),
        (["validate", "--help"], ["validate"]),
        (["predict", "--help"], ["predict"]),
        (["devices", "add", "--help"], ["devices"]),
    ],
)
def test_help_imports_no_other_command_and_nothing_heavy_or_that_only_running_needs(
    argv: list[str], commands: list[str]
) -> None:
    printed = run_python(f"""
        import sys
        from edgedistill_cli.app import main
        sys.argv = ["edgedistill", *{argv!r}]
        try:
            main()
        except SystemExit as stop:
            assert not stop.code
        place = "edgedistill_cli.commands."
        print(sorted(name.removeprefix(place) for name in sys.modules if name.startswith(place)))
        unneeded = {{"pydantic", "rich.progress", "edgedistill_cli.settings", "edgedistill", "edgedistill_calibration"}}
        heavy = {{"torch", "timm", "onnx", "onnxruntime", "numpy", "PIL", "accelerate", "scipy", "jinja2"}}
        print(sorted((unneeded | heavy) & set(sys.modules)))
    """)
    assert printed.splitlines()[-2:] == [str(commands), "[]"]


def test_importing_the_package_changes_nothing_and_costs_nothing() -> None:
    printed = run_python("""
        import logging, os, sys, warnings
        before = (dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers))
        import edgedistill, edgedistill_calibration, edgedistill_deploy
        assert before == (dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers))
        print(sorted({"torch", "timm", "onnx", "onnxruntime", "numpy"} & set(sys.modules)))
    """)
    assert printed == "[]\n"
