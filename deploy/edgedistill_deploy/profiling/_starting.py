"""A cold start inside the new process (see `cold_start`); nothing heavy is imported before the timing begins."""

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill_deploy.clock import MACHINE_CLOCK


def start_and_run(folder: str, model: Mapping[str, Any], batch_size: int) -> dict[str, int]:
    """Import, load and run once; return the clock's time at the beginning and the time of each part, in ns."""
    began = MACHINE_CLOCK.now_ns()
    import numpy as np

    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.bundle.reference import read_golden
    from edgedistill_deploy.runtimes.engine_options import DEFAULT_ENGINE
    from edgedistill_deploy.runtimes.opening import open_session

    with contextlib.suppress(ImportError):  # open_session explains that a runtime is missing
        importlib.import_module(model["runtime"])
    imported = MACHINE_CLOCK.now_ns()
    bundle = open_bundle(Path(folder), verify=False)
    with open_session(bundle, **model, engine=DEFAULT_ENGINE.tuned_for(batch_size), limit_s=None) as session:
        loaded = MACHINE_CLOCK.now_ns()
        images, _ = read_golden(bundle.file("golden"))
        batch = np.ascontiguousarray(images[np.arange(batch_size) % len(images)])
        prepared = MACHINE_CLOCK.now_ns()
        session.run({"image": batch})
        ended = MACHINE_CLOCK.now_ns()
    return {"began": began, "import": imported - began, "load": loaded - imported, "first_run": ended - prepared}
