"""Throw damaged input at the product for as long as one likes: python scripts/fuzz.py --seconds 3600 [--jobs 2].

Each case is made from the seed and its number, and runs in a process of its own with bounded memory and time. A finding
is an exception that is no EdgeDistillError, a death by a signal, an exit code that the command does not have, a case
that takes too long, a file written outside the case's folder, or a file from outside that shows up in what was written.
The smallest case of each finding is kept. Ends with 1 if anything was found.

    python scripts/fuzz.py --seconds 60 --seed 7 --kind images   one kind alone
    python scripts/fuzz.py --seed 7 --case 1234                  one case again, here, with its traceback
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from random import Random

sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))  # the sound files that are damaged

from fuzzing.kind import Kind
from fuzzing.kinds import KINDS, build_samples
from fuzzing.running import Campaign, random_of, run_campaign


def main() -> int:
    """Fuzz and return the exit code."""
    flags = _parse()
    chosen = [kind for kind in KINDS if flags.kind in (None, kind.name)]
    with tempfile.TemporaryDirectory(prefix="edgedistill-fuzz-") as scratch:
        samples = build_samples(Path(scratch) / "samples", chosen)
        if flags.case is not None:
            return _repeat(flags.seed, flags.case, chosen, samples, Path(scratch))
        campaign = Campaign(
            kinds=chosen,
            samples=samples,
            seed=flags.seed,
            seconds=flags.seconds,
            limit_s=flags.limit_s,
            memory_bytes=flags.memory_mb << 20,
            keep=flags.keep,
        )
        counts, findings = run_campaign(campaign, flags.jobs, Path(scratch))
    for finding in sorted(findings, key=lambda each: each.place):
        print(f"{finding.kind}: {finding.place}, {finding.count} times, kept in {finding.kept}\n{finding.story}")
    for name, count in sorted(counts.items()):
        found = [finding for finding in findings if finding.kind == name]
        print(f"{name:10} {count:8} cases {len(found):4} findings")
    print(f"{'together':10} {sum(counts.values()):8} cases {len(findings):4} findings, seed {flags.seed}")
    return 1 if findings else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="of all cases")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="one kind of input alone")
    parser.add_argument("--case", type=int, help="run this case again, in this process")
    parser.add_argument("--limit-s", type=float, default=60.0, help="a case that takes longer hangs")
    parser.add_argument("--memory-mb", type=int, default=4096, help="what a case may use beyond what it starts with")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where the smallest cases are kept")
    return parser.parse_args()


def _repeat(seed: int, case: int, kinds: list[Kind], samples: Path, scratch: Path) -> int:
    """Run one case in this process; its exception is not caught."""
    random = random_of(seed, case)
    kind = _drawn(kinds, random)
    folder = scratch / "case"
    folder.mkdir()
    kind.make(random, samples, folder)
    print(f"{kind.name}: {sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))}", file=sys.stderr)
    os.chdir(scratch)
    kind.examine(random, folder)
    return 0


def _drawn(kinds: list[Kind], random: Random) -> Kind:
    return random.choices(kinds, [kind.weight for kind in kinds])[0]


if __name__ == "__main__":
    sys.exit(main())
