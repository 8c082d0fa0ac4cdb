"""Is our p50 that of a bare loop around ONNX Runtime? Both are measured in turns, so that a busy machine slows both
alike.

    python benchmarks/latency_check.py BUNDLE [--precision fp32] [--rounds 20] [--sets 5]

Every set has two fresh processes: one measures as `edgedistill profile` does, the other is the few lines of
`BARE_LOOP`, which share no code with it. Where `onnxruntime_perf_test` is on the PATH (it is no part of the Python
packages), it is run as a third. Prints the ratio of the p50s, ours over the bare loop's, with its interval, and whether
it lies within 3 % of 1.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.latency.interleaved import ratio_interval
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.profiling._fresh_process import FreshProcess

if TYPE_CHECKING:
    from typing_extensions import Self

MARGIN = 0.03

BARE_LOOP = """
import sys, time
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
if "int8" in sys.argv[1]:
    from edgedistill_deploy.runtimes.int8_kernels import set_exact_int8
    set_exact_int8(onnxruntime, options)
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {"image": numpy.load(sys.argv[2])}
for _ in range(50):
    session.run(None, feeds)
for line in sys.stdin:
    times = []
    until = time.perf_counter() + float(line)
    while time.perf_counter() < until or len(times) < 20:
        began = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - began)
    print(1000 * sorted(times)[len(times) // 2], flush=True)
"""


class BareLoop:
    """A process that runs `BARE_LOOP`; a context manager."""

    def __init__(self, model: Path, batch: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", BARE_LOOP, str(model), str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def p50_ms(self, seconds: float) -> float:
        """Run for so many seconds and return the median time."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def check(bundle: Bundle, precision: str, *, rounds: int, sets: int, seconds: float, seed: int = 0) -> dict[str, Any]:
    """Measure both in turns and return the ratio of the p50s, its interval, and the ratio of every set."""
    model = bundle.file(model_role(precision))
    images, _ = read_golden(bundle.file("golden"))
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        batch = Path(scratch) / "batch.npy"
        np.save(batch, np.ascontiguousarray(images[:1]))
        p50s = [_one_set(bundle, precision, model, batch, rounds, seconds, random) for _ in range(sets)]
        reference = perf_test_ms(model, scratch)
    ours, bare = np.concatenate(p50s).T
    ratio, interval = ratio_interval(ours, bare, seed=seed)
    return {
        "precision": precision,
        "ours_p50_ms": float(np.median(ours)),
        "bare_p50_ms": float(np.median(bare)),
        "ratio": ratio,
        "interval": list(interval),
        "set_ratios": [float(np.median(part[:, 0]) / np.median(part[:, 1])) for part in p50s],
        "perf_test_p50_ms": reference,
        "within": 1 - MARGIN <= ratio <= 1 + MARGIN,
    }


def _one_set(
    bundle: Bundle, precision: str, model: Path, batch: Path, rounds: int, seconds: float, random: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the p50s in ms, (rounds, 2), of two fresh processes: ours, and the bare loop."""
    config = asdict(LatencyConfig(warmup_s=0.0, warmup_runs=20, duration_s=seconds, min_runs=20))
    chosen = {"runtime": "onnxruntime", "precision": precision, "provider": "cpu", "threads": 1}
    found = np.empty((rounds, 2))
    with FreshProcess() as process, BareLoop(model, batch) as bare:
        process.ask("open", folder=str(bundle.path.resolve()), model=chosen, batch_size=1)
        measures = (lambda: float(process.ask("measure", config=config)["p50_ms"]), lambda: bare.p50_ms(seconds))
        for row in found:
            for index in random.permutation(2):
                row[index] = measures[index]()
    return found


def perf_test_ms(model: Path, scratch: str) -> float | None:
    """Return the P50 in ms that onnxruntime_perf_test reports for batches of one; None where it is not installed."""
    program = shutil.which("onnxruntime_perf_test")
    if program is None:
        return None
    arguments = ["-I", "-x", "1", "-y", "1", "-m", "times", "-r", "500", "-f", "batch:1", str(model)]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=scratch)
    told = re.search(r"P50 Latency: ([\d.e-]+)", done.stdout)
    return 1000 * float(told.group(1)) if told else None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2)
    given = parser.parse_args(argv)
    found = check(
        open_bundle(given.bundle), given.precision, rounds=given.rounds, sets=given.sets, seconds=given.seconds
    )
    print(json.dumps(found, indent=2))
    low, high = found["interval"]
    print(
        f"p50 of profile / p50 of a bare loop: {found['ratio']:.4f} [{low:.4f}, {high:.4f}]; within 3 %: "
        f"{'yes' if found['within'] else 'NO'}"
    )
    return 0 if found["within"] else 1


if __name__ == "__main__":
    sys.exit(main())
