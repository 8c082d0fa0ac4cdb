"""`snippet`: a small program for one bundle."""

import shlex
from pathlib import Path
from typing import Annotated

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

Language = Annotated[str, flag("--language", "NAME", "The program's language: python, js or cpp.")]
Out = Annotated[Path | None, flag("--out", "DIR", "Where it goes; BUNDLE-LANGUAGE beside the bundle by default.")]
Precision = Annotated[str | None, flag("--precision", "P", "fp32, fp16 or int8; the recommended by default.")]


def snippet(
    bundle: options.BundlePath,
    *,
    language: Language = "python",
    out: Out = None,
    precision: Precision = None,
    console: Console,
) -> None:
    """Write a small program that asks this expert without EdgeDistill, and the answers that it must give."""
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.integration.snippet import LANGUAGES, write_snippet

    place = out or bundle.resolve().parent / f"{bundle.resolve().name}-{language}"
    written = write_snippet(open_bundle(bundle, verify=False), language, place, precision)
    console.emit(
        {
            "kind": "snippet",
            "schema": 1,
            "path": str(written.folder),
            "program": str(written.program),
            "language": language,
            "precision": written.precision,
            "files": list(written.files),
        }
    )
    console.result(f"{written.program}: asks the {written.precision} expert.")
    console.say(f"Try it: cd {shlex.quote(str(written.folder))} && {LANGUAGES[language].check}")
