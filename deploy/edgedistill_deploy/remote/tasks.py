"""The jobs for a device over SSH, with the files of a bundle that each needs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.bundle.expectation import expectation_role
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import device_precisions, find_role, model_role, suits
from edgedistill_deploy.bundle.reference import Reference, write_reference
from edgedistill_deploy.evaluation.images import open_evaluation
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity.check import ParityLimits
from edgedistill_deploy.parity.teacher_answers import find_teacher_file
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import RemoteJob
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.runtimes.session import LIMIT_S

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeChoice:
    """The user's choice for all devices; None takes the choice of each device in the inventory."""

    runtime: str | None = None
    provider: str | None = None

    def runtimes(self, device: Device) -> tuple[str, ...]:
        """Return the runtime for a device."""
        return (self.runtime or device.runtime,)


def profile_job(
    bundle: Bundle,
    request: ProfileRequest,
    devices: Sequence[Device],
    chosen: RuntimeChoice,
    *,
    keep: bool = False,
    wait_s: float = 0.0,
) -> RemoteJob:
    """Return the job that measures a request; each device's own runtime and provider fill what is not chosen."""

    files = bundle.manifest["files"]

    def runtimes(device: Device) -> tuple[str, ...]:
        return request.runtimes if chosen.runtime is not None else (device.runtime,)

    def build_request(device: Device) -> dict[str, Any]:
        providers = request.providers if chosen.provider is not None else (device.provider,)
        own = replace(request, runtimes=runtimes(device), providers=providers, added=(), power_sensor=device.power)
        if request.precisions is None and any(suits(each, device.name) for each in device_precisions(files)):
            own = replace(own, precisions=bundle.precisions_for(runtimes(device)[0], device.name))
        return {"profile": own.to_json()}

    return RemoteJob(
        bundle=bundle,
        task="profile",
        roles=_needed_roles(bundle, request.precisions, runtimes, devices),
        request=build_request,
        runtimes=runtimes,
        keep=keep,
        wait_s=wait_s,
    )


def validate_job(
    bundle: Bundle,
    limits: ParityLimits,
    devices: Sequence[Device],
    chosen: RuntimeChoice,
    *,
    precisions: Sequence[str] | None = None,
    threads: int | None = None,
    limit_s: float = LIMIT_S,
    reference: Path | None = None,
    keep: bool = False,
    wait_s: float = 0.0,
) -> RemoteJob:
    """Return the job that judges models; `reference` replaces the bundle's file, see `write_prepared`.

    `limit_s` is how long one inference may take. Raises UsageError if a class that the limits allow is none of the
    bundle's.
    """
    limits.allowed_among(bundle.classes)
    # The answers of the teacher's file are checked where it is there, and strict limits want that checked.
    teacher = (model_role("teacher"),) if limits.strict else ()

    def build_request(device: Device) -> dict[str, Any]:
        (runtime,) = chosen.runtimes(device)
        return {
            "limits": asdict(limits),
            "precisions": list(precisions or bundle.precisions_for(runtime, device.name)),
            "runtime": runtime,
            "provider": chosen.provider or device.provider,
            "threads": threads,
            "run_limit_s": limit_s,
        }

    return RemoteJob(
        bundle=bundle,
        task="validate",
        roles=(*_needed_roles(bundle, precisions, chosen.runtimes, devices), "reference", *teacher),
        request=build_request,
        runtimes=chosen.runtimes,
        replaced={} if reference is None else {"reference": reference},
        keep=keep,
        wait_s=wait_s,
    )


def write_prepared(bundle: Bundle, images: ImageSet, path: Path) -> tuple[str, ...]:
    """Write images as a device needs them: prepared, with the teacher's answers; return notes on these.

    The teacher's file answers images whose answers are not recorded, with ONNX Runtime on this machine: a device gets
    the experts alone. Raises DataError when there is no answer to any of them.
    """
    teacher = find_teacher_file(bundle, lambda: open_session(bundle, precision="teacher"))
    evaluation = open_evaluation(bundle, images, teacher)
    rows = np.arange(len(evaluation.labels))
    reference = Reference(
        logits=evaluation.teacher,
        labels=evaluation.labels,
        digests=np.array([evaluation.digest(int(row)) for row in rows]),
        images=np.concatenate(list(evaluation.prepared(rows, _BATCH))),
        image_index=rows,
        class_names=evaluation.recorded.class_names,
    )
    write_reference(path, reference)
    return evaluation.notes


def _needed_roles(
    bundle: Bundle,
    precisions: Sequence[str] | None,
    runtimes: Callable[[Device], tuple[str, ...]],
    devices: Sequence[Device],
) -> tuple[str, ...]:
    """Return the roles of the models that the devices' runtimes take, and of the golden files."""
    files = bundle.manifest["files"]
    pairs = sorted({(runtime, device.name) for device in devices for runtime in runtimes(device)})
    taken = [
        find_role(files, precision, runtime)
        for runtime, device in pairs
        for precision in precisions or bundle.precisions_for(runtime, device)
    ]
    roles = dict.fromkeys(role for role in taken if role)
    beside = (f"{role}.data" for role in roles)  # the weights of a model too large for one file
    expected = map(expectation_role, roles)  # that of fp32 is golden
    return *(role for role in (*roles, *beside, *expected) if bundle.has(role)), "golden", "golden-images"
