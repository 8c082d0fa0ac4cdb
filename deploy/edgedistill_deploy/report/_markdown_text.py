"""Any text as one line of Markdown."""

import re

from edgedistill_deploy.files.names import printable

LONGEST = 500  # characters of a sentence; class names in it may have any length
# Characters with a meaning in Markdown or in HTML. "@" and "#" refer to people and issues.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~@#&!$])")


def escape_markdown(text: str) -> str:
    """Return any text as one line of Markdown that shows it unchanged; what is longer than `LONGEST` is cut."""
    line = " ".join(printable(text, keep="\n\t").split())
    cut = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
    return _SPECIAL.sub(r"\\\1", cut)
