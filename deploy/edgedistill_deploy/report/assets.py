"""The page's style sheet and script, and the policy that allows these two and nothing else."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """The text of the style sheet and of the script, and the Content-Security-Policy that names their hashes."""

    style: str
    script: str
    policy: str


def read_assets() -> Assets:
    """Read the style sheet and the script. The page's `<style>` and `<script>` must hold exactly these texts."""
    style = "".join(_read(name) for name in ("report.css", "content.css"))
    script = _read("report.js")
    rules: Mapping[str, str] = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return Assets(style=style, script=script, policy="; ".join(f"{name} {allowed}" for name, allowed in rules.items()))


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
