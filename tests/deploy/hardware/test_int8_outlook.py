"""What to expect of INT8 by the processor's instructions, in plain words."""

import pytest

from edgedistill_deploy.hardware.int8_outlook import int8_outlook, outlook_sentence


@pytest.mark.parametrize(
    ("instructions", "architecture", "outlook", "words"),
    [
        (("AVX512-VNNI", "AMX"), "x86_64", "faster", "AVX512-VNNI, AMX. INT8 is likely faster than fp32 here."),
        (("AVX-VNNI",), "AMD64", "faster", "AVX-VNNI. INT8 is likely faster"),
        (("dot product", "i8mm"), "aarch64", "faster", "dot product, i8mm. INT8 is likely faster"),
        ((), "x86_64", "slower", "none. INT8 is likely slower than fp32 here, so deploy fp32"),
        ((), "aarch64", "unknown", "none. INT8 is likely no faster than fp32 here; `profile` tells."),
        (None, "x86_64", "unknown", "does not tell the processor's INT8 instructions; only a measurement"),
    ],
)
def test_the_outlook_follows_the_instructions(
    instructions: tuple[str, ...] | None, architecture: str, outlook: str, words: str
) -> None:
    assert int8_outlook(instructions, architecture) == outlook
    assert words in outlook_sentence(instructions, architecture)
