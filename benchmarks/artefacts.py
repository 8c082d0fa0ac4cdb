"""What each artefact of an expert is worth: size, accuracy, agreement and latency of fp32, fp16 and of INT8 three ways.

    python benchmarks/artefacts.py --seeds 1 --work artefacts-work

Three experts on the embedded digits: the demo's ResNet; a depthwise MobileNetV4, trained on a fifth of the images; and
the same MobileNetV4 with one channel of one stage scaled up (and its readers down by as much: the same function in
float), which is the weakness that depthwise networks are known for (Nagel et al. 2019) in its pure form. Each is
calibrated three ways: as it comes (`--max-drop 1`), with nodes left in float until no more than `MAX_DROP` is lost, and
recovered. Records go to `benchmarks/results/artefacts.jsonl`, one a variant, and what stands there is not run again; a
stopped run goes on in `--work`. Accuracy and agreement with the teacher are on the test images, which nothing was
trained, calibrated or chosen on.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from edgedistill_deploy.bundle.folder import open_bundle

RESULTS = Path(__file__).parent / "results" / "artefacts.jsonl"
COMMAND = (sys.executable, "-c", "from edgedistill_cli.app import main; main()")
DIGITS = resources.files("edgedistill").joinpath("embedded", "digits.npz")
# Of training and validation images of a class that the depthwise student is distilled on, and its epochs.
TRAIN_PER_CLASS, VALIDATION_PER_CLASS, EPOCHS = 200, 60, 16
RECOVERY_EPOCHS = 6
MAX_DROP = 0.002
FACTOR = 64.0
SECONDS = "2"
GATE_CODES = (0, 3, 4)
# The demo, and the depthwise student as it is and with a channel that INT8 cannot bear.
EXPERTS = ("demo", "mobilenetv4", "mobilenetv4-planted")
STUDENTS = {"mobilenetv4": "timm:mobilenetv4_conv_small_035"}
# The blocks that share a residual stream, the first of them only writing, and the block behind that only reads.
STREAM, BEHIND = tuple(f"blocks.2.{place}" for place in range(6)), "blocks.3.0"
VARIANTS = {
    "as it comes": ("--max-drop", "1", "--ledger-nodes", "0"),
    "nodes in float": ("--max-drop", str(MAX_DROP), "--no-fp16"),
    "recovered": ("--max-drop", "1", "--ledger-nodes", "0", "--no-fp16", "--recover", str(RECOVERY_EPOCHS)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One expert with one seed."""

    expert: str
    seed: int
    work: Path

    @property
    def folder(self) -> Path:
        """The run that is distilled and exported."""
        return self.work / f"{self.expert}-{self.seed}"

    def variant(self, name: str) -> Path:
        """A copy of it, calibrated in one of the ways."""
        return self.work / f"{self.expert}-{self.seed}-{name.replace(' ', '-')}"


