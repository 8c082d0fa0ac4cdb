"""How often the interval of the accuracy drop covers the truth, and how often a candidate at the limit is let through.

Images are drawn in pairs (teacher right, candidate right) with known rates. For every size and true drop the share of
simulated experiments is counted whose interval contains the true drop, and the share of each verdict. At a true drop
equal to the limit, "pass" is the error that matters: it should stay near (1 - confidence) / 2.

Where fewer than `INFORMATIVE` images are expected to be judged differently, counts are so few that no interval covers
with just 95 %: the next larger set of counts left out would cover with less. The score interval errs on the safe side
there and covers with up to 100 %. The summary keeps these cells apart.

    python benchmarks/parity_coverage.py --reps 20000 --json coverage.jsonl
"""

import argparse
import functools
import json
from collections import Counter
from pathlib import Path

import numpy as np

from edgedistill_deploy.statistics.paired import drop_interval, non_inferiority

SIZES = (20, 50, 100, 200, 500, 1000, 3000)
DROPS = (0.0, 0.01, 0.02, 0.05)
GAINED_RATES = (0.002, 0.01, 0.05)
INFORMATIVE = 5  # images expected to be judged differently
WANTED = (0.93, 0.97)
MAX_FALSE_PASS = 0.05

cached_interval = functools.lru_cache(maxsize=None)(drop_interval)


def simulate(
    size: int, drop: float, gained_rate: float, limit: float, confidence: float, reps: int, seed: int
) -> dict[str, float]:
    rates = (drop + gained_rate, gained_rate, 1 - drop - 2 * gained_rate)
    draws = np.random.default_rng(seed).multinomial(size, rates, reps)[:, :2]
    covered, verdicts, width = 0, Counter[str](), 0.0
    for (lost, gained), count in Counter(map(tuple, draws.tolist())).items():
        low, high = cached_interval(lost, gained, size, confidence)
        covered += count * (low <= drop <= high)
        width += count * (high - low)
        verdicts[non_inferiority((low, high), limit)] += count
    return {
        "size": size,
        "drop": drop,
        "gained_rate": gained_rate,
        "expected_discordant": size * (rates[0] + rates[1]),
        "limit": limit,
        "confidence": confidence,
        "reps": reps,
        "seed": seed,
        "coverage": covered / reps,
        "mean_width": width / reps,
        **{name: verdicts[name] / reps for name in ("pass", "fail", "inconclusive")},
    }


def table(rows: list[dict[str, float]]) -> str:
    head = "| images | true drop | gained rate | discordant | coverage | mean width | pass | fail | inconclusive |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['size']} | {row['drop']:.2f} | {row['gained_rate']:.3f} | {row['expected_discordant']:.1f} | "
        f"{row['coverage']:.4f} | {row['mean_width']:.3f} | {row['pass']:.4f} | {row['fail']:.4f} | "
        f"{row['inconclusive']:.4f} |"
        for row in rows
    ]
    return "\n".join(lines)


def summary(rows: list[dict[str, float]]) -> str:
    """Say in which cells the coverage is as wanted, where it is larger and why, and how often a candidate at the limit
    passes."""
    informative = [row for row in rows if row["expected_discordant"] >= INFORMATIVE]
    sparse = [row for row in rows if row["expected_discordant"] < INFORMATIVE]
    at_limit = [row for row in rows if row["drop"] == row["limit"]]
    safe = "so few counts cannot give exactly the confidence asked for, and the interval errs on the safe side"
    lines = [
        f"{_cells(informative)} with at least {INFORMATIVE} discordant images expected: coverage {_span(informative)}.",
        f"{_cells(sparse)} with fewer: coverage {_span(sparse)}; {safe}.",
        f"{_cells(at_limit)} at the limit: passed wrongly in at most {max(row['pass'] for row in at_limit):.2%}.",
    ]
    return "\n".join(lines)


def shortcomings(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the cells that cover less, or with counts enough more, than wanted, or pass at the limit too often."""
    low, high = WANTED
    return [
        row
        for row in rows
        if row["coverage"] < low
        or (row["expected_discordant"] >= INFORMATIVE and row["coverage"] > high)
        or (row["drop"] == row["limit"] and row["pass"] > MAX_FALSE_PASS)
    ]


def _cells(rows: list[dict[str, float]]) -> str:
    return f"{len(rows)} cells"


def _span(rows: list[dict[str, float]]) -> str:
    coverages = [row["coverage"] for row in rows]
    return f"{min(coverages):.2%} to {max(coverages):.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=20_000)
    parser.add_argument("--limit", type=float, default=0.02)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write one JSON line per row to this file")
    args = parser.parse_args()
    rows = [
        simulate(size, drop, gained_rate, args.limit, args.confidence, args.reps, args.seed)
        for gained_rate in GAINED_RATES
        for drop in DROPS
        for size in SIZES
    ]
    print(table(rows), summary(rows), sep="\n\n")
    lines = "\n".join(json.dumps(row) for row in rows)
    if args.json:
        args.json.write_text(lines + "\n", encoding="utf-8")
    else:
        print(lines)


if __name__ == "__main__":
    main()
