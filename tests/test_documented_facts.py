"""A figure that the documentation and the code both state is the same in both."""

import json
import math
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgedistill.comparison.methods import METHODS
from edgedistill.comparison.plan import LAMBDAS
from edgedistill.config import LAMBDA_GRID, LAMBDA_SCHEDULES, LAYER_LOSSES, MIXED_PRECISIONS, PRESETS
from edgedistill.data.splits import TEST_FRACTION, VALIDATION_FRACTION
from edgedistill.distillation.teacher_cache import AUTO_BYTES, AUTO_VIEWS
from edgedistill.distillation.tuning import FEWEST_EPOCHS
from edgedistill.explanation.config import SHORTCUT_IMAGES, ExplainConfig
from edgedistill.explanation.flipping import patch_grid
from edgedistill.explanation.noise import LEVELS as NOISE_LEVELS
from edgedistill.explanation.shortcuts import criterion
from edgedistill.explanation.shortcuts.regions import grid_of
from edgedistill.export._onnx_checking import TOLERANCE
from edgedistill.export.bundle import GOLDEN_COUNT
from edgedistill.export.config import ExportConfig
from edgedistill.export.onnx_targets import IR_VERSIONS, TARGETS, USUAL_OPSET
from edgedistill.inspection.choosing import IMAGES
from edgedistill.inspection.config import InspectConfig
from edgedistill.networks.pairing import PAIR_COUNT
from edgedistill.planning.candidates import LEAST_MAP
from edgedistill.planning.widths import INSPECTED, INSPECTED_FOR
from edgedistill.quantisation import readiness
from edgedistill.quantisation.recovery import LEARNING_RATE_SHARE
from edgedistill.rejection.outside import MOST_IMAGES
from edgedistill_calibration import CalibrationConfig
from edgedistill_calibration.config import METHODS as CALIBRATION_METHODS
from edgedistill_calibration.config import SAMPLED_NODES
from edgedistill_calibration.dataset import FEW_IMAGES, MANY_IMAGES, MEASURED_PER_CLASS, NEEDED_PER_CLASS
from edgedistill_calibration.float16.conversion import QUANTISED_OPSET
from edgedistill_calibration.graphs.reading import GROUP
from edgedistill_calibration.int8 import device_nodes, exclusions
from edgedistill_calibration.judging import effort
from edgedistill_calibration.ranges.measurement import AVERAGING, FEWEST_COUNTED
from edgedistill_cli import app
from edgedistill_cli.bundles.profiling import SWEEP
from edgedistill_cli.exit_codes import InterruptedRunError, gate_code
from edgedistill_deploy.bundle import manifest, reference
from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.diagnosis import bisect
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.evaluation.figures import CALIBRATION_BINS
from edgedistill_deploy.files.json_text import MAX_DEPTH
from edgedistill_deploy.images.golden import TOLERANCES
from edgedistill_deploy.latency.end_to_end import JPEG_SIZE
from edgedistill_deploy.latency.interleaved import BLOCK_S, MARGIN
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.parity import flips, preprocess_drift
from edgedistill_deploy.parity.check import ParityLimits
from edgedistill_deploy.profiling.cold_start import REPEATS
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.records.decisions import INLINED
from edgedistill_deploy.records.parity import UNLABELLED_AGREEMENT
from edgedistill_deploy.records.reading import MAX_RECORD_BYTES, MAX_RECORDS
from edgedistill_deploy.remote.inventory import POWER_READERS, Device
from edgedistill_deploy.runtimes.engine_options import EngineOptions
from edgedistill_deploy.runtimes.int8_kernels import FIRST_VERSION
from edgedistill_deploy.runtimes.providers import PROVIDERS
from edgedistill_deploy.statistics.paired import images_to_decide

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))
WORDS = dict(
    enumerate(["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"])
)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def table(name: str, heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    first = re.escape(f"| {heading} |" if heading else "| |")
    found = re.search(rf"^{first}.*\n\|[-|]+\n((?:\|.*\n)+)", page(name), flags=re.MULTILINE)
    assert found, f"{name} has no table that begins with {heading}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]


def minimum(library: str) -> str:
    """Return the oldest version that pyproject.toml allows, wherever it names the library."""
    needs = [need for needs in PROJECT["optional-dependencies"].values() for need in needs]
    (version,) = {need.split(">=")[1] for need in needs if need.startswith(f"{library}>=")}
    return str(version)


def too_old() -> list[str]:
    """Return the releases of ONNX Runtime that do not read what is written by default."""
    return [name.split("-")[1] for name, target in TARGETS.items() if target.newest_opset < USUAL_OPSET]


def oldest_reader() -> str:
    """Return the oldest ONNX Runtime among the targets that reads what is written by default."""
    releases = [name.split("-")[1] for name in TARGETS if name.startswith("onnxruntime-")]
    reads = [
        release
        for release in releases
        if (target := TARGETS[f"onnxruntime-{release}"]).newest_opset >= USUAL_OPSET
        and target.newest_ir_version >= IR_VERSIONS[USUAL_OPSET]
    ]
    return min(reads, key=lambda release: int(release.split(".")[1]))


def percent(share: float) -> str:
    return f"{100 * share:.10g}"


EXPORT, CALIBRATE, LATENCY, INSPECT = ExportConfig(), CalibrationConfig(), LatencyConfig(), InspectConfig()
EXPLAIN = ExplainConfig()
PYTHON = PROJECT["requires-python"].removeprefix(">=")
VALIDATED = (1 - TEST_FRACTION) * VALIDATION_FRACTION
SPLITS = " / ".join(percent(share) for share in (1 - TEST_FRACTION - VALIDATED, VALIDATED, TEST_FRACTION))
MIB, GIB = 1 << 20, 1 << 30
# The page, a sentence of it with a group for what the code says too, and what the code says.
FACTS: tuple[tuple[str, str, object], ...] = (
    ("README.md", r"Python ([\d.]+) or newer", PYTHON),
    ("README.md", r"EdgeDistill needs ONNX Runtime ([\d.]+) or newer", minimum("onnxruntime")),
    ("README.md", r"written in ONNX opset (\d+)", USUAL_OPSET),
    ("README.md", r"and IR version (\d+);", IR_VERSIONS[USUAL_OPSET]),
    ("README.md", r"read them with ONNX Runtime ([\d.]+) or newer", oldest_reader()),
    ("README.md", r"is divided (\d+ / \d+ / \d+)", SPLITS),
    ("docs/devices.md", r"Python ([\d.]+) or newer", PYTHON),
    ("docs/devices.md", r"needs ([\d.]+) or newer", PYTHON),
    ("docs/export.md", r"the files have ONNX opset (\d+)", USUAL_OPSET),
    ("docs/export.md", r"except `onnxruntime-([\d.]+` and `-[\d.]+)`", "` and `-".join(too_old())),
    ("docs/export.md", r"single_file_megabytes = ([\d.]+)", EXPORT.single_file_megabytes),
    ("docs/export.md", r"torch on (\d+) real images", GOLDEN_COUNT),
    ("docs/export.md", r"more than a (\w+) of the largest", {1e-3: "thousandth"}[TOLERANCE]),
    ("docs/validate.md", r"`--max-drop`, (\w+) points by default", WORDS[round(100 * ParityLimits().max_drop)]),
    ("docs/validate.md", r"with (\d+) % confidence", percent(ParityLimits().confidence)),
    ("docs/validate.md", r"expert needs (\d+) images", images_to_decide(0, 0, 20, ParityLimits().max_drop)),
    ("docs/validate.md", r"takes (\d+) images of each of eight", images_to_decide(0, 0, 20, 0.1, 1 - 0.05 / 8)),
    ("docs/validate.md", r"The limit is ([\d.]+) then", UNLABELLED_AGREEMENT),
    ("docs/validate.md", r"averaged over (\d+) bins", CALIBRATION_BINS),
    ("docs/validate.md", r"PNG may differ by (\d+) of 255", TOLERANCES["PNG"]),
    ("docs/validate.md", r"JPEG by (\d+)", TOLERANCES["JPEG"]),
    ("docs/validate.md", r"on up to (\d+) of your images", preprocess_drift.MAX_IMAGES),
    ("docs/validate.md", r"ONNX Runtime ([\d.]+) or newer", FIRST_VERSION),
    ("docs/bisect.md", r"up to (\d+) for each model", flips.MAX_PICTURES),
    ("docs/bisect.md", r"shows the first (\w+) of each model", WORDS[INLINED]),
    ("docs/bundle.md", r"fit the budget \((\d+) MB;", round(EXPORT.reference_megabytes)),
    ("docs/bundle.md", r"more than the (\d+) % that measurements vary", percent(MARGIN)),
    ("docs/bundle.md", r"(\d+) MiB \(manifest\)", manifest.MAX_MANIFEST_BYTES // MIB),
    ("docs/bundle.md", r"(\d+) MiB \(a record", MAX_RECORD_BYTES // MIB),
    ("docs/bundle.md", r"\(a record, (\d+) of a kind\)", MAX_RECORDS),
    ("docs/bundle.md", r"; (\d+) levels;", MAX_DEPTH),
    ("docs/bundle.md", r"(\d+) GiB \(reference\)", reference.MAX_BYTES // GIB),
    ("docs/bundle.md", r"(\d+) MiB \(golden\)", reference.MAX_GOLDEN_BYTES // MIB),
    ("docs/calibrate.md", r"`auto` by default: (\d+) images", effort.MOST_OF_SET),
    ("docs/calibrate.md", r"more than (\d+) million m", 100 * round(effort.SETS_BUDGET / effort.MOST_OF_SET / 1e8)),
    ("docs/calibrate.md", r"multiply-adds, but no fewer than (\d+)", effort.FEWEST_OF_SET),
    ("docs/calibrate.md", r"`--max-drop` \(([\d.]+)", CALIBRATE.max_drop),
    ("docs/calibrate.md", r"`--ledger-nodes` \((\d+)\)", CALIBRATE.ledger_nodes),
    ("docs/calibrate.md", r"With fewer than (\d+) images", FEW_IMAGES),
    ("docs/calibrate.md", r"More than (\d+) images", MANY_IMAGES),
    ("docs/calibrate.md", r"Fewer than (\w+) images a class", WORDS[MEASURED_PER_CLASS]),
    ("docs/calibrate.md", r"has fewer than (\w+) images", WORDS[NEEDED_PER_CLASS]),
    ("docs/calibrate.md", r"extremes of (\d+) images at a time", GROUP),
    ("docs/calibrate.md", r"averaged exponentially \(([\d.]+)\)", AVERAGING),
    ("docs/calibrate.md", r"The (\w+) nodes that cost most alone", WORDS[exclusions.TRIED]),
    ("docs/calibrate.md", r"up to (\d+) of the held-out images", effort.MOST_FOR_NODES),
    ("docs/calibrate.md", r"never fewer than (\d+)", effort.FEWEST_FOR_NODES),
    ("docs/calibrate.md", r"comparison of ranges take (\d+) at\s+least", effort.FEWEST_IMAGES),
    ("docs/calibrate.md", r"FP16 takes (\d+) at\s+least", effort.FEWEST_FOR_FLOAT16),
    ("docs/calibrate.md", r"Histograms and the comparison of ranges take (\d+)", FEWEST_COUNTED),
    ("docs/calibrate.md", r"the (\d+) nodes that add most noise", SAMPLED_NODES),
    ("docs/calibrate.md", r"its time in INT8 plus (\d+) %", percent(device_nodes.MARGIN)),
    ("docs/calibrate.md", r"against that since version ([\d.]+):", FIRST_VERSION),
    ("docs/float16.md", r"scales exist from opset (\d+) on", QUANTISED_OPSET),
    ("docs/artefacts.md", r"on (\d+) training images that the seed draws", readiness.SAMPLES),
    ("docs/artefacts.md", r"A layer below (\d+) dB", round(readiness.LAYER_THRESHOLD_DB)),
    ("docs/artefacts.md", r"A student below (\d+) dB", round(readiness.NETWORK_THRESHOLD_DB)),
    ("docs/artefacts.md", r"starts at a (\w+) of", {0.1: "tenth"}[LEARNING_RATE_SHARE]),
    ("docs/profile.md", r"`--threads (\d+)`", ProfileRequest().threads),
    ("docs/profile.md", r"`--duration (\d+)`, `--warmup", round(LATENCY.duration_s)),
    ("docs/profile.md", r"`--warmup ([1-9]\d*)`", round(LATENCY.warmup_s)),
    ("docs/profile.md", r"at least `warmup_s` and (\w+) runs", WORDS[LATENCY.warmup_runs]),
    ("docs/profile.md", r"at least (\d+) runs are measured", LATENCY.min_runs),
    ("docs/profile.md", r"at most ([\d ]+) \|", f"{LATENCY.max_runs:_}".replace("_", " ")),
    ("docs/profile.md", r"`--sweep` is ([\d, ]+) \|", ", ".join(map(str, SWEEP))),
    ("docs/profile.md", r"\| `--margin ([\d.]+)` \|", ProfileRequest().margin),
    ("docs/profile.md", r"Blocks of (\d+) ms", round(1000 * BLOCK_S)),
    ("docs/profile.md", r"`--cold-start` starts (\w+) processes", WORDS[REPEATS]),
    ("docs/profile.md", r"enlarged to (\d+ x \d+)", "{} x {}".format(*JPEG_SIZE)),
    ("docs/compare.md", r"`--lambdas` \(([\d., ]+)\)", ", ".join(f"{value:g}" for value in LAMBDAS)),
    ("docs/method.md", r"There are up to (\w+) pairs", WORDS[PAIR_COUNT]),
    ("docs/method.md", r"`auto` takes (\d+) views", AUTO_VIEWS),
    ("docs/method.md", r"if they fit in (\d+) GiB", AUTO_BYTES // GIB),
    ("docs/method.md", r"validation images \((\d+) at most\)", IMAGES),
    ("docs/method.md", r"powers of ten from ([\d.]+ to \d+)", f"{min(LAMBDA_GRID):g} to {max(LAMBDA_GRID):g}"),
    ("docs/method.md", r"a quarter of the epochs \(at least (\d+)\)", FEWEST_EPOCHS),
    ("docs/method.md", r"under file and flags: (\d+) epochs", PRESETS["paper"]["epochs"]),
    ("docs/method.md", r"epochs, batch (\d+), AdamW", PRESETS["paper"]["batch_size"]),
    ("docs/inspect.md", r"training images \((\d+) at most\)", INSPECT.training_images),
    ("docs/inspect.md", r"validation images \((\d+) at most\)", INSPECT.images),
    ("docs/inspect.md", r"`--target` \(([\d.]+)\)", INSPECT.target),
    ("docs/explain.md", r"evenly over the classes; (\d+) by default", EXPLAIN.images),
    ("docs/explain.md", r"points of integrated gradients, (\d+) by default", EXPLAIN.steps),
    ("docs/explain.md", r"patches, at most (\d+) along a side", patch_grid(999, 999)[0]),
    ("docs/explain.md", r"uniform, up to (\d+) of the", NOISE_LEVELS),
    ("docs/explain.md", r"It takes (\d+) validation images by default", SHORTCUT_IMAGES),
    ("docs/explain.md", r"grid of at most (\d+ x \d+) cells", "{} x {}".format(*grid_of(999, 999))),
    ("docs/explain.md", r"and places, at a level of (\d+) %", percent(criterion.LEVEL)),
    ("docs/explain.md", r"larger by (\d+) % of the relevance", percent(criterion.LEAST_EXCESS)),
    ("docs/explain.md", r"at least (\d+) times as\s+large", round(criterion.LEAST_RATIO)),
    ("docs/explain.md", r"sees in fewer than (\d+) images", criterion.LEAST_IMAGES),
    ("docs/plan.md", r"inspection on (\d+) training", INSPECTED_FOR),
    ("docs/plan.md", r"training and (\d+) validation images", INSPECTED),
    ("docs/plan.md", r"last map is at least (\d+ x \d+)", f"{LEAST_MAP} x {LEAST_MAP}"),
    ("docs/reject.md", r"Up to ([\d,]+) images a split", f"{MOST_IMAGES:,}"),
    ("docs/reject.md", r"The default is (\d+)", round(EXPORT.reject)),
    ("docs/tensorrt.md", r"the engine takes, (\d+ to \d+)", (f"{EngineOptions().min_batch} to "
                                                            f"{EngineOptions().max_batch}")),
    ("docs/tensorrt.md", r"the number it is tuned for, (\d+)", EngineOptions().opt_batch),
)  # fmt: skip


@pytest.mark.parametrize(("name", "sentence", "value"), FACTS)
def test_a_page_says_what_the_code_does(name: str, sentence: str, value: object) -> None:
    said = set(re.findall(sentence, " ".join(page(name).split())))
    assert said == {str(value)}


def test_the_extras_bring_what_the_readme_says() -> None:
    told = {row[0].strip("`"): row[2] for row in table("README.md", "extra")}
    extras = {
        name: {re.split(r"[><=\[; ]", need)[0] for need in needs}
        for name, needs in PROJECT["optional-dependencies"].items()
    }
    assert set(told) == {"(none)", *extras}
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert set(re.findall(r"\w+", everything.split("[")[1])) == set(extras) - {"ort", "tensorrt", "all", "dev"}
    for name in set(extras) - {"all", "dev"}:
        assert set(told[name].split(", ")) == extras[name], name


def test_the_exit_codes_are_those_of_the_readme() -> None:
    told = {int(number): meaning for number, meaning in table("README.md", "exit code")}
    meant = {
        0: "done",
        EdgeDistillError.exit_code: "expected failure",
        UsageError.exit_code: "wrong usage",
        gate_code("fail"): "the gate failed",
        gate_code("inconclusive"): "too few images",
        InterruptedRunError.exit_code: "interrupted",
    }
    assert set(told) == set(meant)
    assert all(meant[number] in meaning for number, meaning in told.items())


def test_the_targets_read_what_the_page_on_export_says() -> None:
    told = {}
    for names, _, opset, ir_version, written in table("docs/export.md", "target"):
        first, *more = code(names) or [""]
        for name in (first, *(first.rsplit("-", 1)[0] + each for each in more)):
            told[name] = (int(opset), int(ir_version), *map(int, re.findall(r"\d+", written)))
    known = {
        name: (each.newest_opset, each.newest_ir_version, each.opset, IR_VERSIONS[each.opset])
        for name, each in TARGETS.items()
    }
    newest = max(IR_VERSIONS)
    known[""] = (newest, IR_VERSIONS[newest], USUAL_OPSET, IR_VERSIONS[USUAL_OPSET])
    assert told == known
    assert minimum("onnxruntime") in TARGETS["onnxruntime"].reader


@pytest.mark.parametrize(
    ("name", "heading", "names"),
    [
        ("docs/compare.md", "name", METHODS),
        ("docs/calibrate.md", "`--calibration`", CALIBRATION_METHODS),
        ("docs/providers.md", "name", PROVIDERS),
    ],
)
def test_a_table_lists_every_name_that_the_code_knows(name: str, heading: str, names: tuple[str, ...]) -> None:
    listed = [each for row in table(name, heading) for each in code(row[0])]
    assert sorted(listed) == sorted(names)


@pytest.mark.parametrize(
    ("key", "names"),
    [("layer_loss", LAYER_LOSSES), ("lambda_schedule", LAMBDA_SCHEDULES), ("mixed_precision", MIXED_PRECISIONS)],
)
def test_the_settings_of_the_training_take_what_the_page_says(key: str, names: tuple[str, ...]) -> None:
    (row,) = (row for row in table("docs/method.md", "key") if code(row[0]) == [key])
    told = re.split(r"\W*[`|;,]\W*|\\| ", " ".join(row[1:]))
    assert set(names) <= set(told)


def test_the_page_on_bisection_has_the_tolerances() -> None:
    told = [float(re.search(r"[\d.]+", row[1])[0]) for row in table("docs/bisect.md", "")]  # type: ignore[index]
    tolerances = bisect.TOLERANCES
    assert computes_in("teacher") == "fp32"
    expected = [tolerances["fp32"], tolerances["fp16"], tolerances["int8"], bisect.SAME_FILE_TOLERANCES["int8"]]
    assert all(math.isclose(*pair, rel_tol=1e-3) for pair in zip(told, expected, strict=True))


def test_devices_toml_is_explained_whole() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", page("docs/devices.md"), flags=re.DOTALL)
    devices = tomllib.loads(example)["devices"]
    assert {key for device in devices.values() for key in device} == {each.name for each in fields(Device)} - {"name"}
    for name, device in devices.items():
        Device(name=name, **device)
    plain = Device(name="a", host="b")
    assert f"{plain.work} by default" in example
    assert f"{plain.runtime} by default" in example
    assert "an hour by default" in example
    assert plain.time_limit_s == 3600
    assert f"power: {', '.join(POWER_READERS)}" in example


def test_the_page_on_profiling_names_the_settings() -> None:
    (said,) = re.findall(r"the table `\[profile\]` has (.*?)\. ", " ".join(page("docs/profile.md").split()))
    assert code(said) == [each.name for each in fields(LatencyConfig)]


COMMANDS: dict[str, Any] = {name: app.load_command(name) for name in app.COMMANDS}


def flags_of(command: Any) -> set[str]:
    own = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return own.union(*map(flags_of, getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("name", PAGES)
def test_every_flag_that_a_page_names_is_a_flag_of_some_command(name: str) -> None:
    known = {"--help"}.union(*map(flags_of, COMMANDS.values()))
    spans = [span for span in code(page(name)) if re.match(rf"--|edgedistill |({'|'.join(COMMANDS)}) ", span)]
    named = {flag for span in spans for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", span)}
    assert named <= known


def test_every_command_is_on_a_page() -> None:
    pages = "\n".join(map(page, PAGES))
    assert [name for name in COMMANDS if not re.search(rf"(edgedistill|make) {name}\b", pages)] == []


def test_a_model_is_written_in_the_opset_and_the_ir_version_that_the_pages_name(built_run: Path) -> None:
    model = onnx.load(built_run / "model.fp32.onnx", load_external_data=False)
    opset = {each.domain: each.version for each in model.opset_import}[""]
    assert (opset, model.ir_version) == (USUAL_OPSET, IR_VERSIONS[USUAL_OPSET])


def test_the_page_on_validation_explains_what_is_in_a_record(built_run: Path) -> None:
    record = json.loads(next((built_run / "parity").glob("*-fp32.json")).read_text(encoding="utf-8"))
    relations = {code(row[0])[0] for row in table("docs/validate.md", "relation")}
    checks = {code(row[0])[0] for row in table("docs/validate.md", "check")}
    assert relations == {each["name"] for each in record["metamorphic"]}
    assert checks == {each["name"] for each in record["checks"]}
    explained = [name for row in table("docs/validate.md", "field") for name in code(row[0])]
    assert {name.split(".")[0] for name in explained if not name.startswith(".")} <= set(record)
