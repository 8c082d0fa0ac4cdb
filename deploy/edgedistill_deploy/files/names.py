"""Names from file systems and from users, as every output shows them.

A file name can be any bytes. Python holds those that are not UTF-8 as halves of surrogate pairs, which no output can
encode. Terminals obey control characters, and marks of direction change the order in which a reader sees the rest.
"""

import re
import unicodedata
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


def printable(text: str, keep: str = "") -> str:
    r"""Return text on one line that any output can show: `caf\xe9.png` for a name that is not UTF-8.

    Bytes that are not UTF-8, control characters, ends of lines, marks of direction and what Unicode never assigns
    become escapes. The characters in `keep` stay.
    """
    return text if text.isascii() and text.isprintable() else "".join(_shown(letter, keep) for letter in text)


def is_plain_text(value: Any) -> bool:
    """Return whether a value is text without control characters, which terminals would obey."""
    return isinstance(value, str) and not any(unicodedata.category(letter) == "Cc" for letter in value)


def replace_surrogates(text: str, mark: str = "\\") -> str:
    """Return text that can be encoded as UTF-8: halves of surrogate pairs become escapes, which begin with `mark`."""
    return _SURROGATE.sub(lambda found: mark + _escape(found[0])[1:], text)


def _shown(letter: str, keep: str) -> str:
    hidden = unicodedata.category(letter) in _HIDDEN or letter in _DIRECTION or ord(letter) & 0xFFFE == 0xFFFE
    return _escape(letter) if hidden and letter not in keep else letter


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
