"""From flags to settings: no flag is lost on the way, whatever it or its setting is called."""

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from command import run_command
from edgedistill_cli.app import COMMANDS, MODULES, load_command
from edgedistill_cli.console import Console
from edgedistill_cli.flags import Setting, Without, settings_of, with_flags
from edgedistill_cli.settings import RunSettings
from edgedistill_deploy.errors import UsageError

# The commands that give settings, what else must be typed, and what takes the settings there.
GIVES_SETTINGS = {
    "build": ((), "edgedistill_cli.settings_file.read_settings"),
    "distill": ((), "edgedistill_cli.settings_file.read_settings"),
    "compare": ((), "edgedistill_cli.settings_file.read_settings"),
    "inspect": ((), "edgedistill_cli.runs.folder.read_settings"),
    "plan": (("--budget-ms", "5"), "edgedistill_cli.runs.folder.read_settings"),
    "export": (("RUN",), "edgedistill_cli.runs.one_stage.run_stage"),
    "calibrate": (("RUN",), "edgedistill_cli.runs.one_stage.run_stage"),
}
OUTPUT = {"as_json", "quiet", "verbose", "debug"}
NO_SETTINGS = {
    "build": {"out", "config", "preset", "restart", "keep_going", "rivals", "dry_run", *OUTPUT},
    "distill": {"out", "config", "preset", "restart", "keep_going", "rivals", "dry_run", *OUTPUT},
    "export": {"run", "any_size", *OUTPUT},
    "calibrate": {"run", "record", *OUTPUT},
}


