"""Text that people write: UTF-8 within limits, TOML, and the rule for names that a terminal shows."""

import sys
import unicodedata
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import UsageError, reading

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10 has no TOML reader of its own
    import tomli as tomllib

MAX_BYTES = 4 << 20  # of a file; nobody types more


def is_printable(value: Any) -> bool:
    """Return whether a value is text without control characters, which terminals would obey."""
    return isinstance(value, str) and not any(unicodedata.category(letter) == "Cc" for letter in value)


def read_text(path: Path, what: str) -> str:
    r"""Return the text of a file in UTF-8, with or without a byte order mark, its lines ended by \n.

    Raises UsageError, which calls the file `what`, when it cannot be read, is too large or is not in UTF-8.
    """
    with reading(path, UsageError), path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UsageError(f"The {what} {path} is larger than {MAX_BYTES >> 20} MiB; name the right file.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The {what} {path} is not text in UTF-8: byte {error.start} is {content[error.start]:#04x}. Save it as "
            "UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises UsageError as `read_text` does, and when it is not valid TOML."""
    return parse_toml(read_text(path, what), f"The {what} {path}")


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return the tables of a TOML text. Raises UsageError that begins with `name` when it is not valid TOML."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise UsageError(f"{name} is not valid TOML: it nests too deeply.") from error
    except ValueError as error:  # also a number of more digits than Python reads
        raise UsageError(f"{name} is not valid TOML: {error}.") from error
