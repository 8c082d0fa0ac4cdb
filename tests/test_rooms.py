"""The rooms keep their doors: what begins with an underscore stays inside, and no room is a corridor."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("edgedistill", "cli/edgedistill_cli", "deploy/edgedistill_deploy", "calibration/edgedistill_calibration")
MOST_MODULES = 15
# A face for people who compare methods from Python; it loads no torch.
FACES = ("edgedistill/comparison",)


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path, package: str) -> str:
    parts = path.relative_to((ROOT / package).parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def private_imports(text: str, own: str) -> Iterator[str]:
    """Yield each name with an underscore that a module takes from a module beside it or from another room."""
    aliases: dict[str, str] = {}
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("edgedistill"):
            for each in node.names:
                aliases[each.asname or each.name] = f"{node.module}.{each.name}"
                is_private_name = each.name.startswith("_") and not each.name.startswith("__")
                if is_private_name and not _is_module(f"{node.module}.{each.name}"):
                    yield f"{own} imports {node.module}.{each.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.startswith("_"):
            module = aliases.get(node.value.id, "")
            if _is_module(module) and not node.attr.startswith("__"):
                yield f"{own} uses {module}.{node.attr}"


def _is_module(name: str) -> bool:
    folders = {Path(package).name: ROOT / package for package in PACKAGES}
    first, *rest = name.split(".")
    if first not in folders:
        return False
    path = folders[first].joinpath(*rest)
    return path.with_suffix(".py").is_file() or path.is_dir()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_takes_a_name_with_an_underscore_from_another(package: str) -> None:
    found = [
        each
        for path in sources(package)
        for each in private_imports(path.read_text(encoding="utf-8"), name_of(path, package))
    ]
    assert found == []


def test_the_search_sees_both_ways_to_reach_a_private_name() -> None:
    text = (
        "from edgedistill_deploy.files import writing\n"
        "from edgedistill_deploy.files.writing import _hidden\n"
        "writing._other()\n"
    )
    assert list(private_imports(text, "here")) == [
        "here imports edgedistill_deploy.files.writing._hidden",
        "here uses edgedistill_deploy.files.writing._other",
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_has_more_modules_than_one_can_overlook(package: str) -> None:
    folders = {path.parent for path in sources(package)} - {ROOT / "cli/edgedistill_cli/commands"}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := sum(path.name != "__init__.py" for path in folder.glob("*.py"))) > MOST_MODULES
    }
    assert crowded == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_says_in_one_docstring_what_it_is_for(package: str) -> None:
    for path in (ROOT / package).glob("*/**/__init__.py"):
        room = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(room), f"{path} does not say what it is for"
        is_face = str(path.parent.relative_to(ROOT)) in FACES
        assert is_face or len(room.body) == 1, f"{path} holds more than its docstring"
