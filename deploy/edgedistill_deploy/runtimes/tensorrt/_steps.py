"""TensorRT's reports on a build, phases within phases, as one progress, and the request to stop it."""

import threading
from dataclasses import dataclass

from edgedistill_deploy.progress import Progress

_PARTS = 1000  # progress counts in thousandths of the outermost phase


@dataclass(slots=True)
class _Phase:
    parent: str | None
    step_count: int
    done: int = 0


class BuildSteps:
    """Receives TensorRT's phases and steps, from any thread, and calls the caller's progress.

    An exception from the progress stops TensorRT, and `raise_if_stopped` raises it again.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._phases: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        self._stopped = False
        self._error: BaseException | None = None

    def start(self, name: str, parent: str | None, step_count: int) -> None:
        """Note that a phase began, inside the phase `parent` if it is given."""
        with self._lock:
            self._phases[name] = _Phase(parent=parent or None, step_count=max(step_count, 1))
            self._tell(name)

    def complete(self, name: str, step: int) -> bool:
        """Note that a phase's step, counted from 0, is done. Returns False when the build must stop."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = max(phase.done, step + 1)
                self._tell(name)
            return not self._stopped

    def finish(self, name: str) -> None:
        """Note that a phase ended."""
        with self._lock:
            self._phases.pop(name, None)

    def stop(self) -> None:
        """Make TensorRT end the build at its next step."""
        self._stopped = True

    def raise_if_stopped(self) -> None:
        """Raise what stopped the build, if anything: the progress's own exception, or KeyboardInterrupt."""
        if self._error is not None:
            raise self._error
        if self._stopped:
            raise KeyboardInterrupt

    def _tell(self, name: str) -> None:
        if self._stopped:
            return
        try:
            self._progress(int(_PARTS * self._share()), _PARTS, name)
        except BaseException as error:  # noqa: BLE001  # it must not pass through TensorRT's frames
            self._error = error
            self._stopped = True

    def _share(self) -> float:
        """Return the share of the outermost phase that is done."""
        roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        return self._share_of(roots[0]) if roots else 0.0

    def _share_of(self, name: str) -> float:
        phase = self._phases[name]
        inside = [child for child, each in self._phases.items() if each.parent == name and child != name]
        begun = max((self._share_of(child) for child in inside), default=0.0)
        return min((phase.done + begun) / phase.step_count, 1.0)
