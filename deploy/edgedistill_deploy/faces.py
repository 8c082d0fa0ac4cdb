"""The face of a package: its promised names, each imported when first asked for, so that importing the package costs
nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Face = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def build_face(package: str, names_by_module: Mapping[str, str]) -> Face:
    """Return the `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its name.
        names_by_module: the promised names, separated by blanks, by the module that each is from. Type checkers do not
            see these: the package imports them again under TYPE_CHECKING, each `as` itself.
    """
    homes = {name: module for module, names in names_by_module.items() for name in names.split()}

    def find_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find_name, lambda: sorted(homes), sorted(homes)
