"""Where the teacher's answers are kept for other runs that need the same ones: those that try other weights."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from edgedistill.comparison.jobs import Job

# A cache can take gigabytes, and jobs that share one follow one another.
KEPT = 2
# Settings that the teacher's answers do not depend on.
_FREE = (
    "lambda_kd",
    "lambda_layer",
    "lambda_task",
    "lambda_schedule",
    "temperature",
    "learning_rate",
    "weight_decay",
    "schedule",
    "warmup",
    "gradient_clip",
    "ema",
    "early_stopping",
)


class Shelf:
    """The last few folders for teacher caches, of this process alone; `close` deletes them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._kept: list[Path] = []

    def place_for(self, job: Job) -> Path | None:
        """Return the folder for a training's cache; None where its settings ask for no cache."""
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
    """Return a hash of all settings that the teacher's answers depend on, or may depend on."""
    settings = {key: value for key, value in asdict(job.config).items() if key not in _FREE}
    described = [job.task.name, job.size, settings, bool(job.config.lambda_layer)]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
