"""Both ways to the CUDA runtime, as far as they go without a GPU: each function is really called, and its error comes
back."""

from typing import Any

import pytest

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.runtimes.tensorrt import _cudart


@pytest.fixture(params=["cuda-python", "ctypes"])
def calls(request: pytest.FixtureRequest) -> Any:
    """The calls of one way, on a machine without a GPU; skipped where the way, or such a machine, is not to be had."""
    if request.param == "cuda-python":
        found: Any = _cudart._Bindings(pytest.importorskip("cuda.bindings.runtime"))
    else:
        try:
            found = _cudart._Library(_cudart._load_library())
        except EdgeDistillError as error:
            pytest.skip(str(error))
    if found.count()[0] == 0:
        pytest.skip("this machine has a GPU")
    return found


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("count", ()),
        ("current", ()),
        ("name", (0,)),
        ("attribute", (75, 0)),
        ("memory", ()),
        ("allocate", (16,)),
        ("free", (0,)),
        ("make_stream", ()),
        ("end_stream", (0,)),
        ("copy", (0, 0, 0, 1, 0)),
        ("wait", (0,)),
    ],
)
def test_every_function_is_called_and_its_error_returned(calls: Any, function: str, arguments: tuple[int, ...]) -> None:
    code, _ = getattr(calls, function)(*arguments)
    assert code > 0
    assert calls.error_name(code).startswith("cudaError")


def test_the_last_error_and_names_of_errors_are_cudas(calls: Any) -> None:
    calls.allocate(16)
    assert calls.last_error() > 0
    assert calls.error_name(2) == "cudaErrorMemoryAllocation"
    assert calls.error_name(700) == "cudaErrorIllegalAddress"


def test_an_error_says_what_was_being_done(calls: Any) -> None:
    with pytest.raises(EdgeDistillError, match=r"CUDA failed while making a stream: cudaError\w+ \(error \d+\)\.$"):
        _cudart.Cuda(calls).make_stream()
    with pytest.raises(EdgeDistillError, match=r"CUDA finds none here \(cudaError\w+\); check with nvidia-smi"):
        _cudart.Cuda(calls).gpu()
