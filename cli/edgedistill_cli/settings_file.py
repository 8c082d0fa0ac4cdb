"""Settings from a TOML file and from flags; an unknown key or a value of the wrong type is refused.

Every table of the file has the name of a field of `RunSettings` and the keys of that field's dataclass.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from edgedistill.checks import check_choice
from edgedistill.config import PRESETS
from edgedistill_cli.settings import COMMAND_LINE_ONLY, RunSettings
from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.files.names import is_plain_text, printable, replace_surrogates
from edgedistill_deploy.files.text import read_toml
from edgedistill_deploy.files.writing import write_text

_NAMES = ("classes", "name")
_SUBTASK = {f"subtask.{key}" for key in _NAMES}


class SettingsError(UsageError):
    """Settings that cannot be used.

    Attributes:
        problems: a sentence for each thing that is wrong.
        rest: the settings without what is wrong, with which other checks can go on; an empty text stands for what is
            missing. None where nothing can stand for it.
    """

    def __init__(self, message: str, problems: Sequence[str], rest: RunSettings | None) -> None:
        super().__init__(message, problems, rest)  # unchanged, so that another process can build the error again
        self.problems = tuple(problems)
        self.rest = rest

    def __str__(self) -> str:
        return str(self.args[0])


def read_settings(
    file: Path | None, flags: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> RunSettings:
    """Read a settings file and lay flags over it.

    Args:
        file: TOML; None for flags alone.
        flags: {"table.key": value} of the flags that were given.
        defaults: {"table.key": value} for keys that neither the file nor a flag gives.

    Raises:
        UsageError: no such file, or not TOML.
        SettingsError: an unknown table or key (with the nearest known one), a value of the wrong type, or one that the
            stage refuses. It lists all of these.
    """
    tables = _read_tables(file) if file is not None else {}
    if _is_of_before_starts(tables):
        tables["student"]["weights"] = None
    _refuse_permissions(tables, str(file))
    if flags.keys() >= _SUBTASK:
        raise UsageError("--classes and --subtask both name the subtask; give one of them.")
    if _SUBTASK.intersection(flags):
        # Names of classes and the name of a subtask are two ways to say one thing: a flag replaces both.
        given: Any = tables.pop("subtask", None)
        if isinstance(given, dict) and (others := {key: each for key, each in given.items() if key not in _NAMES}):
            tables["subtask"] = others
    for name, value in flags.items():
        table, key = name.split(".")
        if isinstance(tables.setdefault(table, {}), dict):  # else that is told below
            tables[table][key] = value
    for name, value in (defaults or {}).items():
        table, key = name.split(".")
        if isinstance(tables.setdefault(table, {}), dict):
            tables[table].setdefault(key, value)
    if isinstance(tables.get("data"), dict) and tables["data"].get("unlabelled"):
        tables["data"].setdefault("source", "")  # images without labels are enough
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
    built, refused = _build_sections(tables, sections)
    settings = _join(built, refused) if len(built) == len(sections) else None
    if problems or refused or settings is None:
        raise SettingsError(_describe(problems, refused, origin), (*problems, *refused), settings)
    return settings


def _join(built: Mapping[str, Any], refused: list[str]) -> RunSettings:
    """Put the tables together; where two contradict each other, note that in `refused` and go on without `rest`."""
    try:
        return RunSettings(**built)
    except UsageError as error:
        refused.append(str(error))
        return RunSettings(**{**built, "subtask": replace(built["subtask"], rest=None)})


def _describe(problems: Sequence[str], refused: Sequence[str], origin: str) -> str:
    if not problems and len(refused) == 1:
        return refused[0]
    lines = [f"  {each}" for each in (*problems, *refused)]
    return "\n".join([f"The settings in {origin} cannot be used:", *lines])


def _build_sections(tables: Mapping[str, Any], sections: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Build every table of what in it can be used; return what was built and what the tables refuse."""
    built: dict[str, Any] = {}
    refused: list[str] = []
    for table, section in sections.items():
        given = tables.get(table)
        values = _usable_values(given, section)
        made, problems = _build_section(section, values)
        if made is not None:
            built[table] = made
        if made is not None or (isinstance(given, dict) and set(given) <= set(values)):
            refused.extend(problems)  # else the table lacks what was found missing or wrong before
    return built, refused


def _usable_values(values: object, section: Any) -> dict[str, Any]:
    types = typing.get_type_hints(section)
    given = values if isinstance(values, dict) else {}
    # TOML has no None: it stands for what an earlier version left out.
    usable = {
        key: value for key, value in given.items() if key in types and (value is None or _fits(value, types[key]))
    }
    required = {each.name: "" for each in fields(section) if _is_required(each)}
    return required | {key: tuple(value) if isinstance(value, list) else value for key, value in usable.items()}


def _build_section(section: Any, values: dict[str, Any]) -> tuple[Any, list[str]]:
    """Build a table; leave out each value that it refuses, until it takes the rest. None where it never does."""
    refused: list[str] = []
    while True:
        try:
            return section(**values), refused
        except UsageError as error:
            culprit = _find_culprit(section, values, str(error))
            if culprit is None:
                return None, [*refused, str(error)]
            refused.append(str(error))
            values = _without(values, culprit)


def _find_culprit(section: Any, values: dict[str, Any], problem: str) -> str | None:
    """Return the key without which the table no longer has this problem."""
    optional = [each.name for each in fields(section) if each.name in values and not _is_required(each)]
    return next((key for key in optional if _refusal(section, _without(values, key)) != problem), None)


def _refusal(section: Any, values: dict[str, Any]) -> str | None:
    try:
        section(**values)
    except UsageError as error:
        return str(error)
    return None


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def _is_required(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


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
        elif isinstance(value, str) and not is_plain_text(value):
            found.append(
                f"{table}.{key} holds a control character: {value!r}. In double quotes a backslash begins an escape; "
                r"write a path in single quotes, such as 'C:\temp'."
            )
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
            if _is_required(each) and isinstance(given, dict) and each.name not in given:
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
