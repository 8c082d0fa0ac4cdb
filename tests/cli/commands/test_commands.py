"""Every command as a user types it: arguments in; exit code, output and files out."""

import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from command import Outcome, run_command, write_quick_settings
from edgedistill_cli import STAGES
from shapes import write_shape_folder

COMMANDS = ("demo", "init", "build", "distill", "export", "calibrate", "validate", "profile", "report", "doctor")


def last_json(outcome: Outcome) -> dict[str, object]:
    assert outcome.stdout.count("\n") == 1, outcome.stdout
    record = json.loads(outcome.stdout)
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains_each_command(command: str) -> None:
    outcome = run_command(*([command] if command else []), "--help")
    assert outcome.code == 0
    assert "Usage: edgedistill" in outcome.stdout


def test_a_demo_that_stops_halfway_says_how_to_go_on_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("", encoding="utf-8")
    outcome = run_command("demo", "--out", tmp_path / "in-the-way")
    assert outcome.code in (1, 2)
    assert outcome.stderr.startswith("error: ")
    assert "your own data" not in outcome.stderr


def test_version_is_printed() -> None:
    assert re.fullmatch(r"edgedistill \d+\.\d+\.\d+\n", run_command("--version").stdout)


def test_a_build_leaves_what_the_contract_names(built_run: Path) -> None:
    manifest = json.loads((built_run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema"] == 1
    assert set(manifest["files"]) >= {"student", "subspaces", "model.fp32", "model.int8", "model.int8-tensorrt"}
    assert set(manifest["files"]) >= {"teacher.fp32", "golden", "reference"}
    for entry in manifest["files"].values():
        assert (built_run / entry["path"]).stat().st_size == entry["bytes"]
    assert [manifest["stages"][stage]["status"] for stage in STAGES] == ["done"] * 6
    assert (built_run / "settings.toml").is_file()
    assert (built_run / "report.html").is_file()
    for kind in ("parity", "latency"):
        precisions = {path.stem.rsplit("-", 1)[1] for path in (built_run / kind).glob("*.json")}
        assert precisions == {"teacher", "fp32", "int8"}
    assert not list(built_run.rglob("*.pkl"))
    assert {path.name for path in built_run.rglob(".*") if path.is_file()} == {".lock"}  # no half-written file


def test_a_finished_build_is_kept_and_reported_as_json(built_run: Path, tiny_digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built_run.glob("*.onnx")}
    outcome = run_command("build", "--config", built_run / "settings.toml", "--out", built_run, "--json")
    record = last_json(outcome)
    assert outcome.stderr.count("done before, kept") == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert record["kind"] == "build"
    assert [stage["name"] for stage in record["stages"]] == list(STAGES)  # type: ignore[attr-defined]
    assert all(40e6 < stage["peak_memory_bytes"] < 1e11 for stage in record["stages"])  # type: ignore[attr-defined]
    assert record["verdict"] in ("pass", "fail", "inconclusive")
    assert outcome.code == {"pass": 0, "fail": 3, "inconclusive": 4}[str(record["verdict"])]
    assert record["teacher"]["parameters"] == 1272036  # type: ignore[index]
    assert 0.4 < record["student"]["accuracy"] <= 1  # type: ignore[index]


def test_the_settings_in_a_run_repeat_it(built_run: Path, tmp_path: Path) -> None:
    settings = (built_run / "settings.toml").read_text(encoding="utf-8")
    outcome = run_command("distill", "--config", built_run / "settings.toml", "--out", tmp_path / "again")
    assert outcome.code == 0
    assert (tmp_path / "again" / "settings.toml").read_text(encoding="utf-8") == settings
    one, two = (folder / "distill" / "student.safetensors" for folder in (built_run, tmp_path / "again"))
    assert one.read_bytes() == two.read_bytes()


def test_stages_alone_work_on_the_run_folder(built_run: Path) -> None:
    before = json.loads((built_run / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert run_command("export", built_run).code == 0
    after = json.loads((built_run / "manifest.json").read_text(encoding="utf-8"))
    assert after["files"]["model.fp32"]["sha256"] == before["model.fp32"]["sha256"]
    assert set(after["stages"]) == {"distill", "export"}
    flags = ("--images", "60", "--held-out", "40", "--profile", "arm", "--calibration", "least-squares")
    more = ("--max-drop", "0.9", "--ledger-nodes", "3", "--fp16", "--seed", "2")
    outcome = run_command("calibrate", built_run, *flags, *more)
    assert outcome.code == 0
    assert "model.int8-fp16-tensorrt.onnx written, ranges by least-squares" in outcome.stderr
    assert "note: " in outcome.stderr
    settings = (built_run / "settings.toml").read_text(encoding="utf-8")
    for line in ("images = 60", "held_out = 40", 'profile = "arm"', "fp16 = true", "ledger_nodes = 3"):
        assert line in settings
    ledger: Any = last_json(run_command("ledger", built_run, "--json"))
    stages = [step["stage"] for step in ledger["steps"]]
    assert stages == ["teacher", "fp32", "fp16", "int8", "int8-tensorrt", "int8-fp16-tensorrt"]
    assert [sum(node["alone"] is not None for node in step["nodes"]) for step in ledger["steps"]] == [
        0, 0, 0, 3, 3, 0,
    ]  # fmt: skip
    assert "golden images" in ledger["left_out"]["student"]
    outcome = run_command("build", "--config", built_run / "settings.toml", "--out", built_run, "--json")
    assert outcome.stderr.count("done before, kept") == 3


def test_validate_prints_the_contracts_record(built_run: Path) -> None:
    outcome = run_command("validate", built_run, "--precision", "fp32", "--max-drop", "0.9", "--json")
    record = last_json(outcome)
    assert outcome.code == 0
    assert record["kind"] == "parity"
    assert record["verdict"] == "pass"
    assert record["sample_count"] == 80


def test_validate_is_a_gate(built_run: Path) -> None:
    strict = run_command("validate", built_run, "--precision", "fp32", "--max-drop", "0")
    assert strict.code in (3, 4)
    teacher = run_command("validate", built_run, "--precision", "teacher", "--max-drop", "0.01", "--json")
    assert teacher.code == 4
    assert last_json(teacher)["images_to_decide"]


def test_validate_takes_ones_own_images(built_run: Path, tiny_digits: Path) -> None:
    outcome = run_command("validate", built_run, "--data", f"npz:{tiny_digits}", "--precision", "fp32", "--json")
    assert last_json(outcome)["sample_count"] == 80


def test_profile_states_what_it_measured(built_run: Path) -> None:
    outcome = run_command(
        "profile", built_run, "--precision", "int8", "--duration", "0.1", "--warmup", "0", "--threads", "1",
        "--batch-size", "2", "--json",
    )  # fmt: skip
    record = last_json(outcome)
    assert outcome.code == 0
    assert (record["batch_size"], record["threads"], record["provider"]) == (2, 1, "cpu")
    assert len(record["samples_ms"]) == record["runs"]  # type: ignore[arg-type]


def test_tables_are_for_people(built_run: Path) -> None:
    shown = run_command("validate", built_run).stdout
    assert all(label in shown for label in ("teacher fp32", "expert fp32", "expert int8", "verdict"))
    assert "p99" in run_command("profile", built_run, "--duration", "0.05", "--warmup", "0").stdout
    assert run_command("report", built_run).stdout.strip() == str(built_run / "report.html")


def test_quiet_is_quiet(built_run: Path) -> None:
    assert run_command("validate", built_run, "--precision", "fp32", "--quiet", "--json").stderr == ""


def test_doctor_lists_libraries_and_installs_nothing() -> None:
    record = last_json(run_command("doctor", "--json"))
    libraries = {row["library"]: row["version"] for row in record["libraries"]}  # type: ignore[attr-defined]
    assert libraries["torch"]
    shown = run_command("doctor").stdout
    assert "pip install" in shown or all(libraries.values())
    assert record["int8_kernels"] in ("exact", "made_exact")
    assert "INT8 instructions of the processor: " in shown
    assert "ONNX Runtime computes INT8 exactly" in shown


def test_doctor_knows_the_other_packages_of_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = metadata.version

    def version(package: str) -> str:
        if package == "onnxruntime":
            raise metadata.PackageNotFoundError(package)
        return "1.24.1" if package == "onnxruntime-openvino" else usual(package)

    monkeypatch.setattr(metadata, "version", version)
    record = last_json(run_command("doctor", "--json"))
    libraries = {row["library"]: row["version"] for row in record["libraries"]}  # type: ignore[attr-defined]
    assert libraries["onnxruntime"] == "1.24.1 (onnxruntime-openvino)"


def test_init_writes_settings_that_build_understands(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    assert run_command("init", file).code == 0
    again = run_command("init", file)
    assert again.code == 2
    assert "--force" in again.stderr
    words = ("build", "--config", file, "--out", tmp_path / "run", "--dry-run", "--json")
    refused = run_command(*words)
    assert refused.code == 2
    assert refused.stderr.startswith("error: There are no images at images: it does not exist.")
    data = write_shape_folder(tmp_path / "data", ("tabby", "golden retriever"), 3)
    plan = run_command(*words, "--data", data)
    assert plan.code == 0, plan.stderr
    record = last_json(plan)
    assert [each["status"] for each in record["plan"]] == ["due"] * 6  # type: ignore[attr-defined]
    assert not (tmp_path / "run").exists()


def test_a_damaged_expert_fails_and_a_changed_file_is_refused(built_run: Path) -> None:
    """Weights damaged and registered anew: the gate sees it. Bytes changed behind the manifest's back: refused."""
    import onnx
    from onnx import numpy_helper

    from edgedistill_deploy.bundle.folder import open_bundle

    path = built_run / "model.fp32.onnx"
    model = onnx.load(path)
    head = max(
        (each for each in model.graph.initializer if list(each.dims)[:1] == [4]), key=lambda each: len(each.dims)
    )
    weights = numpy_helper.to_array(head)
    head.CopyFrom(numpy_helper.from_array(-weights, head.name))
    onnx.save(model, path)
    refused = run_command("validate", built_run, "--precision", "fp32")
    assert refused.code == 1
    assert "model.fp32.onnx" in refused.stderr
    assert refused.stderr.count("\n") <= 2
    open_bundle(built_run, verify=False).with_file("model.fp32", path)
    assert run_command("validate", built_run, "--precision", "fp32").code == 3


Wrong = Callable[[Path, Path], list[str | Path]]

# what is typed, given (run folder, empty folder); exit code; what the message says
WRONG: dict[str, tuple[Wrong, int, str]] = {
    "no such command": (lambda run, tmp: ["biuld"], 2, "No such command"),
    "no such flag": (lambda run, tmp: ["build", "--epoch", "3"], 2, "--epoch"),
    "nothing given": (lambda run, tmp: ["build", "--out", tmp / "x"], 2, "--data"),
    "no such bundle": (lambda run, tmp: ["validate", tmp / "nowhere"], 1, "nowhere"),
    "not a bundle": (lambda run, tmp: ["profile", tmp], 1, "manifest"),
    "no such precision": (lambda run, tmp: ["validate", run, "--precision", "fp8"], 2, "fp8"),
    "a precision that is not there": (lambda run, tmp: ["validate", run, "--precision", "fp16"], 1, "fp16"),
    "no such runtime": (lambda run, tmp: ["validate", run, "--runtime", "onnx"], 2, "onnxruntime"),
    "an impossible limit": (lambda run, tmp: ["validate", run, "--max-drop", "2"], 2, "max_drop"),
    "no such data": (lambda run, tmp: ["validate", run, "--data", tmp / "none"], 2, "none"),
    "not a run": (lambda run, tmp: ["export", tmp], 2, "not a run folder"),
    "not a run to report": (lambda run, tmp: ["report", tmp], 1, "manifest"),
    "another teacher": (
        lambda run, tmp: ["build", "--config", run / "settings.toml", "--out", run, "--epochs", "9"],
        2,
        "distill.epochs was 12 and is 9",
    ),
    "a class nobody knows": (
        lambda run, tmp: ["build", "--config", run / "settings.toml", "--out", tmp / "x", "--classes", "0,zero"],
        2,
        "no class 'zero'",
    ),
    "one class": (
        lambda run, tmp: ["build", "--config", run / "settings.toml", "--out", tmp / "x", "--classes", "0"],
        2,
        "at least two classes",
    ),
    "no such student": (
        lambda run, tmp: ["build", "--config", run / "settings.toml", "--out", tmp, "--student", "timm:resnet10tt"],
        2,
        "Did you mean resnet10t",
    ),
    "a missing weight": (
        lambda run, tmp: [
            "build", "--config", run / "settings.toml", "--out", tmp / "x", "--teacher", "timm:resnet18",
            "--teacher-weights", tmp / "w.safetensors",
        ],
        1,
        "no weights file",
    ),
    "a full folder": (
        lambda run, tmp: ["build", "--config", run / "settings.toml", "--out", run.parent],
        2,
        "not empty and holds no run",
    ),
    "a folder that cannot be made": (
        lambda run, tmp: ["build", "--config", run / "settings.toml", "--out", run / "settings.toml" / "x"],
        1,
        "settings.toml/x cannot be written: Not a directory",
    ),
    "no settings file": (lambda run, tmp: ["build", "--config", tmp / "none.toml"], 2, "no settings file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_sentence_and_a_code(case: str, built_run: Path, tmp_path: Path) -> None:
    argv, code, message = WRONG[case]
    empty = tmp_path / "empty"
    empty.mkdir()
    outcome = run_command(*argv(built_run, empty))
    assert outcome.code == code, outcome.stderr
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="manifest"):
        run_command("validate", tmp_path, "--debug")


def test_settings_are_checked_key_by_key(tmp_path: Path, tiny_digits: Path) -> None:
    file = write_quick_settings(tmp_path / "s.toml", tiny_digits, epoch=3, batch_size='"big"')
    file.write_text(file.read_text(encoding="utf-8") + "\n[distil]\nx = 1\n", encoding="utf-8")
    outcome = run_command("build", "--config", file, "--out", tmp_path / "x")
    assert outcome.code == 2
    assert "distill.epoch is not known. Did you mean epochs" in outcome.stderr
    assert "distill.batch_size must be a whole number, and 'big' was given" in outcome.stderr
    assert "[distil] is not a table of the settings. Did you mean distill" in outcome.stderr


def test_a_mistake_before_training_can_be_corrected_in_the_same_folder(tmp_path: Path, tiny_digits: Path) -> None:
    settings = write_quick_settings(tmp_path / "s.toml", tiny_digits, epochs=1)
    argv = ("distill", "--config", settings, "--out", tmp_path / "run")
    assert run_command(*argv, "--data", tmp_path / "nowhere").code == 2
    assert run_command(*argv).code == 0
    assert run_command(*argv, "--epochs", "2").code == 2


def test_restart_trains_anew(built_run: Path) -> None:
    (built_run / "notes.txt").write_text("mine", encoding="utf-8")
    argv = ("distill", "--config", built_run / "settings.toml", "--out", built_run, "--epochs", "1")
    assert run_command(*argv).code == 2
    assert run_command(*argv, "--restart").code == 0
    assert not (built_run / "model.fp32.onnx").exists()
    assert (built_run / "notes.txt").read_text(encoding="utf-8") == "mine"
