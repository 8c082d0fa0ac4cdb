"""The run folder: its settings, which stages it has completed, and which are due."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill.data.sources import absolute_name
from edgedistill.models.names import FOLDER, STARTS, split_teacher_name
from edgedistill_cli.console import Console
from edgedistill_cli.settings import RunSettings
from edgedistill_cli.settings_file import read_settings, write_settings
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.precisions import ANY_SIZE_PRECISIONS, any_size_role, device_precisions, model_role
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.locks import LOCK_FILE, hold_folder
from edgedistill_deploy.files.writing import make_folder, refuse_links_out

# The tables of the settings that decide each stage; a stage also depends on the stages before it.
_TABLES = {
    "distill": ("data", "teacher", "subtask", "student", "distill"),
    "export": ("export",),
    "calibrate": ("calibrate",),
    "validate": ("validate",),
    "profile": ("profile",),
    "report": (),
}
# Validation and profiling both use the calibrated files, but not each other's results.
_BEFORE = {
    "distill": (),
    "export": ("distill",),
    "calibrate": ("distill", "export"),
    "validate": ("distill", "export", "calibrate"),
    "profile": ("distill", "export", "calibrate"),
    "report": ("distill", "export", "calibrate", "validate", "profile"),
}
# What each stage writes; a stage whose result was deleted is due again.
_RESULTS = {
    "distill": ("distill/student.safetensors",),
    "export": ("model.fp32.onnx", "teacher.fp32.onnx", "golden.npz", "golden-images.npz", "reference.npz"),
    "calibrate": ("model.int8.onnx",),
    "validate": ("parity",),
    "profile": ("latency",),
    "report": ("report.html",),
}
SKIPPED = "skipped.csv"
KNOWN_LOOKS = "images.npz"  # what was found in the image files
RIVALS = "rivals"
EXPLANATIONS = "explain"
# What a run writes besides; `restart` deletes the results and these, and nothing else.
_OWN = (
    "manifest.json",
    "settings.toml",
    "distill",
    "model.fp16.onnx",
    "model.int8-tensorrt.onnx",
    "model.int8-fp16-tensorrt.onnx",
    *(f"{any_size_role(each)}.onnx" for each in ANY_SIZE_PRECISIONS),
    "ledger.json",
    "reference-extended.npz",
    "timm",
    "inspect",
    "chain",
    "answers",
    "flips",
    "bisect",
    "calibration",
    SKIPPED,
    KNOWN_LOOKS,
    RIVALS,
    EXPLANATIONS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A folder, the settings that fill it, and the console for messages."""

    folder: Path
    settings: RunSettings
    console: Console

    @property
    def bundle(self) -> Bundle:
        """The bundle in the folder as it is now; each file is verified when it is read."""
        return open_bundle(self.folder, verify=False)

    def key(self, stage: str) -> str:
        """Return a hash of the settings that a stage's result depends on."""
        tables = [table for each in (*_BEFORE[stage], stage) for table in _TABLES[each]]
        return self.settings.key(*tables)

    def stages_before(self, stage: str) -> tuple[str, ...]:
        """Return the stages whose results this one needs."""
        return _BEFORE[stage]

    def is_complete(self, stage: str) -> bool:
        """Tell whether the folder holds this stage's result for these settings."""
        record = self._records().get(stage, {})
        made_for_these = bool(record.get("status") == "done" and record.get("key") == self.key(stage))
        return made_for_these and all((self.folder / name).exists() for name in _RESULTS[stage])

    def seconds(self, stage: str) -> float:
        """Return how long the stage took, in s; 0 if it is not complete."""
        return float(self._records().get(stage, {}).get("seconds", 0.0))

    def peak_memory_bytes(self, stage: str) -> int | None:
        """Return the most memory that this process held during the stage; None where it is not complete or unknown."""
        found = self._records().get(stage, {}).get("peak_memory_bytes")
        return found if isinstance(found, int) else None

    def record(self, stage: str, seconds: float, peak_memory_bytes: int | None = None) -> None:
        """Write into the manifest that a stage is complete and that the stages after it are due."""
        kept = {name: entry for name, entry in self._records().items() if stage not in _BEFORE[name]}
        entry = {
            "status": "done",
            "seconds": round(seconds, 2),
            "peak_memory_bytes": peak_memory_bytes,
            "key": self.key(stage),
        }
        self.bundle.with_fields(stages={**kept, stage: entry})

    def _records(self) -> dict[str, Any]:
        return dict(self.bundle.manifest.get("stages", {})) if (self.folder / "manifest.json").is_file() else {}


@contextlib.contextmanager
def at_work(folder: Path, command: str, console: Console) -> Iterator[None]:
    """Keep other commands out of the run folder during the block; make it if it does not exist.

    Raises:
        UsageError: the folder holds files that belong to no run.
        EdgeDistillError: another command is at work there.
    """
    _require_place(folder)
    make_folder(folder)
    with hold_folder(folder, f"edgedistill {command}", note=console.say):
        yield


def begin_run(folder: Path, settings: RunSettings, console: Console, *, restart: bool = False) -> Run:
    """Open the run folder for these settings; make it if it does not exist.

    Raises:
        UsageError: the folder holds a run trained with other settings, or files that belong to no run.
        BundleError: a symbolic link leads out of the folder from a place where a run writes.
    """
    refuse_links_out(folder, _written())
    require_startable(folder, settings, restart=restart)
    before = None if restart else _trained_settings(folder)
    settings = _from_anywhere(settings)
    if before is not None:
        settings = _as_before_starts(before, settings)
    if restart and (folder / "settings.toml").is_file():
        _clear(folder)
    make_folder(folder)
    write_settings(folder / "settings.toml", settings)
    return Run(folder=folder, settings=settings, console=console)


