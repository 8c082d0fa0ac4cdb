"""Settings of calibration, checked when made, without onnx."""

import platform
from dataclasses import dataclass, field

from edgedistill_deploy.errors import UsageError, nearest_names

# The share of values, in percent, that a range holds.
PERCENTILES = {"percentile-99.999": 99.999, "percentile-99.99": 99.99}
# What a method tries; an earlier one is preferred where they are equal on the held-out images.
CANDIDATES = {
    "minmax": ("minmax",),
    "moving-average": ("moving-average",),
    "percentile": ("percentile-99.999",),
    "least-squares": ("least-squares",),
    "auto": ("minmax", "moving-average", *PERCENTILES, "least-squares"),
}
METHODS = tuple(CANDIDATES)
PROFILES = ("x86", "arm")
ALL_NODES = "all"  # of `ledger_nodes`
AUTO = "auto"  # of `images` and `held_out`
# A file that holds its limit needs no node in float, so only the noisiest of its nodes are quantised one by one.
SAMPLED_NODES = 8
# Profiles of earlier versions that settings may still name, and what replaces them.
RETIRED_PROFILES = {"x86-no-vnni": "x86"}


def machine_profile() -> str:
    """Return the profile that is fast on this kind of machine; both are correct on every kind."""
    return "x86" if platform.machine().lower() in ("x86_64", "amd64", "i386", "i686", "x86") else "arm"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationConfig:
    """How a student is brought to INT8.

    Attributes:
        images: number of training images to measure ranges on, spread evenly over the classes. `auto` are 512, or
            fewer for a large model, but no fewer than 256.
        held_out: number of further training images, not calibrated on, to compare candidates on; `auto` as above.
        method: how a range follows from the values seen: `minmax`, `moving-average` (of the extremes of 16 images at a
            time), `percentile` (99.999 % of the values), `least-squares` (the clipping with the least squared error) or
            `auto` (the best of these and 99.99 % on held-out images).
        profile: where `model.int8.onnx` is fast. `x86`: unsigned activations with zero points; `arm`: signed ones.
            Either gives the same answers on every processor. The retired `x86-no-vnni` means `x86`.
        max_drop: the accuracy, absolute, that an INT8 file may lose against the float model on the held-out images
            before nodes are left in float.
        fp16: also write `model.fp16.onnx` and `model.int8-fp16-tensorrt.onnx`.
        recover: epochs of quantisation-aware distillation after calibration; 0 for none.
        ledger_nodes: the most nodes of a file that are quantised one by one to measure their cost, where it loses more
            than `max_drop`; where it does not, `SAMPLED_NODES` are enough. `all` measures every node of every file.
            With 0 no node is measured, and none can be left in float.
        seed: decides which images are taken.
    """

    images: int | str = AUTO
    held_out: int | str = AUTO
    method: str = "auto"
    profile: str = field(default_factory=machine_profile)
    max_drop: float = 0.01
    fp16: bool = True
    recover: int = 0
    ledger_nodes: int | str = 100
    seed: int = 0

    @classmethod
    def for_timing(cls, class_count: int) -> "CalibrationConfig":
        """Return settings for few images, because a model's time depends only on its graph."""
        few = 4 * class_count
        return cls(images=few, held_out=few, method="minmax", max_drop=1.0, fp16=False, ledger_nodes=0)

    def __post_init__(self) -> None:
        least_allowed = {"images": 1, "held_out": 1, "recover": 0, "ledger_nodes": 0, "seed": 0}
        words = {"images": AUTO, "held_out": AUTO, "ledger_nodes": ALL_NODES}
        for key, least in least_allowed.items():
            value = getattr(self, key)
            if key in words and value == words[key]:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                other = f", or {words[key]}" if key in words else ""
                raise UsageError(f"{key} must be a whole number of at least {least}{other}, and {value!r} was given.")
        drop: object = self.max_drop
        if isinstance(drop, bool) or not isinstance(drop, (int, float)) or not 0 <= drop <= 1:
            raise UsageError(
                f"max_drop must be a number from 0 to 1, and {drop!r} was given; 0.01 is one point of accuracy."
            )
        if not isinstance(self.fp16, bool):
            raise UsageError(f"fp16 must be true or false, and {self.fp16!r} was given.")
        for key, allowed, retired in (("method", METHODS, ()), ("profile", PROFILES, RETIRED_PROFILES)):
            value = getattr(self, key)
            if value not in allowed and value not in retired:
                names = ", ".join(allowed)
                raise UsageError(f"{key} must be one of {names}, and {value!r} was given.{_suggestion(value, allowed)}")

    def node_limit(self, node_count: int, *, holds: bool) -> int:
        """Return how many of a file's nodes are measured; `holds` says that the file loses no more than it may."""
        if isinstance(self.ledger_nodes, str):
            return node_count
        return min(self.ledger_nodes, node_count, SAMPLED_NODES if holds else node_count)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about settings whose meaning has changed."""
        instead = RETIRED_PROFILES.get(self.profile)
        if instead is None:
            return ()
        sentence = (
            f"The profile {self.profile} is retired, and {instead} was taken: its weights have 8 bits, and the runtime "
            "is told to compute them exactly on processors without VNNI."
        )
        return (sentence,)


def _suggestion(value: object, allowed: tuple[str, ...]) -> str:
    hint = nearest_names(str(value), allowed)
    return hint if hint.startswith(" Did") else ""
