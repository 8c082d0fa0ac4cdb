"""Feed damaged bundles to every reader for as long as one likes: python tests/fuzz_bundles.py SECONDS [--atheris].

With atheris (pip install atheris), the changes are led by which lines of the product they reach; without, hypothesis
draws them. Prints what crashed, and ends with 1 if anything did. Whatever is an EdgeDistillError is a refusal and fine.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

_SLOW_S = 10.0  # a reader that takes longer is a finding too


def main() -> int:
    """Fuzz and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--atheris", action="store_true", help="let coverage lead")
    given_flags = parser.parse_args()
    if given_flags.atheris:
        import atheris

        with atheris.instrument_imports(include=["edgedistill_deploy"]):
            import reference.hostile_bundles
    else:
        import reference.hostile_bundles
    with tempfile.TemporaryDirectory() as scratch:
        findings: dict[str, str] = {}
        sound = reference.hostile_bundles.write_full_bundle(Path(scratch) / "sound")
        files = sorted(each for each in sound.rglob("*") if each.is_file())
        fuzzed = _fuzzed_by(reference.hostile_bundles, sound, Path(scratch) / "fuzzed", findings)
        until = time.monotonic() + given_flags.seconds
        if given_flags.atheris:
            _by_atheris(fuzzed, files, Path(scratch) / "corpus", until, lambda count: _told(findings, count))

        def one(draw: Any) -> None:
            path = draw(st.sampled_from(files))
            fuzzed(path, _drawn_by(reference.hostile_bundles, path, draw))

        return _told(findings, _by_hypothesis(one, until))


def _told(findings: dict[str, str], count: int) -> int:
    for place, story in findings.items():
        print(f"{place}\n{story}")
    print(f"{count} bundles, {len(findings)} findings")
    return 1 if findings else 0


def _fuzzed_by(hostile: Any, sound: Path, folder: Path, findings: dict[str, str]) -> Callable[[Path, bytes], None]:
    """Return the function that replaces a file of the sound bundle, reads everything, and notes what crashed."""

    def fuzzed(path: Path, content: bytes) -> None:
        hostile.copy_of(sound, folder)
        name = path.relative_to(sound)
        (folder / name).write_bytes(content)
        hostile.register_anew(folder)
        began = time.monotonic()
        try:
            hostile.examine(folder)
        except Exception as error:  # noqa: BLE001  # any exception is what we look for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            findings.setdefault(
                f"{type(error).__name__} at {frame.filename}:{frame.lineno}", f"{name}: {traceback.format_exc()}"
            )
        if time.monotonic() - began > _SLOW_S:
            findings.setdefault(f"slow: {name}", f"{time.monotonic() - began:.0f} s")

    return fuzzed


def _drawn_by(hostile: Any, path: Path, draw: Any) -> bytes:
    """Return the content of a file with a change."""
    if path.suffix == ".json" and draw(st.booleans()):
        return json.dumps(hostile.changed_json(json.loads(path.read_text()), draw)).encode()
    changed: bytes = hostile.changed_bytes(path.read_bytes(), draw)
    return changed


def _by_hypothesis(one: Callable[[Any], None], until: float) -> int:
    count = 0

    @seed(time.time_ns())
    @settings(max_examples=10**9, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        nonlocal count
        if time.monotonic() > until:
            raise KeyboardInterrupt
        one(data.draw)
        count += 1

    with contextlib.suppress(KeyboardInterrupt):
        run()
    return count


def _by_atheris(
    fuzzed: Callable[[Path, bytes], None], files: list[Path], corpus: Path, until: float, finish: Callable[[int], int]
) -> None:
    """Let libFuzzer change whole files: an input is the number of a file and its content. The process ends here."""
    import atheris

    corpus.mkdir()
    for index, path in enumerate(files):
        (corpus / f"{index}").write_bytes(bytes([index]) + path.read_bytes())
    count = 0

    def run(content: bytes) -> None:
        nonlocal count
        if time.monotonic() > until:
            code = finish(count)
            sys.stdout.flush()
            os._exit(code)
        if content:
            fuzzed(files[content[0] % len(files)], content[1:])
            count += 1

    atheris.Setup([sys.argv[0], "-max_len=200000", "-verbosity=0", str(corpus)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
