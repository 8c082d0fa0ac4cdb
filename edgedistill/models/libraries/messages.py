"""Parts of messages about other libraries: their own words, cut to fit into a sentence, and what a user can do."""

import re
import textwrap

# What a user can do where weights cannot be fetched, as the end of a sentence: for a teacher of each library, and for
# a student.
INSTEAD_OF_TIMM = "give a file with --teacher-weights, or a teacher folder in timm's layout"
INSTEAD_OF_TORCHVISION = "give a file with --teacher-weights"
INSTEAD_OF_TRANSFORMERS = "give the folder of an image classifier"
INSTEAD_OF_START = (
    "give --student-weights none to start from nothing, or a file of weights or a folder in timm's layout with it"
)


_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of bold and coloured text


def first_line(error: BaseException, most: int = 300) -> str:
    """Return the first line of an error's message as plain text, without its full stop, never cut inside a word."""
    text = _TERMINAL_CODES.sub("", str(error)).strip()
    line = "".join(filter(str.isprintable, (text or type(error).__name__).splitlines()[0]))
    return textwrap.shorten(line, most, placeholder=" ...").rstrip(". ")
