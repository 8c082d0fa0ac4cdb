"""What is run on a machine with a GPU needs no more than that machine has, and its code runs on a CPU as well.

Such a machine may have torch and its family, ONNX, what draws the command line and what runs tests, and nothing of
what settings files, remote devices and reports need.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
AT_HAND = [
    *("torch", "torchvision", "timm", "accelerate", "safetensors", "onnx", "onnxruntime", "onnxscript", "numpy"),
    *("Pillow", "typer", "rich", "tomli", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis"),
]

# Run with the names of the packages that are not there, and the code that must do without them.
WITHOUT = """
    import sys

    class Without:
        def __init__(self, finder, hidden):
            self.finder, self.hidden = finder, hidden

        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in self.hidden:
                return None
            return self.finder.find_spec(name, path, target)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    hidden = set(sys.argv[1].split())
    sys.meta_path[:] = [Without(each, hidden) for each in sys.meta_path if hasattr(each, "find_spec")]
"""


@pytest.mark.parametrize(
    ("chosen", "at_least"),
    [
        pytest.param("moments or rotation or suits or first_losses and float32 or waits and average", 8, id="some"),
        pytest.param("", 20, id="all", marks=pytest.mark.slow),
    ],
)
def test_the_gpu_tests_and_the_gpu_benchmark_run_with_what_such_a_machine_has(
    tmp_path: Path, chosen: str, at_least: int
) -> None:
    said = run_without(
        hidden_packages(),
        f"""
        try:
            import tomli_w
        except ModuleNotFoundError:
            print("tomli_w is hidden")

        import torch
        torch.set_num_threads(1)
        from benchmarks.gpu import main
        main(["--compute", "cpu", "--tiny"])

        import pytest
        code = pytest.main(["-m", "gpu", "-k", {chosen!r}, "-q", "-p", "pytest_timeout", "-p", "no:cacheprovider",
                            "-o", "faulthandler_timeout=0", "--basetemp", {str(tmp_path / "tests")!r}])
        print("pytest ended with", int(code))
        """,
    )
    assert "tomli_w is hidden" in said
    assert "| bfloat16, channels last | SubDistill, teacher cached |" in said
    assert "not run" not in said
    assert "largest difference between the two" in said
    assert "pytest ended with 0" in said
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed.group(1)) >= at_least


def hidden_packages() -> set[str]:
    """Return the installed packages, by the name that imports them, that no package at hand asks for."""
    names = importlib.metadata.packages_distributions()
    there = closure(AT_HAND)
    return {
        package
        for package, distributions in names.items()
        if not package.startswith(("_", "edgedistill")) and not {normal(each) for each in distributions} & there
    }


def closure(distributions: list[str]) -> set[str]:
    """Return these distributions and all that they require, without extras."""
    found: set[str] = set()
    waiting = [normal(each) for each in distributions]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            wanted = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another version of Python, or another machine
        waiting += [normal(re.split(r"[^\w.-]", each, maxsplit=1)[0]) for each in wanted if "extra ==" not in each]
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_without(hidden: set[str], code: str) -> str:
    """Run code from the checkout in a process that does not find these packages; return what it printed."""
    folders = [ROOT, *(ROOT / each for each in ("cli", "deploy", "calibration"))]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT) + textwrap.dedent(code), " ".join(sorted(hidden))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "EDGEDISTILL_GPU_TESTS_ON": "cpu",
            "OMP_NUM_THREADS": "1",
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
