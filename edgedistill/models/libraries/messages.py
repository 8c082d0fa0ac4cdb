"""Messages of other libraries, cut to what fits into a sentence."""

import textwrap


def first_line(error: BaseException, most: int = 300) -> str:
    """Return the first line of an error's message, without its full stop and never cut inside a word."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return textwrap.shorten(line, most, placeholder=" ...").rstrip(".")
