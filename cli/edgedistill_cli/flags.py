"""From a command's parameters to values: flags that belong together are one dataclass, and each flag knows its
setting."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import Parameter
from typing import Any, get_args

from typer.core import TyperGroup


def _as_given(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """In the type of a flag: the key of the settings that it gives, as table.key, and how its value is read."""

    key: str
    read: Callable[[Any], Any] = _as_given


class Without:
    """In the type of a command's parameter: the flags of the group that this command has not."""

    def __init__(self, *names: str) -> None:
        self.names = names


class CommandGroup(TyperGroup):
    """A list of commands. Typer loads pydantic to read a flag whose default is None, and has such flags before any
    command."""

    def get_params(self, *args: Any) -> Any:
        """Return the flags that stand before the command; what is not given is False."""
        flags = super().get_params(*args)
        for each in flags:
            if each.default is None and getattr(each, "is_flag", False):
                each.default = False
        return flags


def settings_of(*groups: Any) -> dict[str, Any]:
    """Return {"table.key": value} of the flags that were given and give a setting."""
    return {
        setting.key: setting.read(value)
        for group in groups
        for each in fields(group)
        for setting in get_args(each.type)
        if isinstance(setting, Setting) and (value := getattr(group, each.name)) is not None
    }


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as typer reads it: a parameter whose type is a dataclass stands for the flags of its fields.

    Raises:
        TypeError: `Without` names a flag that the group has not.
    """
    parameters: list[Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for each in inspect.signature(command).parameters.values():
        group, *markers = get_args(each.annotation) or (each.annotation,)
        if hasattr(group, "__dataclass_fields__"):
            flags = _flags_of(group, markers)
            groups[each.name] = group, [flag.name for flag in flags]
            parameters.extend(flags)
        else:
            parameters.append(each.replace(kind=Parameter.KEYWORD_ONLY))

    def call(**given: Any) -> None:
        for name, (group, flags) in groups.items():
            given[name] = group(**{flag: given.pop(flag) for flag in flags})
        command(**given)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    call.__doc__ = command.__doc__
    return call


def _flags_of(group: Any, markers: list[Any]) -> list[Parameter]:
    absent = {name for marker in markers if isinstance(marker, Without) for name in marker.names}
    if unknown := absent - {each.name for each in fields(group)}:
        raise TypeError(f"{group.__name__} has no flags {sorted(unknown)}.")
    return [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
        for each in fields(group)
        if each.name not in absent
    ]