def edgedistill(*arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Run a command as a user would; stop when it fails."""
    print("edgedistill", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run(
        [*COMMAND, *arguments, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in allowed:
        raise SystemExit(done.stderr)


def digits_cut(work: Path, seed: int) -> Path:
    """Write a fifth of the digits' training and validation images, and all their test images."""
    path = work / f"digits-{seed}.npz"
    if path.is_file():
        return path
    generator = np.random.default_rng(seed)
    with DIGITS.open("rb") as stream, np.load(stream) as source:
        images, labels, split, names = (source[key] for key in ("images", "labels", "split", "class_names"))
    wanted = {0: TRAIN_PER_CLASS, 1: VALIDATION_PER_CLASS, 2: len(labels)}
    rows = [
        generator.permutation(np.flatnonzero((split == part) & (labels == label)))[:count]
        for part, count in wanted.items()
        for label in range(len(names))
    ]
    kept = np.sort(np.concatenate(rows))
    np.savez_compressed(path, images=images[kept], labels=labels[kept], split=split[kept], class_names=names)
    return path


def distil(job: Job) -> None:
    """Distil and export the expert, or copy the one whose channel is then planted."""
    if (job.folder / "model.fp32.onnx").is_file():
        return
    if job.expert.endswith("-planted"):
        shutil.copytree(job.work / f"mobilenetv4-{job.seed}", job.folder, dirs_exist_ok=True)
        plant(job.folder)
        edgedistill("export", str(job.folder))
        return
    settings = str(resources.files("edgedistill_cli").joinpath("demo.toml"))
    own = ["--config", settings, "--out", str(job.folder), "--seed", str(job.seed)]
    if job.expert in STUDENTS:
        own += ["--data", f"npz:{digits_cut(job.work, job.seed)}", "--student", STUDENTS[job.expert]]
        own += ["--student-width", "1", "--epochs", str(EPOCHS), "--teacher-cache", "4"]
    edgedistill("distill", *own)
    edgedistill("export", str(job.folder))


def plant(folder: Path) -> None:
    """Scale one channel of a residual stream up where it is written and down where it is read."""
    path = folder / "distill" / "student.safetensors"
    weights = load_file(path)
    for block in STREAM:
        for parameter in ("weight", "bias"):
            weights[f"{block}.pw_proj.bn.{parameter}"][0] *= FACTOR
    for block in (*STREAM[1:], BEHIND):
        depthwise = f"{block}.dw_start.conv.weight"
        if depthwise in weights:
            weights[depthwise][0] /= FACTOR
        else:
            weights[f"{block}.pw_exp.conv.weight"][:, 0] /= FACTOR
    save_file(weights, path)
    (folder / "model.fp32.onnx").unlink()
    open_bundle(folder, verify=False).with_file("student", path)


def measure(job: Job, name: str) -> dict[str, Any]:
    """Calibrate in one way, validate and profile; return the record."""
    folder = job.variant(name)
    if not folder.is_dir():
        shutil.copytree(job.folder, folder)
    edgedistill("calibrate", str(folder), *VARIANTS[name])
    edgedistill("validate", str(folder), allowed=GATE_CODES)
    edgedistill("profile", str(folder), "--duration", SECONDS, allowed=GATE_CODES)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    ledger = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    parity, latency = (records(folder / kind) for kind in ("parity", "latency"))
    return {
        "expert": job.expert,
        "seed": job.seed,
        "variant": name,
        "machine": f"{platform.machine()}, {latency['fp32']['device']['cpu']}",
        "readiness": {key: manifest["readiness"][key] for key in ("verdict", "fragile", "network_snr_db")},
        "recovery": manifest.get("recovery"),
        "recovered_kept": manifest["calibration"].get("recovery", {}).get("kept"),
        "steps": [
            {key: step.get(key) for key in ("stage", "accuracy", "agreement", "sqnr_db", "kept")}
            for step in ledger["steps"]
        ],
        "left_in_float": [
            each for step in ledger["steps"] if step["stage"] == "int8" for each in step.get("exclusions", [])
        ],
        "models": {
            precision: {
                "accuracy": record["accuracy"]["candidate"],
                "agreement": record["agreement"],
                "p50_ms": latency[precision]["p50_ms"],
                "bytes": latency[precision]["model_bytes"],
            }
            for precision, record in parity.items()
        },
    }


def records(folder: Path) -> dict[str, Any]:
    """Read the records of one kind by precision."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return {record["precision"]: record for record in read if record.get("batch_size", 1) == 1}


def table(rows: list[dict[str, Any]]) -> None:
    """Print the table of `docs/artefacts.md`."""
    print(f"{rows[0]['machine']}, one thread; means over the seeds, and ± the sample standard deviation\n")
    print("| expert (seeds) | model | file kB | test accuracy % | agreement with the teacher % | p50 ms |")
    print("|---|---|---|---|---|---|")
    for expert in EXPERTS:
        chosen = [row for row in rows if row["expert"] == expert]
        for label, precision, variant in lines(chosen):
            models = [row["models"][precision] for row in chosen if row["variant"] == variant]
            cells = [
                f"{statistics.mean(each['bytes'] for each in models) / 1000:.0f}",
                spread([each["accuracy"] for each in models], 100, 2),
                spread([each["agreement"] for each in models], 100, 1),
                spread([each["p50_ms"] for each in models], 1, 3),
            ]
            print(f"| {expert} ({len(models)}) | {label} | {' | '.join(cells)} |")


def lines(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Name what is in the table: label, precision, variant."""
    first = "as it comes"
    present = {row["variant"] for row in rows}
    floats = [(precision, precision, first) for precision in ("teacher", "fp32", "fp16")]
    int8 = [(f"int8, {variant}", "int8", variant) for variant in VARIANTS]
    return [each for each in (*floats, *int8) if each[2] in present]


def spread(values: list[float], scale: float, digits: int) -> str:
    """Write a mean, with its deviation where there is one."""
    mean = f"{statistics.mean(values) * scale:.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values) * scale:.{digits}f}"


def recorded() -> list[dict[str, Any]]:
    """Read what was measured before."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def each_missing(jobs: list[Job], act: Callable[[Job, str], dict[str, Any]]) -> None:
    """Run and record every variant that is not on record."""
    done = {(row["expert"], row["seed"], row["variant"]) for row in recorded()}
    for job in jobs:
        missing = [name for name in VARIANTS if (job.expert, job.seed, name) not in done]
        if missing:
            distil(job)
        for name in missing:
            row = act(job, name)
            with RESULTS.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--experts", default=",".join(EXPERTS))
    parser.add_argument("--work", type=Path, default=Path("artefacts-work"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    RESULTS.parent.mkdir(exist_ok=True)
    experts = arguments.experts.split(",")
    jobs = [Job(expert=expert, seed=seed, work=arguments.work) for seed in range(arguments.seeds) for expert in experts]
    each_missing(jobs, measure)
    table(recorded())


if __name__ == "__main__":
    main()
