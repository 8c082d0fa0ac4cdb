"""The teacher's answers to images that nobody recorded them for: its file in the bundle gives them now."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFile:
    """The teacher's file of a bundle, which is opened when it is asked; `progress` counts images."""

    path: Path
    open: Callable[[], Session] = field(repr=False)
    progress: Progress = silent

    def ask(self, batches: Iterable[NDArray[np.uint8]], count: int) -> tuple[NDArray[np.float32], str, str]:
        """Return the logits (count, C) of prepared images, and the runtime and provider that gave them.

        Raises EdgeDistillError when the file cannot be run, or its logits are not finite.
        """
        given: list[NDArray[np.float32]] = []
        with self.open() as session:
            for batch in batches:
                given.append(logits_of(session, batch))
                self.progress(sum(map(len, given)), count, "images that it has not answered yet")
            return np.concatenate(given), session.runtime, session.provider


def find_teacher_file(
    bundle: Bundle, open_teacher: Callable[[], Session], progress: Progress = silent
) -> TeacherFile | None:
    """Return the teacher's file; None where the bundle has none, or the file was not sent to this device."""
    entry = bundle.manifest["files"].get(model_role("teacher"))
    path = None if entry is None else bundle.path / str(entry["path"])
    return TeacherFile(path=path, open=open_teacher, progress=progress) if path is not None and path.exists() else None
