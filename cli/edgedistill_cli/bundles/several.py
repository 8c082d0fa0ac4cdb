"""One command on several bundles: one JSON document, one exit code, and no bundle hides another."""

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import Outcome, gate_code, worst_code
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.statistics.verdicts import worst_verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheringConsole(Console):
    """A console that keeps the JSON documents, which become parts of one document."""

    documents: list[Any] = field(default_factory=list)

    def emit(self, record: Any) -> None:
        """Keep the document."""
        self.documents.append(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A bundle among those given.

    `name` is that of its folder, or its path as given where another of the bundles has the same. `is_alone` if no other
    bundle was given.
    """

    path: Path
    name: str
    is_alone: bool

    def folder_in(self, folder: Path | None) -> Path | None:
        """Return the part of a folder for what is written about this bundle: all of it for a bundle that is alone."""
        return folder if folder is None or self.is_alone else folder / self.path.resolve().name


def find_places(paths: Sequence[Path], folders: Sequence[Path | None] = ()) -> tuple[Place, ...]:
    """Name the bundles, each by its folder where that tells them apart.

    Args:
        paths: the bundles, at least one.
        folders: where a folder for each bundle is made, by its name.

    Raises:
        UsageError: a bundle was given twice, or two that have one name would write into one folder.
    """
    given = Counter(path.resolve() for path in paths)
    if twice := [path for path in paths if given[path.resolve()] > 1]:
        raise UsageError(f"The bundle {twice[0]} was given twice; name each bundle once.")
    called = Counter(path.resolve().name for path in paths)
    alike = [path for path in paths if called[path.resolve().name] > 1]
    if alike and (shared := next(filter(None, folders), None)):
        raise UsageError(
            f"{alike[0]} and {alike[1]} would both write into {shared / alike[0].resolve().name}; give one of them "
            "alone, or rename its folder."
        )
    return tuple(
        Place(path=path, name=printable(str(path) if path in alike else path.resolve().name), is_alone=len(paths) == 1)
        for path in paths
    )


def judge_each(
    places: Sequence[Place],
    console: Console,
    task: str,
    judge: Callable[[Place, Console], Outcome],
    note_failure: Callable[[Place, EdgeDistillError], None] = lambda place, error: None,
) -> int:
    """Judge the bundles one after another, and return the exit code of the command.

    One bundle alone is judged as it is: its document is printed, and its failure is raised. Of several, each has an
    entry in one document; one that fails is told, handed to `note_failure`, and does not stop the others.
    """
    if places[0].is_alone:
        return gate_code(judge(places[0], console))
    codes: list[int] = []
    verdicts: list[Outcome] = []
    entries: list[dict[str, Any]] = []
    for place in places:
        gathering = GatheringConsole(
            as_json=console.as_json, quiet=console.quiet, verbose=console.verbose, debug=console.debug
        )
        console.result(f"{place.name}\n{'=' * len(place.name)}")
        entry = {"bundle": place.name, "path": str(place.path)}
        try:
            verdict = judge(place, gathering)
        except EdgeDistillError as error:
            _tell(place, error, console)
            note_failure(place, error)
            verdict = "error"
            codes.append(error.exit_code)
            gathering.emit({"kind": "failure", "schema": 1, "error": str(error), "exit_code": error.exit_code})
        else:
            codes.append(gate_code(verdict))
        verdicts.append(verdict)
        entries += [{**document, **entry, "verdict": verdict} for document in gathering.documents[-1:]]
        console.result("")
    whole: Outcome = "error" if "error" in verdicts else worst_verdict(verdicts)
    console.emit({"kind": "bundle-set", "schema": 1, "task": task, "bundles": entries, "verdict": whole})
    _show_verdicts(places, verdicts, console)
    return worst_code(codes)


def _tell(place: Place, error: EdgeDistillError, console: Console) -> None:
    if console.debug:
        traceback.print_exc()
    typer.echo(printable(f"error: {place.name}: {error}", keep="\n\t"), err=True)


def _show_verdicts(places: Sequence[Place], verdicts: Sequence[Outcome], console: Console) -> None:
    rows = [[place.name, verdict] for place, verdict in zip(places, verdicts, strict=True)]
    console.table(f"The {len(places)} bundles", ["bundle", "verdict"], rows)