# What a command imports when it runs would keep what a test puts in the place of a name, if it came to be imported
# then.
for module in (
    "edgedistill_cli.runs.building",
    "edgedistill_cli.studies.comparing",
    "edgedistill_deploy.parity.validation",
):
    importlib.import_module(module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    name: str
    declared: tuple[str, ...]
    kind: type
    setting: Setting | None


def flags_of(command: str) -> Iterator[Flag]:
    """Read the flags from the types of a command's parameters, as typer does."""
    module = importlib.import_module(f"edgedistill_cli.commands.{MODULES.get(command, command)}")
    for each in inspect.signature(with_flags(getattr(module, command))).parameters.values():
        kind, *markers = typing.get_args(each.annotation) or (each.annotation,)
        options = [marker for marker in markers if isinstance(marker, typer.models.OptionInfo)]
        yield Flag(
            name=each.name,
            declared=tuple(name for option in options for name in (str(option.default), *(option.param_decls or ()))),
            kind=next(iter(typing.get_args(kind)), kind),
            setting=next((marker for marker in markers if isinstance(marker, Setting)), None),
        )


FUNCTIONS = [name for name in COMMANDS if name != "devices"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    own = str(load_command(name).help)
    assert COMMANDS[name] == own.split("\n\n")[0].replace("\n", " ").strip()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_flag_that_gives_a_setting_names_one_that_there_is(name: str) -> None:
    tables = typing.get_type_hints(RunSettings)
    for flag in flags_of(name):
        if flag.setting is not None:
            table, key = flag.setting.key.split(".")
            assert key in {each.name for each in dataclasses.fields(tables[table])}, flag


@pytest.mark.parametrize("name", NO_SETTINGS)
def test_every_other_flag_is_known_to_give_none(name: str) -> None:
    assert {flag.name for flag in flags_of(name) if flag.setting is None} == NO_SETTINGS[name]


@pytest.mark.parametrize("name", GIVES_SETTINGS)
def test_every_setting_that_is_given_arrives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, expected = [name, *GIVES_SETTINGS[name][0]], {}
    for place, flag in enumerate(flags_of(name)):
        if flag.setting is None:
            continue
        # A value of its own for each, so that two that changed places are seen.
        text = f"text{place}"
        value: Any = {int: place + 1, float: place + 0.5, str: text, list[str]: [text], bool: True}[flag.kind]
        typed = text if flag.kind == list[str] else str(value)
        argv += [flag.declared[0].split("/")[0], *([] if flag.kind is bool else [typed])]
        expected[flag.setting.key] = flag.setting.read(value)
    if "teacher.name" in expected:
        expected["teacher.beside"] = []  # one flag gives both: the first name, and all others
    taken: list[dict[str, Any]] = []

    def take(*given: Any, **_: Any) -> None:
        taken.extend(each for each in given if isinstance(each, dict) and each)
        raise UsageError("taken")

    monkeypatch.setattr(GIVES_SETTINGS[name][1], take)
    outcome = run_command(*argv)
    assert outcome.stderr == "error: taken\n", outcome.stderr
    assert taken == [expected]
    assert len(expected) > 2


def test_limits_of_a_validation_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def take(**given: Any) -> None:
        raise UsageError(f"taken {given}")

    monkeypatch.setattr("edgedistill_deploy.records.parity.ParityLimits", take)
    outcome = run_command("validate", tmp_path, "--max-drop", "0.5", "--confidence", "0.75")
    assert outcome.stderr == "error: taken {'max_drop': 0.5, 'confidence': 0.75, 'strict': False}\n"
    of_classes = ("--max-class-drop", "0.1", "--min-agreement", "0.9", "--allow-class", "a b", "--allow-class", "c")
    outcome = run_command("validate", tmp_path, *of_classes)
    assert outcome.stderr == (
        "error: taken {'max_class_drop': 0.1, 'min_agreement': 0.9, 'allowed_classes': ('a b', 'c'), 'strict': False}\n"
    )


@pytest.mark.parametrize("name", ["validate", "profile"])
def test_what_a_device_may_choose_is_asked_for_by_the_names_of_the_flags(name: str) -> None:
    assert {"runtime", "provider"} <= {flag.name for flag in flags_of(name)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_command_can_show_its_traceback(name: str) -> None:
    assert ("debug", ("--debug",)) in {(flag.name, flag.declared) for flag in flags_of(name)}


def test_devices_can_show_their_tracebacks_and_have_nothing_more_to_say() -> None:
    for command in load_command("devices").commands.values():
        flags = {name for each in command.params for name in each.opts}
        assert {"--json", "--quiet", "--debug"} <= flags
        assert "--verbose" not in flags


def test_debug_as_the_value_of_another_flag_shows_no_traceback(tmp_path: Path) -> None:
    outcome = run_command("init", tmp_path / "a.toml")
    assert outcome.code == 0
    outcome = run_command("validate", tmp_path, "--precision", "--debug")
    assert (outcome.code, outcome.stderr.startswith("error: ")) == (2, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    width: Annotated[int | None, typer.Option("--width"), Setting("shape.width")] = None
    names: Annotated[str | None, typer.Option("--names"), Setting("shape.names", str.split)] = None
    colour: Annotated[str | None, typer.Option("--colour")] = None


def test_a_group_gives_the_settings_of_its_flags_and_nothing_for_the_others() -> None:
    assert settings_of(Shape(names="a b", colour="red"), Console()) == {"shape.names": ["a", "b"]}


def test_a_command_gets_its_flags_as_one_value_between_its_other_parameters() -> None:
    def paint(file: Path, *, shape: Annotated[Shape, Without("colour")], coats: int = 1) -> None:
        """Paint."""
        got.append((file, shape, coats))

    got: list[Any] = []
    command = with_flags(paint)
    assert list(inspect.signature(command).parameters) == ["file", "width", "names", "coats"]
    assert command.__doc__ == "Paint."
    command(file=Path("x"), width=3, names=None, coats=2)
    assert got == [(Path("x"), Shape(width=3), 2)]


def test_a_flag_can_only_be_left_out_of_a_group_that_has_it() -> None:
    def paint(shape: Annotated[Shape, Without("length")]) -> None:
        """Paint."""

    with pytest.raises(TypeError, match=r"Shape has no flags \['length'\]"):
        with_flags(paint)


def test_a_flag_for_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("data = -1\n", encoding="utf-8")
    outcome = run_command("distill", "--config", tmp_path / "settings.toml", "--data", "x", "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "data must be a table, written as [data]." in outcome.stderr
