"""ONNX Runtime's threads spin while they wait for work, on cores that the suite's other processes could use.

A session of two threads takes twice the processor's time of one thread's for the same answers; without spinning it
takes as much.
"""

import sys
from typing import Any

_SPINNING = "session.intra_op.allow_spinning"


def keep_threads_from_spinning() -> None:
    """Let the sessions that this process opens from here on wait without spinning; nothing is loaded for it."""
    runtime = sys.modules.get("onnxruntime")
    options: Any = getattr(runtime, "SessionOptions", None)
    if options is None or not options.__module__.startswith("onnxruntime."):  # not loaded, or made by a test or here
        return

    class Waiting(options):  # type: ignore[misc]
        """Options whose threads do not spin, whatever else is asked for."""

        def __init__(self) -> None:
            super().__init__()
            super().add_session_config_entry(_SPINNING, "0")

        def add_session_config_entry(self, key: str, value: str) -> None:
            if key != _SPINNING:
                super().add_session_config_entry(key, value)

    runtime.SessionOptions = Waiting  # type: ignore[union-attr]
