"""A teacher of one's own, made by a function that is named by its import path."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from edgedistill.models.libraries.forms import split_function
from edgedistill_deploy.errors import DataError, UsageError


def call_function(target: str) -> object:
    """Import MODULE of MODULE:FUNCTION, also from the current folder, and return what the function returns.

    Raises:
        UsageError: no such module or function.
        DataError: the function fails.
    """
    module_name, function_name = split_function(target)
    with _importable(Path.cwd()):
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise UsageError(f"The module {module_name} of python:{target} cannot be imported: {error}.") from error
        function = getattr(module, function_name, None)
        if not callable(function):
            raise UsageError(f"The module {module_name} has no function {function_name!r}, named by python:{target}.")
        try:
            made: object = function()
        except Exception as error:  # the user's code
            raise DataError(f"python:{target} failed with {type(error).__name__}: {error}.") from error
    return made


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported inside the block."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
