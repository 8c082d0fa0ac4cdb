"""Notices files that a case writes outside its folder, and content from outside that it copies into it."""

import os
from collections.abc import Iterator
from pathlib import Path

SECRET = "a-line-that-no-bundle-holds"  # content of the files that lie beside each case
_MOST_BYTES = 4 << 20  # of a file that is searched for the secret

State = dict[str, tuple[int, ...]]


class Outside:
    """The folders around a case: a home, a current folder, a folder for temporary files, and somebody's files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.home, self.here, self.temporary = (folder / name for name in ("home", "here", "temporary"))
        self.others = folder / "others"
        for each in (self.home, self.here, self.temporary, self.others):
            each.mkdir(parents=True, exist_ok=True)
        for name in ("secret.json", "secret.npz", "secret"):
            (self.others / name).write_text(f'"{SECRET}"\n')
        self._before = self._read()

    def variables(self) -> dict[str, str]:
        """Return the environment that makes a case live in these folders."""
        names = {"HOME": self.home, "TMPDIR": self.temporary, "XDG_CACHE_HOME": self.home / ".cache"}
        return {**{name: str(path) for name, path in names.items()}, "XDG_CONFIG_HOME": str(self.home / ".config")}

    def changes(self) -> list[str]:
        """Return what is new, changed or gone since the last call, and take it as the state from now on."""
        before, self._before = self._before, self._read()
        places = {*before, *self._before}
        return sorted(place for place in places if before.get(place) != self._before.get(place))

    def _read(self) -> State:
        return dict(_states(self._folder, self._folder))


def _states(root: Path, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            state = entry.stat(follow_symlinks=False)
            name = str(Path(entry.path).relative_to(root))
            if entry.is_dir(follow_symlinks=False):
                yield name, (state.st_mode,)
                yield from _states(root, Path(entry.path))
            else:
                yield name, (state.st_mode, state.st_size, state.st_mtime_ns, state.st_ino)


def find_secret(folder: Path) -> list[str]:
    """Return the files of a case's folder that hold the secret. Links are not followed."""
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if _holds_secret(path)]


def _holds_secret(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return False
    return SECRET.encode() in path.read_bytes()
