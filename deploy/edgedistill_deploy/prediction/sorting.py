"""Pictures sorted into a folder for each class, as copies or as links. Nothing that is there is ever replaced."""

import enum
import filecmp
import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgedistill_deploy.errors import NotWrittenError, UsageError, reading
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import make_folder, write_new

_LONGEST = 200  # bytes of a name; file systems take 255, and a number may follow
MOST_OF_A_NAME = 100_000  # files
_FORBIDDEN = re.compile(r'[\\/:*?"<>|]')
# Windows opens devices by these names, whatever the ending.
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))})


class Aside(enum.Enum):
    """What is in no class's folder: the name of its own."""

    NOT_SURE = "not sure"
    OUTSIDE = "none of the classes"


class Sorter:
    """Puts pictures into the class folders of `root`; `count` is how many lie there because of it."""

    def __init__(self, root: Path, class_names: Sequence[str], *, links: bool = False) -> None:
        """Make the folder. Raises UsageError where it is a file, and NotWrittenError where it cannot be made."""
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file; name a folder for the sorted pictures.")
        make_folder(root)
        self._root, self._links = root.resolve(), links
        labels: list[str | Aside] = [*class_names, *Aside]
        texts = [each.value if isinstance(each, Aside) else each for each in labels]
        self._names = dict(zip(labels, folder_names(texts), strict=True))
        self.count = 0

    def put(self, source: Path, label: str | Aside) -> Path:
        """Put an image file into the folder of a class, or aside; return where it lies.

        The same picture under its name is left as it is; another one of this name gets a number. Raises NotWrittenError
        where there is no room or no right to write, or where a link leads out of the folder, and DataError where the
        picture has gone.
        """
        folder = self._folder(label)
        for target in itertools.islice(numbered(folder, source.name), MOST_OF_A_NAME):
            if os.path.lexists(target):
                if not self._is_the_same(source, target):
                    continue
            else:
                try:
                    self._make(source, target)
                except FileExistsError:  # made by another process since
                    continue
            self.count += 1
            return target
        raise NotWrittenError(f"{folder} has no name left for {printable(source.name)}.")

    def _folder(self, label: str | Aside) -> Path:
        folder = self._root / self._names[label]
        make_folder(folder)
        if folder.resolve() != folder:
            raise NotWrittenError(
                f"{folder} is a link to {folder.resolve()}, and nothing is written through it; remove the link, or "
                "choose another folder for the sorted pictures."
            )
        return folder

    def _is_the_same(self, source: Path, target: Path) -> bool:
        if target.is_symlink():
            return self._links and target.readlink() == source.absolute()
        try:
            return not self._links and target.is_file() and filecmp.cmp(source, target, shallow=False)
        except OSError:
            return False

    def _make(self, source: Path, target: Path) -> None:
        if self._links:
            _link(source.absolute(), target)
            return
        with reading(source):
            original = source.open("rb")
        with original, write_new(target) as copy:
            shutil.copyfileobj(original, copy)


def numbered(folder: Path, name: str) -> Iterator[Path]:
    """Yield where a file of this name may lie, without end: under the name itself, then with -2, -3 and so on."""
    suffix = _shortened(Path(name).suffix, 20)
    stem = _shortened(Path(name).stem, _LONGEST - len(os.fsencode(suffix)))
    yield folder / f"{stem}{suffix}"
    yield from (folder / f"{stem}-{number}{suffix}" for number in itertools.count(2))


def folder_names(labels: Sequence[str]) -> list[str]:
    """Return a folder name for each label that every system takes; all differ, also where case does not count."""
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        plain = _plain_name(label)
        choices = itertools.chain((plain,), (f"{plain}-{number}" for number in itertools.count(2)))
        names.append(next(each for each in choices if each.casefold() not in taken))
        taken.add(names[-1].casefold())
    return names


def _plain_name(label: str) -> str:
    shown = _FORBIDDEN.sub("_", printable(label))
    short = _shortened(shown, _LONGEST).strip(" .") or "_"
    return f"{short}_" if short.split(".")[0].casefold() in _DEVICES else short


def _shortened(name: str, most: int) -> str:
    """Cut a name to at most so many bytes, between characters."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def _link(goal: Path, target: Path) -> None:
    try:
        target.symlink_to(goal)
    except FileExistsError:
        raise
    except OSError as error:
        raise NotWrittenError(
            f"{target} cannot be made a link: {error.strerror or error}. Leave --links out to copy the pictures."
        ) from error
