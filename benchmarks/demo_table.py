"""The README's table: the demo with several seeds, and beside it the student trained on logits alone.

    python benchmarks/demo_table.py --seeds 3

Each build is an `edgedistill build` of its own, with the demo's settings; records go to
`benchmarks/results/demo.jsonl`, and a seed that stands there already is not run again. Accuracies are on the test
images, drops against the teacher on the same images.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "demo.jsonl"
COMMAND = (sys.executable, "-c", "from edgedistill_cli.app import main; main()")
VARIANTS = {"SubDistill": (), "logits only": ("--lambda-layer", "0")}


def run(variant: str, seed: int, folder: Path) -> dict[str, Any]:
    settings = resources.files("edgedistill_cli").joinpath("demo.toml")
    arguments = ["build", "--config", str(settings), "--out", str(folder), "--seed", str(seed), "--quiet", "--json"]
    started = time.monotonic()
    done = subprocess.run([*COMMAND, *arguments, *VARIANTS[variant]], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3, 4):
        raise SystemExit(done.stderr)
    seconds = time.monotonic() - started
    records = {kind: read_records(folder / kind) for kind in ("parity", "latency")}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        "variant": variant,
        "seed": seed,
        "seconds": round(seconds, 1),
        "machine": f"{platform.machine()}, {records['latency']['fp32']['device']['cpu']}",
        "validation_accuracy": manifest["distillation"]["validation_accuracy"],
        "models": {
            precision: {
                "accuracy": parity["accuracy"]["candidate"],
                "drop": parity["accuracy"]["drop"],
                "interval": parity["accuracy"]["interval"],
                "agreement": parity["agreement"],
                "verdict": parity["verdict"],
                "p50_ms": records["latency"][precision]["p50_ms"],
                "p99_ms": records["latency"][precision]["p99_ms"],
                "bytes": records["latency"][precision]["model_bytes"],
            }
            for precision, parity in records["parity"].items()
        },
    }


def read_records(folder: Path) -> dict[str, Any]:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return {record["precision"]: record for record in records}


def spread(values: list[float], scale: float, digits: int) -> str:
    mean = statistics.mean(values) * scale
    deviation = statistics.stdev(values) * scale if len(values) > 1 else 0.0
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{len({row['seed'] for row in rows})} seeds, {rows[0]['machine']}; mean ± sample standard deviation\n")
    print("| model | file kB | test accuracy % | drop, points | agreement % | p50 ms | p99 ms | verdicts |")
    print("|---|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        chosen = [row["models"] for row in rows if row["variant"] == variant]
        for precision in ("teacher", "fp32", "int8"):
            if not chosen or (precision == "teacher" and variant != "SubDistill"):
                continue
            models = [each[precision] for each in chosen]
            name = "teacher, fp32" if precision == "teacher" else f"expert, {variant}, {precision}"
            verdicts = "baseline" if precision == "teacher" else ", ".join(model["verdict"] for model in models)
            cells = [
                f"{models[0]['bytes'] / 1000:.0f}",
                spread([model["accuracy"] for model in models], 100, 2),
                spread([model["drop"] for model in models], 100, 2),
                spread([model["agreement"] for model in models], 100, 1),
                spread([model["p50_ms"] for model in models], 1, 3),
                spread([model["p99_ms"] for model in models], 1, 3),
                verdicts,
            ]
            print(f"| {name} | {' | '.join(cells)} |")
    seconds = [row["seconds"] for row in rows if row["variant"] == "SubDistill"]
    print(f"\nwhole build: {spread(seconds, 1, 0)} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []
    for seed in range(seeds):
        for variant in VARIANTS:
            if not any((row["variant"], row["seed"]) == (variant, seed) for row in rows):
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(run(variant, seed, Path(folder) / "run"))
                with RESULTS.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
