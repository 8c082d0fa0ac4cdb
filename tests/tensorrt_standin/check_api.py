"""Every name of TensorRT's that the adapter uses exists in the real bindings, and every call fits a signature there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorrt as trt

import edgedistill_deploy

FILES = [
    file
    for file in sorted(Path(edgedistill_deploy.__file__).parent.rglob("*.py"))
    if re.search(r"\btrt\.", file.read_text(encoding="utf-8"))
]
# What the adapter calls the objects of each class.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "error": "ParserError",
}
# Names of variables above that are something else in one place: a request's options, a dictionary, an exception.
NOT_TENSORRT = {("error", "name"), ("error", "strerror"), ("engine", "with_suffix"), ("engine", "opt_batch")}


def nodes() -> Iterator[ast.AST]:
    for file in FILES:
        yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def dotted(node: ast.AST) -> str:
    """Return a.b.c, or "" for what is not made of names alone."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def resolved(chain: str) -> Any:
    """Return what trt.a.b, or a method or attribute of an object of the adapter's, is in the bindings; None if none of
    theirs."""
    *owners, name = chain.split(".")
    if "trt" in owners:
        found: Any = trt
        for part in [*owners[owners.index("trt") + 1 :], name]:
            found = getattr(found, part)
        return found
    owner = owners[-1] if owners else ""
    if owner not in CLASSES or (owner, name) in NOT_TENSORRT:
        return None
    if "request" in owners[:-1]:
        return None
    return getattr(getattr(trt, CLASSES[owner]), name)


USED = sorted({chain for node in nodes() if isinstance(node, ast.Attribute) and "." in (chain := dotted(node))})


def test_the_search_finds_what_the_adapter_uses() -> None:
    found = [chain for chain in USED if resolved(chain) is not None]
    assert {file.stem for file in FILES} == {"adapter", "_build", "session"}
    assert {"trt.IProgressMonitor", "config.set_memory_pool_limit", "trt.BuilderFlag.TF32"} <= set(found)
    assert len(found) > 40


@pytest.mark.parametrize("chain", USED)
def test_the_name_exists(chain: str) -> None:
    resolved(chain)


def calls() -> Iterator[tuple[str, int]]:
    for node in nodes():
        if isinstance(node, ast.Call) and not any(isinstance(each, ast.Starred) for each in node.args):
            chain = dotted(node.func)
            if "." in chain and resolved(chain) is not None:
                given = len(node.args) + len(node.keywords)
                # Called on the class, as a subclass does, it is given the object too.
                yield chain, given - chain.endswith(".__init__")


def accepted_counts(documentation: str, name: str) -> set[int]:
    """Return how many arguments, besides self, the overloads that a docstring of pybind11 lists can be given."""
    counts: set[int] = set()
    for arguments in re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", documentation, re.MULTILINE):
        if arguments == "*args, **kwargs":
            continue
        plain = re.sub(r"<[^<>]*>|\[[^\[\]]*\]", "", arguments)  # default values of enumerations, and what lists hold
        given = [part for part in plain.split(", ") if not part.startswith("self:")]
        needed = sum(" = " not in part for part in given)
        counts |= set(range(needed, len(given) + 1))
    return counts


@pytest.mark.parametrize(("chain", "count"), sorted(set(calls())))
def test_the_call_fits_a_signature(chain: str, count: int) -> None:
    function = resolved(chain)
    documented: Any = vars(function)["__init__"] if isinstance(function, type) else function
    counts = accepted_counts(documented.__doc__ or "", documented.__name__)
    if isinstance(function, type) and not counts:
        pytest.skip("the class documents no signature")
    assert count in counts, documented.__doc__


@pytest.mark.parametrize(
    ("interface", "methods"),
    [
        ("ILogger", ["log"]),
        ("IProfiler", ["report_layer_time"]),
        ("IProgressMonitor", ["phase_start", "step_complete", "phase_finish"]),
    ],
)
def test_what_the_adapter_implements_is_asked_for(interface: str, methods: list[str]) -> None:
    defined = {node.name for node in nodes() if isinstance(node, ast.FunctionDef)}
    for method in methods:
        assert method in defined
        assert callable(getattr(getattr(trt, interface), method))
