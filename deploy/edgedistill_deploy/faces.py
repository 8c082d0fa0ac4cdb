"""The face of a package: its promised names. Each is imported at its first use, so importing the package is fast."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Face = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def build_face(package: str, names_by_module: Mapping[str, str]) -> Face:
    """Return the `__getattr__`, `__dir__` and `__all__` of a package.

    `names_by_module` gives each module's promised names, separated by blanks. Type checkers do not see them, so the
    package imports them again under TYPE_CHECKING, each `as` itself.
    """
    homes = {name: module for module, names in names_by_module.items() for name in names.split()}

    def find_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find_name, lambda: sorted(homes), sorted(homes)
