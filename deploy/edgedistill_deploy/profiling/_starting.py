"""A cold start seen from inside the new process; nothing heavy is imported before it is timed. See `cold_start`."""

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill_deploy.clock import MACHINE_CLOCK


def start_and_run(folder: str, model: Mapping[str, Any], batch_size: int) -> dict[str, int]:
    """Import, load and run once; return when it began on the clock, and what each part took, in ns."""
    began = MACHINE_CLOCK.now_ns()
    import numpy as np

    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.bundle.reference import read_golden
    from edgedistill_deploy.runtimes.engine_options import DEFAULT_ENGINE
    from edgedistill_deploy.runtimes.opening import open_session

    with contextlib.suppress(ImportError):  # a runtime that is missing is a sentence of open_session
        importlib.import_module(model["runtime"])
    imported = MACHINE_CLOCK.now_ns()
    bundle = open_bundle(Path(folder), verify=False)
    with open_session(bundle, **model, engine=DEFAULT_ENGINE.tuned_for(batch_size)) as session:
        loaded = MACHINE_CLOCK.now_ns()
        images, _ = read_golden(bundle.file("golden"))
        batch = np.ascontiguousarray(images[np.arange(batch_size) % len(images)])
        prepared = MACHINE_CLOCK.now_ns()
        session.run({"image": batch})
        ended = MACHINE_CLOCK.now_ns()
    return {"began": began, "import": imported - began, "load": loaded - imported, "first_run": ended - prepared}
