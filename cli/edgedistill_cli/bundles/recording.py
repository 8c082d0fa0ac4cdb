"""Where the records of a measurement go, and what happens where they cannot be written: the result counts, not they."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.manifest import MANIFEST
from edgedistill_deploy.errors import NotWrittenError
from edgedistill_deploy.files.locks import LOCK_FILE, hold_folder
from edgedistill_deploy.files.writing import make_folder, refuse_links_out

# What commands that measure write into a bundle.
_WRITTEN = ("parity", "latency", "latency-comparison", "chain", "answers", "flips", "bisect", MANIFEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """The folder for records: the bundle, or that of `--record`."""

    folder: Path
    console: Console

    def keep(self, write: Callable[[], object]) -> None:
        """Write records; a note says why they cannot be written."""
        try:
            write()
        except NotWrittenError as error:
            self.note(str(error))

    def note(self, problem: str | None) -> None:
        """Say that records could not be written, if there was such a problem."""
        if problem:
            self.console.warn(
                f"note: The result counts, but its record was not kept: {problem} --record DIR keeps records in "
                "another folder."
            )

    def keep_choices(self, bundle: Bundle) -> None:
        """Write into the manifest which model to deploy where, if the records are the bundle's own."""
        from edgedistill_deploy.recommendation.choice import record_choices

        if self.folder == bundle.path:
            self.keep(lambda: record_choices(bundle))


@contextmanager
def recording(bundle: Bundle, command: str, console: Console, record: Path | None = None) -> Iterator[Recorder]:
    """Let the command measure the bundle and write its records, beside others that measure, and beside no run.

    Raises:
        BundleError: a symbolic link leads out of the folder for the records.
        NotWrittenError: the folder of `--record` cannot be made.
        EdgeDistillError: a run is at work in the bundle.
    """
    if record is not None:
        make_folder(record)
    folder = record or bundle.path
    refuse_links_out(folder, _WRITTEN)
    with ExitStack() as stack:
        if record is None or (bundle.path / LOCK_FILE).exists():  # else nothing at all is written in the bundle
            stack.enter_context(hold_folder(bundle.path, f"edgedistill {command}", sharing=True, note=console.say))
        yield Recorder(folder=folder, console=console)
