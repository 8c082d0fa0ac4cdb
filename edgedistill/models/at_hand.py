"""Which weights must be fetched, and whether they can be: asked before torch is loaded, which takes seconds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedistill.models.libraries.forms import HUB
from edgedistill.models.libraries.messages import (
    INSTEAD_OF_START,
    INSTEAD_OF_TIMM,
    INSTEAD_OF_TORCHVISION,
    INSTEAD_OF_TRANSFORMERS,
)
from edgedistill.models.libraries.reach import TORCHVISION_URL, is_cached, torch_cache, why_hub_is_shut
from edgedistill.models.names import START_FROM_TIMM, START_UNSET, split_teacher_name, starts_from_nothing
from edgedistill.models.student_names import is_shrunk
from edgedistill.models.timm_list import installed_version, listed_repository, listed_version
from edgedistill.models.torchvision_list import describes_installed_torchvision, knows, weights_file
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.reaching import not_at_hand, why_unreachable

_WEIGHTS = "The pretrained weights of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Files that are not on this machine: what they are, their server, and what can be done without them."""

    what: str
    otherwise: str
    is_of_hub: bool = True


def missing_of_teacher(name: str) -> Iterator[Missing]:
    """Yield what must be fetched for a teacher without weights of the user's own.

    Where only the library knows the names of the files, nothing is yielded; it will say so itself.
    """
    kind, rest = split_teacher_name(name)
    if kind == "timm":
        yield from _missing_of_timm(rest, INSTEAD_OF_TIMM)
    elif kind == "transformers" and rest.count("/") == 1 and not Path(rest).is_dir() and not is_cached(rest):
        yield Missing(what=f"The files of {name}", otherwise=INSTEAD_OF_TRANSFORMERS)
    elif kind == "torchvision" and _lacks_file_of_torchvision(rest):
        yield Missing(what=f"{_WEIGHTS} {name}", otherwise=INSTEAD_OF_TORCHVISION, is_of_hub=False)


def missing_of_student(name: str, weights: str | None, width: float) -> Iterator[Missing]:
    """Yield what must be fetched for a student to start; the arguments are those of `find_start`."""
    is_bare = is_shrunk(name) or starts_from_nothing(name, width)
    if weights in (START_UNSET, START_FROM_TIMM) and not is_bare:
        yield from _missing_of_timm(name.removeprefix("timm:"), INSTEAD_OF_START)


def _lacks_file_of_torchvision(name: str) -> bool:
    """Tell whether a file must be fetched; another version of torchvision may know another one."""
    if not describes_installed_torchvision() or not knows(name):
        return False
    return not (torch_cache() / weights_file(name)).is_file()


def _missing_of_timm(name: str, otherwise: str) -> Iterator[Missing]:
    repository = name.removeprefix(HUB).partition("@")[0] if name.startswith(HUB) else _listed_repository(name)
    if repository and not is_cached(repository):
        yield Missing(what=f"{_WEIGHTS} timm:{name}", otherwise=otherwise)


def _listed_repository(name: str) -> str:
    """Return the repository of a model of timm; empty where another version of timm may know another."""
    return listed_repository(name) if installed_version() == listed_version() else ""


def find_unfetchable(files: Iterable[Missing]) -> list[DataError]:
    """Return an error for each of the missing files whose server does not answer; each server is asked once."""
    missing = list(files)
    why = {
        of_hub: why_hub_is_shut() if of_hub else why_unreachable(TORCHVISION_URL)
        for of_hub in {each.is_of_hub for each in missing}
    }
    return [not_at_hand(each.what, why[each.is_of_hub], each.otherwise) for each in missing if why[each.is_of_hub]]
