"""Text that people write: UTF-8 or UTF-16 within limits, and TOML."""

import codecs
import re
import sys
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import UsageError, reading

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10 has no TOML reader of its own
    import tomli as tomllib

MAX_BYTES = 4 << 20  # of a file; nobody types more


def read_text(path: Path, what: str, most_bytes: int = MAX_BYTES) -> str:
    r"""Return the text of a file, its lines ended by \n: UTF-8, or UTF-16 that begins with its byte order mark.

    Raises UsageError, which calls the file `what`, when it cannot be read, is too large or is in another encoding; the
    message names the line.
    """
    with reading(path, UsageError), path.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise UsageError(f"The {what} {path} is larger than {most_bytes >> 20} MiB; name the right file.")
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"The {what} {path} is not text in UTF-8: line {line}, byte {error.start} is {content[error.start]:#04x}. "
            "Save it as UTF-8."
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
        raise UsageError(f"{name} is not valid TOML: {error}.{_explain_backslash(text, str(error))}") from error


def _explain_backslash(text: str, problem: str) -> str:
    r"""Say how a path of Windows is written, if the line of the problem has one: "C:\photos" is not what it seems."""
    place = re.search(r"at line (\d+)", problem)
    line = text.split("\n")[int(place[1]) - 1] if place else ""
    if '"' not in line or "\\" not in line:
        return ""
    return r" In double quotes a backslash begins an escape; write a path in single quotes, such as 'C:\photos'."
