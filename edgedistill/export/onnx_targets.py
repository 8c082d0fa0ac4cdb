"""Export targets, and the newest ONNX operator set and format (IR) version that each one reads.

No torch and no onnx, so that settings can be refused early. `docs/export.md` gives the source of each figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgedistill_deploy.errors import UsageError, nearest_names

# The IR version of each operator set (onnx.helper.VERSION_TABLE): a program that reads the set reads this version too.
IR_VERSIONS: Mapping[int, int] = {
    13: 7,
    14: 7,
    15: 8,
    16: 8,
    17: 8,
    18: 8,
    19: 9,
    20: 9,
    21: 10,
    22: 10,
    23: 11,
    24: 12,
    25: 13,
}
# 19 is the first with FP16 scales in QuantizeLinear. 20 is the newest that TensorRT 10.0 to 10.5 read.
USUAL_OPSET = 20
ANY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A program that reads the exported file: the user types its `name`, and messages call it `reader`."""

    name: str
    reader: str
    newest_opset: int
    newest_ir_version: int

    @property
    def opset(self) -> int:
        """The ONNX operator set that is written unless the user asks for another."""
        return min(USUAL_OPSET, self.newest_opset)


# Newest operator set and IR version by ONNX Runtime release, each found by running models with that release.
# 1.15 knows opset 19, but has no kernel for its Cast.
_ONNX_RUNTIMES = {
    "1.15": (18, 9),
    "1.16": (19, 9),
    "1.17": (20, 9),
    "1.18": (21, 10),
    "1.19": (21, 10),
    "1.20": (21, 10),
    "1.21": (22, 10),
    "1.22": (22, 10),
    "1.23": (23, 11),
}
_OLDEST_SUPPORTED = "1.20"  # by this project's own requirement

TARGETS: Mapping[str, Target] = {
    each.name: each
    for each in (
        Target(
            name="onnxruntime",
            reader=f"ONNX Runtime {_OLDEST_SUPPORTED} and newer",
            newest_opset=_ONNX_RUNTIMES[_OLDEST_SUPPORTED][0],
            newest_ir_version=_ONNX_RUNTIMES[_OLDEST_SUPPORTED][1],
        ),
        Target(name="tensorrt-10", reader="TensorRT 10.0 and newer", newest_opset=20, newest_ir_version=9),
        Target(name="tensorrt-11", reader="TensorRT 11.0 and newer", newest_opset=24, newest_ir_version=12),
        Target(name="jetpack-6", reader="JetPack 6.1 and 6.2 (TensorRT 10.3)", newest_opset=20, newest_ir_version=9),
        *(
            Target(
                name=f"onnxruntime-{release}",
                reader=f"ONNX Runtime {release}",
                newest_opset=opset,
                newest_ir_version=ir_version,
            )
            for release, (opset, ir_version) in _ONNX_RUNTIMES.items()
        ),
    )
}


# What people call the devices of `pack`.
_ALIASES = {"pi": "onnxruntime", "jetson": "jetpack-6"}


def find_target(name: str) -> Target:
    """Return the target of this name, or of a device's. Raises UsageError."""
    wanted = _ALIASES.get(name, name)
    if wanted not in TARGETS:
        raise UsageError(f"There is no target {name!r}.{nearest_names(name, (*_ALIASES, *TARGETS))}")
    return TARGETS[wanted]


def choose_opset(target: str, opset: int | None) -> int:
    """Return the operator set to write: the one asked for, else the target's, else the usual one.

    Raises:
        UsageError: the target is unknown, or the operator set cannot be written here or read by the target.
    """
    if opset is not None and opset not in IR_VERSIONS:
        raise UsageError(
            f"opset must be a whole number from {min(IR_VERSIONS)} to {max(IR_VERSIONS)}, and {opset} was given."
        )
    if target == ANY:
        return USUAL_OPSET if opset is None else opset
    if target not in TARGETS:
        raise UsageError(f"There is no export target {target!r}.{nearest_names(target, TARGETS)}")
    known = TARGETS[target]
    if opset is None:
        return known.opset
    if opset > known.newest_opset:
        readers = [each.name for each in TARGETS.values() if each.newest_opset >= opset]
        others = f", or choose a target that reads it, such as {', '.join(readers[:4])}" if readers else ""
        raise UsageError(
            f"{known.reader} reads ONNX opset {known.newest_opset} at most, and opset {opset} was asked for; ask for "
            f"--opset {known.opset}{others}."
        )
    return opset
