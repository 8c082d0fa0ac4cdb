"""The methods that are compared, by name: each sets some settings; all methods share the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from edgedistill.config import PRESETS, DistillConfig
from edgedistill_deploy.errors import UsageError, nearest_names

Methods = Mapping[str, Mapping[str, Any]]

REFERENCE = "subdistill"
AS_IS = "as-is"
LABELS = "labels"
LOGITS = "logits"
PATIENT = "patient"
# A key of a method beside the settings: its epochs are so many times those of the task.
EPOCHS_TIMES = "epochs_times"
# A method without a `lambda_layer` of its own has a layer term whose weight is tuned. One of 0 epochs trains nothing:
# the student is judged as it starts.
METHODS: Methods = {
    REFERENCE: {"layer_loss": "subspace", "method": "prca"},
    AS_IS: {"epochs": 0},
    LABELS: PRESETS["labels"],
    LOGITS: {"lambda_layer": 0.0},
    # Beyer et al. 2022: the teacher sees the student's crops, images are mixed, and the schedule is long. A few kept
    # views would not be enough of them.
    PATIENT: {"lambda_layer": 0.0, "mixup": 1.0, "teacher_cache": "off", EPOCHS_TIMES: 3},
    "attention-transfer": {"layer_loss": "attention-transfer"},
    "fitnet": {"layer_loss": "fitnet"},
    "vid": {"layer_loss": "vid"},
    "vkd": {"layer_loss": "vkd"},
    "similarity": {"layer_loss": "similarity"},
    "subdistill-pca": {"layer_loss": "subspace", "method": "pca"},
    "subdistill-random": {"layer_loss": "subspace", "method": "random"},
}
# What anybody would try before SubDistill: it was worth it if it beats the best of these.
PLAIN = (AS_IS, LABELS, LOGITS, PATIENT)
LEARNS_FROM: Mapping[str, str] = {
    AS_IS: "nothing new: its own trained head, of which the subtask's outputs are kept",
    LABELS: "labels alone",
    LOGITS: "the teacher's subtask logits alone",
}
# Settings that a comparison sets itself, so that they are the same for every method.
_OWN = ("seed",)


def named_methods(names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Look methods up by name.

    Raises:
        UsageError: no name, an unknown one (the message lists the nearest) or one twice.
    """
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise UsageError(f"There is no method {unknown[0]!r} to compare.{nearest_names(unknown[0], METHODS)}")
    if not names or len(set(names)) < len(names):
        raise UsageError(f"Name each method to compare once, and at least one; {list(names)} was given.")
    return {name: METHODS[name] for name in names}


def is_tuned(settings: Mapping[str, Any]) -> bool:
    """Tell whether the weight of the layer term is chosen on validation images."""
    return "lambda_layer" not in settings and not is_untrained(settings)


def is_untrained(settings: Mapping[str, Any]) -> bool:
    """Tell whether a method judges the student as it starts, without any training."""
    return settings.get("epochs") == 0


def check_settings(owner: str, settings: Mapping[str, Any], extra: Sequence[str] = ()) -> None:
    """Refuse settings that `DistillConfig` does not have, but for `extra`, or that the comparison sets itself."""
    known = {each.name for each in fields(DistillConfig)}.difference(_OWN).union(extra)
    for key in settings:
        if key in _OWN:
            raise UsageError(f"{owner} sets {key!r}, which a comparison sets itself; give it to the plan instead.")
        if key not in known:
            raise UsageError(f"{owner} sets {key!r}, which is not known.{nearest_names(key, sorted(known))}")


def nearest_to_one(value: float) -> tuple[float, float]:
    """Return a sort key: the distance from 1 in powers of ten, then the value, so that the smaller comes first."""
    return (round(abs(math.log10(value)), 9), value)
