"""Settings from a TOML file and from flags; an unknown key or a value of the wrong type is refused.

Every table of the file has the name of a field of `RunSettings` and the keys of that field's dataclass.
"""

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import tomli_w

from edgedistill.checks import check_choice
from edgedistill.config import PRESETS
from edgedistill_cli.settings import COMMAND_LINE_ONLY, RunSettings
from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.files.names import printable, replace_surrogates
from edgedistill_deploy.files.text import read_toml
from edgedistill_deploy.files.writing import write_text

_SUBTASK = {"subtask.classes", "subtask.name"}


def read_settings(
    file: Path | None, flags: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> RunSettings:
    """Read a settings file and lay flags over it.

    Args:
        file: TOML; None for flags alone.
        flags: {"table.key": value} of the flags that were given.
        defaults: {"table.key": value} for keys that neither the file nor a flag gives.

    Raises:
        UsageError: no such file, not TOML, an unknown table or key (with the nearest known one), a value of the wrong
            type, or one that the stage refuses. One message lists all problems of types and names.
    """
    tables = _read_tables(file) if file is not None else {}
    if _is_of_before_starts(tables):
        tables["student"]["weights"] = None
    _refuse_permissions(tables, str(file))
    if _SUBTASK.intersection(flags):
        # Names of classes and the name of a subtask are two ways to say one thing: a flag replaces both.
        tables.pop("subtask", None)
    for name, value in flags.items():
        table, key = name.split(".")
        tables.setdefault(table, {})[key] = value
    for name, value in (defaults or {}).items():
        table, key = name.split(".")
        if isinstance(tables.setdefault(table, {}), dict):
            tables[table].setdefault(key, value)
    return settings_from_tables(tables, origin=str(file) if file is not None else "the command line")


def preset_settings(name: str | None) -> dict[str, Any]:
    """Return the settings {"distill.KEY": value} of a preset; {} for None."""
    if name is None:
        return {}
    check_choice("--preset", name, tuple(PRESETS))
    return {f"distill.{key}": value for key, value in PRESETS[name].items()}


def write_settings(path: Path, settings: RunSettings) -> None:
    """Write settings as TOML, whole or not at all.

    Raises:
        UsageError: a path in them is not UTF-8, so that TOML cannot hold it.
    """
    text = tomli_w.dumps(settings.to_tables())
    if text != replace_surrogates(text):
        name = next(line for line in text.splitlines() if line != replace_surrogates(line))
        raise UsageError(f"{printable(name)} has bytes that are not UTF-8, which settings cannot hold; rename it.")
    write_text(path, text, inside=path.parent)


def settings_from_tables(tables: Mapping[str, Any], *, origin: str) -> RunSettings:
    """Check every table and key, then build the settings; `origin` is what a message calls their source."""
    sections = typing.get_type_hints(RunSettings)
    problems = [
        f"[{table}] is not a table of the settings.{nearest_names(table, sections)}"
        for table in tables
        if table not in sections
    ]
    for table, values in tables.items():
        if table in sections:
            problems.extend(_find_problems(table, values, sections[table]))
    problems.extend(_find_missing(tables, sections))
    if problems:
        raise UsageError(f"The settings in {origin} cannot be used:\n" + "\n".join(f"  {each}" for each in problems))
    return RunSettings(
        **{
            table: sections[table](**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
            for table, values in tables.items()
        }
    )


def _read_tables(file: Path) -> dict[str, dict[str, Any]]:
    if not file.is_file():
        raise UsageError(f"There is no settings file {file}; `edgedistill init` writes one to start from.")
    return read_toml(file, "settings file")


def _is_of_before_starts(tables: Mapping[str, Any]) -> bool:
    """Tell whether a file was written whole, by a run or by `init`, before `student.weights` existed.

    Both write every table. Somebody who writes a file by hand leaves tables out.
    """
    student = tables.get("student")
    written = tables.keys() >= typing.get_type_hints(RunSettings).keys()
    return written and isinstance(student, dict) and "weights" not in student


def _refuse_permissions(tables: Mapping[str, Any], origin: str) -> None:
    """Refuse a file that gives what the command line alone may give."""
    for name, flag in COMMAND_LINE_ONLY.items():
        table, key = name.split(".")
        values = tables.get(table)
        if isinstance(values, dict) and key in values:
            raise UsageError(
                f"The settings in {origin} give {name}; a file cannot allow code to run. Take it out, and give {flag} "
                "on the command line if you trust the code."
            )


def _find_problems(table: str, values: object, section: Any) -> list[str]:
    if not isinstance(values, dict):
        return [f"{table} must be a table, written as [{table}]."]
    types = typing.get_type_hints(section)
    found = []
    for key, value in values.items():
        if value is None and (table, key) == ("student", "weights"):
            continue
        if key not in types:
            found.append(f"{table}.{key} is not known.{nearest_names(key, types)}")
        elif not _fits(value, types[key]):
            found.append(f"{table}.{key} must be {_type_in_words(types[key])}, and {value!r} was given.")
    return found


def _find_missing(tables: Mapping[str, Any], sections: Mapping[str, Any]) -> list[str]:
    """Describe each missing key that has no default, with the flag that gives it."""
    flags = {"data.source": "--data", "teacher.name": "--teacher", "student.name": "--student"}
    found = []
    for table, section in sections.items():
        if table == "subtask" and table not in tables:
            found.append(
                "the subtask is missing; name its classes with --classes A,B,C, or a named subtask with --subtask."
            )
        given = tables.get(table, {})
        for each in fields(section):
            required = each.default is MISSING and each.default_factory is MISSING
            if required and isinstance(given, dict) and each.name not in given:
                name = f"{table}.{each.name}"
                found.append(f"{name} is missing; give it with {flags.get(name, name)} or in a settings file.")
    return found


def _fits(value: object, wanted: Any) -> bool:
    """Tell whether a TOML value has the wanted type; whole numbers count as floats, nothing else is converted."""
    origin, options = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        return value in options
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    if options:
        return any(_fits(value, option) for option in options)
    if wanted in (int, float):
        return isinstance(value, (int, wanted)) and not isinstance(value, bool)
    return wanted is not type(None) and isinstance(value, wanted)


def _type_in_words(wanted: Any) -> str:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    origin = typing.get_origin(wanted)
    if origin is tuple:
        return "a list of texts"
    options = [option for option in typing.get_args(wanted) if option is not type(None)]
    to_words = repr if origin is typing.Literal else _type_in_words
    return " or ".join(map(to_words, options)) or words.get(wanted, str(wanted))
