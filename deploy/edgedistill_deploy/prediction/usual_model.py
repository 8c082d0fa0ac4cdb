"""Which of a bundle's models answers when the user names none: the one recommended for this device, else fp32."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import find_role, is_precision, judged_precisions
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.runtimes.opening import RUNTIMES, has_provider

_RUNTIME, _PROVIDER = "onnxruntime", "cpu"
# A bundle comes from anywhere, and an option of a provider can name a library to load: only a user may give options.
_PLAIN = re.compile(r"[a-z]+(:[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualModel:
    """A model with where it runs; `reason` is a sentence, and `doubtful` says that the user should read it."""

    precision: str
    runtime: str
    provider: str
    reason: str
    doubtful: bool = False


def choose_model(
    bundle: Bundle,
    *,
    precision: str | None = None,
    runtime: str | None = None,
    provider: str | None = None,
    device: str | None = None,
) -> UsualModel:
    """Return the model to run. What the caller names is taken; the rest is what is recommended for the device.

    Recommendations are those that `validate` and `profile` left in the bundle. One for a model file that has changed
    since does not count, nor one for this machine on a provider that is gone. `device` is the name of a device; by
    default this machine's. Raises BundleError where the bundle has no model for the runtime.
    """
    if precision is not None:
        return UsualModel(
            precision=precision,
            runtime=runtime or _RUNTIME,
            provider=provider or _PROVIDER,
            reason=f"{precision} was asked for.",
        )
    here = device is None
    choices: Mapping[str, Any] = bundle.manifest.get("choices", {})
    device = device or (read_device().name if choices else "")
    choice = choices.get(device)
    if isinstance(choice, Mapping):
        found = _recommended(bundle, choice, device, runtime, provider)
        if found is None:
            why = _why_not(choice, device)
            return _safe(bundle, runtime, provider, why, doubtful=choice.get("precision") is None)
        gone = provider is None and here and found.runtime == _RUNTIME and not has_provider(found.provider)
        return _safe(bundle, runtime, provider, _why_gone(found, device), doubtful=True) if gone else found
    reason = (
        "Nothing is recommended for this device yet; `edgedistill validate` and `edgedistill profile` on it find out "
        "which model is best here."
    )
    return _safe(bundle, runtime, provider, reason)


def _recommended(
    bundle: Bundle, choice: Mapping[str, Any], device: str, runtime: str | None, provider: str | None
) -> UsualModel | None:
    """Return the recommended model; None where there is none, its file changed, or the caller wants another place."""
    chosen = [choice.get(name) for name in ("precision", "runtime", "provider")]
    found_precision, found_runtime, found_provider = (each if isinstance(each, str) else "" for each in chosen)
    if not is_precision(found_precision) or found_runtime not in RUNTIMES or not _PLAIN.fullmatch(found_provider):
        return None
    if runtime not in (None, found_runtime) or provider not in (None, found_provider):
        return None
    role = find_role(bundle.manifest["files"], found_precision, found_runtime)
    if role is None or bundle.model_sha256(role) != choice.get("model_sha256"):
        return None
    return UsualModel(
        precision=found_precision,
        runtime=found_runtime,
        provider=found_provider,
        reason=f"{found_precision} is recommended for {device}.",
    )


def _why_not(choice: Mapping[str, Any], device: str) -> str:
    reason = choice.get("reason")
    if choice.get("precision") is None and isinstance(reason, str):
        return f"On {device}: {reason}"
    return f"What is recommended for {device} is another model file or runs elsewhere."


def _why_gone(found: UsualModel, device: str) -> str:
    return (
        f"{found.precision} on {found.provider} is recommended for {device}, but the installed ONNX Runtime has no "
        f"provider {found.provider} any more; install it again to run that model."
    )


def _safe(
    bundle: Bundle, runtime: str | None, provider: str | None, reason: str, *, doubtful: bool = False
) -> UsualModel:
    offered = bundle.precisions_for(runtime or _RUNTIME)
    experts = judged_precisions(offered)
    precision = "fp32" if "fp32" in experts else next(each for each in offered if each in experts)
    return UsualModel(
        precision=precision,
        runtime=runtime or _RUNTIME,
        provider=provider or _PROVIDER,
        reason=reason,
        doubtful=doubtful,
    )
