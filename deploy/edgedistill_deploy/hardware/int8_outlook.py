"""What to expect of INT8 on a processor, by its instructions; a measurement tells more."""

from collections.abc import Sequence
from typing import Literal

Outlook = Literal["faster", "slower", "unknown"]

_X86 = ("x86_64", "amd64", "i386", "i686", "x86")


def int8_outlook(instructions: Sequence[str] | None, architecture: str) -> Outlook:
    """Return whether INT8 is likely faster than fp32 on the processor itself.

    Args:
        instructions: those for products of 8 bits (`DeviceInfo.int8_instructions`); None where the system tells none.
        architecture: the machine's, as `platform.machine` names it.
    """
    if instructions is None:
        return "unknown"
    if instructions:
        return "faster"
    return "slower" if architecture.lower() in _X86 else "unknown"


def outlook_sentence(instructions: Sequence[str] | None, architecture: str) -> str:
    """Return the instructions and what to expect, in plain words; none of it is about a GPU or another accelerator."""
    if instructions is None:
        return "This system does not tell the processor's INT8 instructions; only a measurement tells what INT8 gains."
    has = ", ".join(instructions) or "none"
    return f"INT8 instructions of the processor: {has}. {_EXPECTED[int8_outlook(instructions, architecture)]}"


_EXPECTED = {
    "faster": "INT8 is likely faster than fp32 here.",
    "slower": "INT8 is likely slower than fp32 here, so deploy fp32 unless `profile` shows otherwise.",
    "unknown": "INT8 is likely no faster than fp32 here; `profile` tells.",
}
