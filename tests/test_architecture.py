"""The map of the house, docs/architecture.md, shows what stands."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TOPS = {path.name for path in ROOT.iterdir()}
PACKAGES = ("cli/edgedistill_cli", "edgedistill", "calibration/edgedistill_calibration", "deploy/edgedistill_deploy")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found, f"docs/architecture.md has no section {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines[1:]]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def rooms_on_the_page(package: str) -> dict[str, list[str]]:
    return {code(row[0])[0]: code(row[2]) for row in rows(section(f"`{package}/`"))}


def rooms_that_stand(package: str) -> dict[str, list[str]]:
    """Return every room of a package, and every module beside the rooms, with its doors."""
    top = ROOT / package
    rooms = {
        f"{init.parent.relative_to(top).as_posix()}/": sorted(
            file.stem for file in init.parent.glob("*.py") if not file.stem.startswith("_")
        )
        for init in top.rglob("__init__.py")
        if init.parent != top
    }
    modules: dict[str, list[str]] = {file.name: [] for file in top.glob("*.py") if not file.stem.startswith("_")}
    return rooms | modules


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_and_every_door_is_named(package: str) -> None:
    named = {room: sorted(doors) for room, doors in rooms_on_the_page(package).items()}
    assert named == rooms_that_stand(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_floors_are_those_that_the_contracts_hold(package: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    name = package.split("/")[-1]
    (layers,) = (
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == [name]
    )
    drawn = re.search(r"```\n(.*?)```", section(f"`{package}/`"), flags=re.DOTALL)
    assert drawn
    assert drawn[1].splitlines() == layers


def test_every_path_that_the_page_names_exists() -> None:
    named = {text for text in code(PAGE) if re.fullmatch(r"[\w./-]+/[\w./-]*", text) and text.split("/")[0] in TOPS}
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_wish_is_granted_by_one_to_three_files() -> None:
    wishes = rows(section("Where do I change ...?"))
    words = (
        "runtime, layer loss, data source, check, command, target, power, field, section, "
        "superclass, error, calibration"
    )
    for word in words.split(", "):
        assert any(word in wish for wish, _ in wishes), f"no row says where to add: {word}"
    for wish, where in wishes:
        files = [text for text in code(where) if "/" in text]
        assert 1 <= len(files) <= 3, wish
        assert all((ROOT / file).is_file() for file in files), wish
