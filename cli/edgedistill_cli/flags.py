"""Flags that belong together as one dataclass, each with the setting that it gives."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import Parameter
from typing import Any, get_args

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Setting:
    """In the type of a flag: the setting that it gives, as table.key, and the function that reads its value."""

    key: str
    read: Callable[[Any], Any] = lambda value: value


class Without:
    """In the type of a command's parameter: the flags of the group that this command does not take."""

    def __init__(self, *names: str) -> None:
        self.names = names


class CommandGroup(TyperGroup):
    """A list of commands. Typer would load pydantic for its flags before a command, since their default is None."""

    def get_params(self, *args: Any) -> Any:
        """Return the flags that stand before the command, with False as their default."""
        flags = super().get_params(*args)
        for each in flags:
            if each.default is None and getattr(each, "is_flag", False):
                each.default = False
        return flags


def flag(name: str, metavar: str, text: str, **extra: Any) -> Any:
    """Return the marker, for the type of a parameter, of a flag that takes a value."""
    return typer.Option(name, metavar=metavar, help=text, **extra)


def settings_of(*groups: Any) -> dict[str, Any]:
    """Return {"table.key": value} of the given flags that have a setting."""
    return {
        setting.key: setting.read(value)
        for group in groups
        for each in fields(group)
        for setting in get_args(each.type)
        if isinstance(setting, Setting) and (value := getattr(group, each.name)) is not None
    }


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command for typer, with a flag for each field of a parameter whose type is a dataclass.

    Raises:
        TypeError: `Without` names a flag that the group does not have.
    """
    parameters: list[Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for each in inspect.signature(command).parameters.values():
        group, *markers = get_args(each.annotation) or (each.annotation,)
        if hasattr(group, "__dataclass_fields__"):
            flags = _flags_of(group, markers)
            groups[each.name] = group, [taken.name for taken in flags]
            parameters.extend(flags)
        else:
            parameters.append(each.replace(kind=Parameter.KEYWORD_ONLY))

    def call(**given: Any) -> None:
        for name, (group, flags) in groups.items():
            given[name] = group(**{taken: given.pop(taken) for taken in flags})
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