def require_startable(folder: Path, settings: RunSettings, *, restart: bool = False) -> None:
    """Raise UsageError where the folder holds a run trained with other settings, or files that belong to no run.

    With `restart` the settings of the earlier run do not matter.
    """
    _require_place(folder)
    before = None if restart else _trained_settings(folder)
    if before is not None:
        _refuse_other_training(folder, before, _as_before_starts(before, _from_anywhere(settings)))


def _trained_settings(folder: Path) -> RunSettings | None:
    """Return the settings of what was trained in the folder; None where other settings lose nothing."""
    trained = any(path.is_file() for path in (folder / "distill").rglob("*"))
    return read_settings(folder / "settings.toml", {}) if trained else None


def _from_anywhere(settings: RunSettings) -> RunSettings:
    """Return the settings with paths that mean the same from every working directory."""
    data, teacher, student = settings.data, settings.teacher, settings.student
    unlabelled = absolute_name(data.unlabelled) if data.unlabelled else None
    start = student.weights if student.weights in (None, *STARTS) else _absolute_if_there(student.weights)
    return replace(
        settings,
        data=replace(data, source=absolute_name(data.source), unlabelled=unlabelled),
        teacher=replace(
            teacher,
            name=_absolute_teacher(teacher.name),
            weights=_absolute_if_there(teacher.weights),
            classes=_absolute_if_there(teacher.classes),
            beside=tuple(map(_absolute_teacher, teacher.beside or ())),
        ),
        student=replace(student, weights=start),
    )


def _absolute_teacher(name: str) -> str:
    kind, rest = split_teacher_name(name)
    return name.removesuffix(rest) + _absolute_if_there(rest) if kind == FOLDER else name


def _absolute_if_there(path: str | None) -> str:
    """Return the path, absolute where it is that of a file or folder: what is missing is told as it was typed."""
    found = Path(path).expanduser() if path else None
    return str(found.absolute()) if found is not None and found.exists() else path or ""


def resume_run(folder: Path, flags: Mapping[str, Any], console: Console) -> Run:
    """Open an existing run folder, with flags laid over its settings.

    Raises:
        UsageError: the folder holds no run.
    """
    require_run(folder)
    return begin_run(folder, read_settings(folder / "settings.toml", flags), console)


def require_run(folder: Path) -> None:
    """Raise UsageError where the folder holds no run."""
    if not (folder / "settings.toml").is_file():
        raise UsageError(
            f"{folder} is not a run folder (it has no settings.toml); `edgedistill build --out {folder}` or "
            f"`edgedistill distill --out {folder}` makes one."
        )


def read_run_or_file(run: Path | None, config: Path | None, flags: Mapping[str, Any]) -> RunSettings:
    """Read the settings of a run folder or of a file, with flags laid over them; the student is optional.

    Raises:
        UsageError: both were given, the folder holds no run, or the settings cannot be used.
    """
    if run is not None and config is not None:
        raise UsageError(
            "Both a run folder and --config were given; a run has settings of its own, so give one of them."
        )
    if run is not None and not (run / "settings.toml").is_file():
        raise UsageError(
            f"{run} is not a run folder (it has no settings.toml); give one that `edgedistill build` made, or --data,"
            " --teacher and --classes."
        )
    file = run / "settings.toml" if run is not None else config
    return read_settings(file, flags, defaults={"student.name": ""})


def _as_before_starts(before: RunSettings, now: RunSettings) -> RunSettings:
    """Let settings mean in an earlier run what they meant when it was begun.

    Paths are written as they were then. What is `auto` today is a start from nothing in a run of before
    `student.weights`.
    """
    earlier = _from_anywhere(before)
    if earlier.teacher == now.teacher:
        now = replace(now, teacher=before.teacher)
    if earlier.student == now.student:
        now = replace(now, student=before.student)
    if before.student.weights is not None or now.student.weights not in (None, "auto"):
        return now
    return replace(now, student=replace(now.student, weights=None), distill=now.distill.for_start(is_trained=False))


def _refuse_other_training(folder: Path, before: RunSettings, now: RunSettings) -> None:
    old, new = before.to_tables(), now.to_tables()
    changed = [
        f"{table}.{key} was {old[table].get(key)!r} and is {new[table].get(key)!r}"
        for table in _TABLES["distill"]
        for key in sorted({*old[table], *new[table]})
        if old[table].get(key) != new[table].get(key) and (table, key) != ("distill", "workers")
    ]
    if changed:
        raise UsageError(
            f"The run in {folder} was started with other settings: {'; '.join(changed)}. Choose another folder with "
            "--out, or start this one over with --restart."
        )


def _require_place(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose a folder with --out.")
    empty = not folder.exists() or all(path.name == LOCK_FILE for path in folder.iterdir())
    if not empty and not (folder / "settings.toml").is_file():
        raise UsageError(f"The folder {folder} is not empty and holds no run; choose another with --out.")


def _written() -> tuple[str, ...]:
    """Return what a run writes into its folder."""
    return (*_OWN, *itertools.chain.from_iterable(_RESULTS.values()))


def _clear(folder: Path) -> None:
    own = device_precisions(path.stem for path in folder.glob("model.*.onnx"))
    for name in (*_written(), *(f"{model_role(each)}.onnx" for each in own)):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
