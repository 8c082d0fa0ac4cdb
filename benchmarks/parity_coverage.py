"""How often the interval of the accuracy drop covers the truth, and how often a candidate at the limit is let through.

Images are drawn in pairs (teacher right, candidate right) with known rates. For every size and true drop the share of
simulated experiments is counted whose interval contains the true drop, and the share of each verdict. At a true drop
equal to the limit, "pass" is the error that matters: it should stay near (1 - confidence) / 2.

Where fewer than `INFORMATIVE` images are expected to be judged differently, counts are so few that no interval covers
with just 95 %: the next larger set of counts left out would cover with less. The score interval errs on the safe side
there and covers with up to 100 %. The summary keeps these cells apart.

The rule about dead classes is simulated beside it: how often it fails a sound expert, one that gets each class right as
often as its teacher does and errs on other images, and how often it finds one dead class.

    python benchmarks/parity_coverage.py --reps 20000 --json coverage.jsonl
"""

import argparse
import functools
import json
from collections import Counter
from pathlib import Path

import numpy as np

from edgedistill_deploy.statistics.paired import drop_interval, holm, mcnemar_p, non_inferiority

SIZES = (20, 50, 100, 200, 500, 1000, 3000)
DROPS = (0.0, 0.01, 0.02, 0.05)
GAINED_RATES = (0.002, 0.01, 0.05)
INFORMATIVE = 5  # images expected to be judged differently
WANTED = (0.93, 0.97)
MAX_FALSE_PASS = 0.05
CLASS_COUNTS = (2, 5, 10, 30, 100)
CLASS_SIZES = (5, 10, 20, 40, 100)
CLASS_RATES = (0.05, 0.2, 0.375, 0.6, 0.9)  # of the images of each class that the teacher gets right

cached_interval = functools.lru_cache(maxsize=None)(drop_interval)
cached_p = functools.lru_cache(maxsize=None)(mcnemar_p)


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


def simulate_classes(
    class_count: int, size: int, rate: float, dead_count: int, confidence: float, reps: int, seed: int
) -> dict[str, float]:
    """Return the shares of experts that have a dead class, and of those that may have one.

    The teacher gets each of `size` images of a class right with chance `rate`. So does the expert, independently, but
    for the first `dead_count` classes, of which it gets none right.
    """
    random, verdicts = np.random.default_rng(seed), Counter[str]()
    both, one, none = rate * rate, rate * (1 - rate), (1 - rate) ** 2
    draws = random.multinomial(size, (both, one, one, none), (reps, class_count))
    draws[:, :dead_count] = random.multinomial(size, (0.0, rate, 0.0, 1 - rate), (reps, dead_count))
    for expert in draws[:, :, :3].tolist():
        verdicts[class_verdict(expert, 1 - confidence)] += 1
    return {
        "class_count": class_count,
        "size": size,
        "rate": rate,
        "dead_count": dead_count,
        "confidence": confidence,
        "reps": reps,
        "seed": seed,
        **{name: verdicts[name] / reps for name in ("fail", "inconclusive")},
    }


def class_verdict(classes: list[list[int]], level: float) -> str:
    """Judge one expert by (both right, only the teacher, only the expert) of each class, as `judge_classes` does."""
    gone = [index for index, (both, lost, gained) in enumerate(classes) if both + gained == 0 < lost]
    if not gone:
        return "pass"
    adjusted = holm([cached_p(lost, gained) for _, lost, gained in classes])
    return "fail" if any(adjusted[index] < level for index in gone) else "inconclusive"


def class_table(rows: list[dict[str, float]]) -> str:
    """Return a row for each number of classes and images: a sound expert, then one with a dead class."""
    head = "| classes | images of each | teacher right | sound: fail | sound: inconclusive | one dead: fail |"
    cells = {(row["class_count"], row["size"], row["rate"], row["dead_count"]): row for row in rows}
    lines = [head, "|---|---|---|---|---|---|"]
    lines += [
        f"| {count} | {size} | {rate:.3f} | {cells[count, size, rate, 0]['fail']:.4f} | "
        f"{cells[count, size, rate, 0]['inconclusive']:.4f} | {cells[count, size, rate, 1]['fail']:.4f} |"
        for count, size, rate, dead in cells
        if dead == 0
    ]
    return "\n".join(lines)


def class_summary(rows: list[dict[str, float]]) -> str:
    """Say how often a sound expert is failed at most, and how often it is left open."""
    sound = [row for row in rows if row["dead_count"] == 0]
    lines = [f"{_cells(sound)}: a sound expert fails by a dead class in at most {max(r['fail'] for r in sound):.2%}."]
    for size in CLASS_SIZES:
        found = [row["inconclusive"] for row in sound if row["size"] == size and row["rate"] >= 0.6]
        if found:
            lines.append(f"{size} images of each class, teacher at least 60 % right: open in at most {max(found):.1%}.")
    return "\n".join(lines)


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
    parser.add_argument("--class-reps", type=int, default=2_000, help="repetitions of each cell about dead classes")
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
    class_rows = [
        simulate_classes(count, size, rate, dead, args.confidence, args.class_reps, args.seed)
        for count in CLASS_COUNTS
        for size in CLASS_SIZES
        for rate in CLASS_RATES
        for dead in (0, 1)
    ]
    print(table(rows), summary(rows), class_table(class_rows), class_summary(class_rows), sep="\n\n")
    lines = "\n".join(json.dumps(row) for row in rows + class_rows)
    if args.json:
        args.json.write_text(lines + "\n", encoding="utf-8")
    else:
        print(lines)


if __name__ == "__main__":
    main()
