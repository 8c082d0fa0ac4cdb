"""The device side of EdgeDistill: bundles, sessions, parity and latency. numpy and Pillow only.

The names below are promised; modules whose names begin with an underscore are not. Each name is imported at its first
use.
"""

from typing import TYPE_CHECKING

from edgedistill_deploy.faces import build_face

if TYPE_CHECKING:
    from edgedistill_deploy.bundle.folder import Bundle as Bundle
    from edgedistill_deploy.bundle.folder import create_bundle as create_bundle
    from edgedistill_deploy.bundle.folder import open_bundle as open_bundle
    from edgedistill_deploy.errors import EdgeDistillError as EdgeDistillError
    from edgedistill_deploy.hardware.device import DeviceInfo as DeviceInfo
    from edgedistill_deploy.hardware.device import read_device as read_device
    from edgedistill_deploy.images.decode import read_image as read_image
    from edgedistill_deploy.images.preprocess import Preprocess as Preprocess
    from edgedistill_deploy.images.sources import open_images as open_images
    from edgedistill_deploy.latency.measurement import LatencyConfig as LatencyConfig
    from edgedistill_deploy.latency.measurement import measure_latency as measure_latency
    from edgedistill_deploy.latency.measurement import write_latency as write_latency
    from edgedistill_deploy.parity.check import check_parity as check_parity
    from edgedistill_deploy.parity.check import write_parity as write_parity
    from edgedistill_deploy.parity.validation import Validation as Validation
    from edgedistill_deploy.parity.validation import ValidationRequest as ValidationRequest
    from edgedistill_deploy.parity.validation import validate_bundle as validate_bundle
    from edgedistill_deploy.prediction.answers import Prediction as Prediction
    from edgedistill_deploy.prediction.expert import Expert as Expert
    from edgedistill_deploy.prediction.occlusion import Explanation as Explanation
    from edgedistill_deploy.records.latency import LatencyReport as LatencyReport
    from edgedistill_deploy.records.parity import ParityLimits as ParityLimits
    from edgedistill_deploy.records.parity import ParityReport as ParityReport
    from edgedistill_deploy.report.page import write_report as write_report
    from edgedistill_deploy.runtimes.opening import open_model as open_model
    from edgedistill_deploy.runtimes.opening import open_session as open_session
    from edgedistill_deploy.runtimes.session import Session as Session
    from edgedistill_deploy.version import __version__ as __version__
else:
    __getattr__, __dir__, __all__ = build_face(
        __name__,
        {
            "bundle.folder": "Bundle create_bundle open_bundle",
            "errors": "EdgeDistillError",
            "hardware.device": "DeviceInfo read_device",
            "images.decode": "read_image",
            "images.preprocess": "Preprocess",
            "images.sources": "open_images",
            "latency.measurement": "LatencyConfig measure_latency write_latency",
            "parity.check": "check_parity write_parity",
            "parity.validation": "Validation ValidationRequest validate_bundle",
            "prediction.answers": "Prediction",
            "prediction.expert": "Expert",
            "prediction.occlusion": "Explanation",
            "records.latency": "LatencyReport",
            "records.parity": "ParityLimits ParityReport",
            "report.page": "write_report",
            "runtimes.opening": "open_model open_session",
            "runtimes.session": "Session",
            "version": "__version__",
        },
    )
