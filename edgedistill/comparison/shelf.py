"""Where the teacher's answers are kept between runs that ask it the same: those that try other weights of one
method."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from edgedistill.comparison.jobs import Job

# A cache can take gigabytes, and jobs come cell by cell.
KEPT = 2
# What a run may change without asking the teacher anything else.
_FREE = (
    "lambda_kd",
    "lambda_layer",
    "lambda_task",
    "lambda_schedule",
    "temperature",
    "learning_rate",
    "weight_decay",
    "schedule",
    "gradient_clip",
    "ema",
    "early_stopping",
)


class Shelf:
    """Folders for teacher caches, the last few; they are this process's own and are deleted when it is closed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._kept: list[Path] = []

    def place_for(self, job: Job) -> Path | None:
        """Return the folder for a training's cache; None where its settings keep none."""
        if job.config.teacher_cache == "off":
            return None
        place = self._folder / _question(job)
        self._kept = [*(each for each in self._kept if each != place), place]
        while len(self._kept) > KEPT:
            shutil.rmtree(self._kept.pop(0), ignore_errors=True)
        return place

    def close(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _question(job: Job) -> str:
    """Return a hash of all that the teacher's answers depend on, and of what is not known to leave them alone."""
    settings = {key: value for key, value in asdict(job.config).items() if key not in _FREE}
    described = [job.task.name, job.size, settings, bool(job.config.lambda_layer)]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
