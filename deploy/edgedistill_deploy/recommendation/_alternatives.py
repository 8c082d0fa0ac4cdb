"""Which results count for a bundle: a further provider for the processor may be better than `cpu`, and spoils nothing.

Where a build or a profile measures OpenVINO beside `cpu`, nobody asked for it. If a model passes on `cpu` and fails
there, it is not recommended there, and the file is as good as before.
"""

from collections.abc import Container, Sequence

from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.runtimes.providers import on_processor

Subject = tuple[str, tuple[str | None, str | None, str | None]]  # a precision, and device, runtime and provider


def is_alternative(subject: Subject, judged: Container[Subject]) -> bool:
    """Return whether a model ran on another provider for a processor on which `cpu` was judged too."""
    precision, (device, runtime, provider) = subject
    if provider is None or provider == "cpu" or not on_processor(provider):
        return False
    return (precision, (device, runtime, "cpu")) in judged


def counted_reports(reports: Sequence[ParityReport]) -> list[ParityReport]:
    """Return the reports that count in the verdict on a bundle."""
    subjects = [(each.model.precision, each.model.place) for each in reports]
    return [each for each, subject in zip(reports, subjects, strict=True) if not is_alternative(subject, subjects)]
