"""The device side of EdgeDistill: bundles, sessions, parity and latency. numpy and Pillow only.

The names below are promised; modules whose names begin with an underscore are not. Each is imported when first used, so
that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgedistill_deploy.version import __version__

if TYPE_CHECKING:
    from edgedistill_deploy.bundle.folder import Bundle, create_bundle, open_bundle
    from edgedistill_deploy.errors import EdgeDistillError
    from edgedistill_deploy.hardware.device import DeviceInfo, read_device
    from edgedistill_deploy.images.decode import read_image
    from edgedistill_deploy.images.preprocess import Preprocess
    from edgedistill_deploy.images.sources import open_images
    from edgedistill_deploy.latency.measurement import LatencyConfig, measure_latency, write_latency
    from edgedistill_deploy.parity.check import check_parity, write_parity
    from edgedistill_deploy.parity.validation import Validation, ValidationRequest, validate_bundle
    from edgedistill_deploy.records.latency import LatencyReport
    from edgedistill_deploy.records.parity import ParityLimits, ParityReport
    from edgedistill_deploy.report.page import write_report
    from edgedistill_deploy.runtimes.opening import open_model, open_session
    from edgedistill_deploy.runtimes.session import Session

__all__ = [
    "Bundle",
    "DeviceInfo",
    "EdgeDistillError",
    "LatencyConfig",
    "LatencyReport",
    "ParityLimits",
    "ParityReport",
    "Preprocess",
    "Session",
    "Validation",
    "ValidationRequest",
    "__version__",
    "check_parity",
    "create_bundle",
    "measure_latency",
    "open_bundle",
    "open_images",
    "open_model",
    "open_session",
    "read_device",
    "read_image",
    "validate_bundle",
    "write_latency",
    "write_parity",
    "write_report",
]

_HOMES = {
    "bundle.folder": ("Bundle", "create_bundle", "open_bundle"),
    "errors": ("EdgeDistillError",),
    "hardware.device": ("DeviceInfo", "read_device"),
    "images.decode": ("read_image",),
    "images.preprocess": ("Preprocess",),
    "images.sources": ("open_images",),
    "latency.measurement": ("LatencyConfig", "measure_latency", "write_latency"),
    "parity.check": ("check_parity", "write_parity"),
    "parity.validation": ("Validation", "ValidationRequest", "validate_bundle"),
    "records.latency": ("LatencyReport",),
    "records.parity": ("ParityLimits", "ParityReport"),
    "report.page": ("write_report",),
    "runtimes.opening": ("open_model", "open_session"),
    "runtimes.session": ("Session",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
