"""Reads the folders of comparisons and plans that a user names. What does not fit is refused in one sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgedistill_deploy.errors import DataError, reading
from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.records.studies.comparison import ComparisonStudy
from edgedistill_deploy.records.studies.plan import PlanStudy

_MOST_ROWS = 2000
_COMPARISON, _PLAN = "comparison.json", "plan.json"
Study = TypeVar("Study", ComparisonStudy, PlanStudy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Studies:
    """What stands beside a bundle in its report: comparisons and plans, each with the name of its folder."""

    comparisons: tuple[tuple[str, ComparisonStudy], ...] = ()
    plans: tuple[tuple[str, PlanStudy], ...] = ()


NO_STUDIES = Studies()


def read_studies(comparisons: Sequence[Path], plans: Sequence[Path]) -> Studies:
    """Read the folders of `compare` and of `plan`, or their records themselves.

    Raises DataError where there is no record, or a damaged one.
    """
    return Studies(
        comparisons=tuple(_read(path, _COMPARISON, "compare", ComparisonStudy.from_json) for path in comparisons),
        plans=tuple(_read(path, _PLAN, "plan", PlanStudy.from_json) for path in plans),
    )


def _read(path: Path, name: str, command: str, parse: Callable[[Any], Study]) -> tuple[str, Study]:
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"There is no {name} in {path}; name the folder that `edgedistill {command}` wrote with --out, or its "
            f"{name}."
        )
    try:
        with reading(file):
            found = parse(read_json(file))
    except ValueError as error:
        raise DataError(f"{file} is not a record: {' '.join(str(error).split())}.") from error
    except DataError as error:
        raise DataError(f"{file} cannot be used: {str(error).rstrip('.')}.") from error
    if len(found.rows) > _MOST_ROWS:
        raise DataError(f"{file} cannot be used: it has {len(found.rows)} rows, more than {_MOST_ROWS}.")
    return file.parent.resolve().name, found
