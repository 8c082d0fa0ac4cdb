"""Runs the cases, each in a forked process with bounded memory and time, and keeps the smallest of each finding."""

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.kind import Kind, Left
from fuzzing.watching import Outside, find_secret

_STORY_LENGTH = 3000  # of the end of a traceback
_FINE = b"fine"  # what a case tells that raised nothing
_OURS = ("edgedistill", "edgedistill_cli", "edgedistill_deploy", "edgedistill_calibration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What all jobs share; `memory_bytes` is what a case may use beyond what it starts with."""

    kinds: Sequence[Kind]
    samples: Path
    seed: int
    seconds: float
    limit_s: float
    memory_bytes: int
    keep: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault: the kind of input, where it is, the story, how often, and the smallest case with its size in bytes."""

    kind: str
    place: str
    story: str
    case: int
    size: int
    kept: str
    count: int = 1


def random_of(seed: int, case: int) -> Random:
    """Return the source of all decisions of a case."""
    return Random(f"{seed}/{case}")


def run_campaign(campaign: Campaign, jobs: int, scratch: Path) -> tuple[Counter[str], list[Finding]]:
    """Run the cases in so many jobs, and return the number of cases by kind, and the findings."""
    context = get_context("fork")  # a new process would load the libraries again
    workers = [context.Process(target=_work, args=(campaign, job, jobs, scratch / f"job{job}")) for job in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    counts: Counter[str] = Counter()
    found: dict[tuple[str, str], Finding] = {}
    for job in range(jobs):
        told = json.loads((scratch / f"job{job}" / "told.json").read_text())
        counts.update(told["counts"])
        for record in told["findings"]:
            _add(found, Finding(**record))
    return counts, list(found.values())


def _add(found: dict[tuple[str, str], Finding], new: Finding) -> None:
    """Count a finding; the smaller case stays and the other's folder goes."""
    old = found.get((new.kind, new.place))
    if old is None:
        found[new.kind, new.place] = new
        return
    small, large = sorted((old, new), key=lambda each: each.size)
    if large.kept != small.kept:
        shutil.rmtree(large.kept, ignore_errors=True)
    found[new.kind, new.place] = replace(small, count=old.count + new.count)


def _work(campaign: Campaign, job: int, jobs: int, scratch: Path) -> None:
    """Run every `jobs`-th case until the time is over, and tell what was found in told.json."""
    outside = Outside(scratch / "outside")
    counts: Counter[str] = Counter()
    found: dict[tuple[str, str], Finding] = {}
    until, case = time.monotonic() + campaign.seconds, job
    while time.monotonic() < until:
        kind, faults = _run_case(campaign, case, scratch / "case", outside)
        counts[kind.name] += 1
        for place, story in faults:
            _add(found, _kept(campaign, kind, place, story, case, scratch / "case"))
        case += jobs
    told = {"counts": counts, "findings": [asdict(each) for each in found.values()]}
    (scratch / "told.json").write_text(json.dumps(told))


def _run_case(campaign: Campaign, case: int, folder: Path, outside: Outside) -> tuple[Kind, list[tuple[str, str]]]:
    """Run one case and return its kind, and the place and story of each fault."""
    random = random_of(campaign.seed, case)
    kind = random.choices(campaign.kinds, [each.weight for each in campaign.kinds])[0]
    _remove(folder)
    folder.mkdir(parents=True)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_child(campaign, kind, random, folder, outside, writer)
    os.close(writer)
    faults = list(_await(child, reader, campaign.limit_s))
    if changed := outside.changes():
        faults.append((f"writes outside: {changed[0]}", f"changed: {changed}"))
        for left in outside.temporary.iterdir():
            _remove(left)
        outside.changes()
    if leaked := find_secret(folder):
        faults.append((f"reads outside: {leaked[0]}", f"holds content from outside: {leaked}"))
    return kind, faults


def _be_child(campaign: Campaign, kind: Kind, random: Random, folder: Path, outside: Outside, writer: int) -> None:
    """Make the case and examine it, tell an exception, and end; this never returns."""
    try:
        os.setsid()
        os.environ.update(outside.variables())
        os.chdir(outside.here)
        _silence(folder.parent / "output.txt")
        kind.make(random, campaign.samples, folder)
        allowed = _used_bytes() + campaign.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        kind.examine(random, folder)
        os.write(writer, _FINE)
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is what we look for
        place, story = _place(error), "".join(traceback.format_exception(error))[-_STORY_LENGTH:]
        with contextlib.suppress(OSError):
            os.write(writer, json.dumps([place, story]).encode())
    os._exit(0)


def _silence(path: Path) -> None:
    stream = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)


def _used_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _place(error: BaseException) -> str:
    """Return the kind of an exception and the last line of the product that it came through."""
    if isinstance(error, Left):
        return str(error).splitlines()[0][:200]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(f"/{name}/" in frame.filename for name in _OURS)] or frames
    name = ours[-1].filename.rsplit("/edgedistill", 1)[-1]
    return f"{type(error).__name__} at {name}:{ours[-1].lineno}"


def _await(child: int, reader: int, limit_s: float) -> Any:
    """Yield the fault of a child: what it told, its death by a signal, or that it did not end in time."""
    told, until, hung = b"", time.monotonic() + limit_s, False
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(reader, 1 << 16) if ready else b""
        told += piece
        if not piece:
            hung = not ready
            break
    os.close(reader)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started, and itself if it hangs
    _, status = os.waitpid(child, 0)
    if hung:
        yield "hangs", f"took more than {limit_s:.0f} s"
    elif not told:
        ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"code {status >> 8}"
        yield f"ends by {ended}", "no traceback"
    elif told != _FINE:
        yield tuple(json.loads(told))


def _kept(campaign: Campaign, kind: Kind, place: str, story: str, case: int, folder: Path) -> Finding:
    """Copy the folder of a case to where findings are kept."""
    kept = (campaign.keep / f"{kind.name}-{campaign.seed}-{case}").absolute()
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept, symlinks=True, ignore=_without_content)
    size = sum(path.lstat().st_size for path in kept.rglob("*"))
    (kept / "finding.txt").write_text(f"{place}\n{' '.join(sys.argv)}\n{story}\n")
    return Finding(kind=kind.name, place=place, story=story, case=case, size=size, kept=str(kept))


def _without_content(folder: str, names: list[str]) -> list[str]:
    """Return what cannot be copied: pipes, devices and sockets."""
    paths = (Path(folder, name) for name in names)
    return [path.name for path in paths if not (path.is_symlink() or path.is_file() or path.is_dir())]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
