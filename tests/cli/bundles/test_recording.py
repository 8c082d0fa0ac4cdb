"""Where commands that measure write, where they do not, and that their result does not depend on it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import Outcome, run_command
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.files.locks import hold_folder
from reference.measured_bundles import bundle_of
from reference.small_disks import read_only

RIGHT = [0, 1, 2, 0, 1, 2]
PROFILE = ("--duration", "0.02", "--warmup", "0")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose expert answers as its teacher does."""
    return bundle_of(tmp_path, RIGHT, RIGHT, RIGHT)[0]


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def measure(command: str, bundle: Path, *more: str | Path) -> Outcome:
    return run_command(command, bundle, *(PROFILE if command == "profile" else ()), *more)


def name_of_records(command: str) -> str:
    return "latency" if command == "profile" else "parity"


@pytest.mark.parametrize("command", ["validate", "profile"])
def test_a_linked_folder_is_refused_before_anything_is_measured(bundle: Bundle, tmp_path: Path, command: str) -> None:
    (tmp_path / "theirs").mkdir()
    link = bundle.path / name_of_records(command)
    link.symlink_to("../theirs")
    before = files_in(tmp_path)
    outcome = measure(command, bundle.path)
    assert outcome.code == 1
    assert outcome.stderr == f"error: {link} leads out of the bundle; it is refused.\n"
    assert outcome.stdout == ""
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    "kind", ["parity", "chain", "latency-comparison", "answers", "flips", "bisect", "manifest.json"]
)
def test_every_place_of_a_record_is_refused_as_a_link_out(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    path = bundle.path / kind
    if path.exists():
        shutil.move(path, tmp_path / "theirs")
    else:
        (tmp_path / "theirs").mkdir()
    path.symlink_to(tmp_path / "theirs")
    outcome = measure("validate", bundle.path)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert "leads out of the bundle; it is refused." in outcome.stderr


def test_a_record_that_is_a_link_out_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    assert measure("validate", bundle.path).code == 4
    (record,) = (bundle.path / "parity").iterdir()
    theirs = record.rename(tmp_path / "theirs")
    record.symlink_to(theirs)
    before = theirs.read_bytes()
    assert measure("validate", bundle.path).code == 1
    assert theirs.read_bytes() == before


def test_a_report_that_is_a_link_out_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "theirs.html").write_text("theirs", encoding="utf-8")
    (bundle.path / "report.html").symlink_to(tmp_path / "theirs.html")
    outcome = run_command("report", bundle.path)
    assert outcome.code == 1
    assert "report.html leads out of the bundle; it is refused." in outcome.stderr
    assert (tmp_path / "theirs.html").read_text(encoding="utf-8") == "theirs"


@pytest.mark.parametrize("command", ["validate", "profile"])
def test_record_writes_to_another_folder_and_only_reads_the_bundle(
    bundle: Bundle, tmp_path: Path, command: str
) -> None:
    before = {name: (bundle.path / name).read_bytes() for name in files_in(bundle.path)}
    outcome = measure(command, bundle.path, "--record", tmp_path / "new" / "records", "--json")
    assert outcome.code == (4 if command == "validate" else 0)
    assert {name: (bundle.path / name).read_bytes() for name in files_in(bundle.path)} == before
    (record,) = (tmp_path / "new" / "records" / name_of_records(command)).glob("*.json")
    assert json.loads(record.read_text(encoding="utf-8")) == json.loads(outcome.stdout)["records"][0]


def test_record_keeps_flips_and_the_search_for_a_node_too(bundle: Bundle, tmp_path: Path) -> None:
    before = files_in(bundle.path)
    record = tmp_path / "records"
    assert run_command("validate", bundle.path, "--flips", tmp_path / "f", "--record", record).code == 4
    assert run_command("validate", bundle.path, "--bisect", "--record", record).code == 0
    assert {name.partition("/")[0] for name in files_in(record)} == {"parity", "chain", "answers", "flips", "bisect"}
    assert files_in(bundle.path) == before


def test_a_record_folder_that_cannot_be_made_stops_the_command_before_it_measures(
    bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    outcome = run_command("validate", bundle.path, "--record", tmp_path / "file" / "records")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert f"error: {tmp_path / 'file' / 'records'} cannot be written: Not a directory." in outcome.stderr


COMMANDS = """
import json, sys
from pathlib import Path
from command import run_command
found = {}
for name, *words in json.loads(sys.argv[2]):
    done = run_command(*words[:1], sys.argv[1], *words[1:])
    found[name] = [done.code, done.stdout, done.stderr]
Path(sys.argv[3]).write_text(json.dumps(found))
"""


def test_a_read_only_bundle_is_measured_all_the_same(bundle: Bundle, tmp_path: Path) -> None:
    mounted = read_only(bundle.path)
    if mounted is None:
        pytest.skip("this machine lets nobody mount a folder")
    commands = [
        ("validate", "validate", "--json"),
        ("quiet", "validate", "--quiet"),
        ("flips", "validate", "--flips", str(tmp_path / "flips")),
        ("bisect", "validate", "--bisect", "--json"),
        ("profile", "profile", *PROFILE, "--json"),
        ("report", "report"),
        ("elsewhere", "report", "--out", str(tmp_path / "report.html")),
        ("kept", "validate", "--record", str(tmp_path / "records")),
    ]
    words = (bundle.path, json.dumps(commands), tmp_path / "found.json")
    argv = [*mounted, sys.executable, "-c", COMMANDS, *map(str, words)]
    before = files_in(bundle.path)
    subprocess.run(argv, check=True, env={**_environment(), "NO_COLOR": "1"})
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    codes = {name: code for name, (code, _, _) in found.items()}
    assert codes == {**dict.fromkeys(("validate", "quiet", "flips", "kept"), 4), "bisect": 0, "profile": 0} | {
        "report": 1,
        "elsewhere": 0,
    }
    assert json.loads(found["validate"][1])["verdict"] == "inconclusive"
    assert json.loads(found["bisect"][1])["verdict"] == "agree"
    assert json.loads(found["profile"][1])["records"][0]["runs"] > 0
    for name, folder in {"validate": "parity", "quiet": "parity", "profile": "latency", "bisect": "bisect"}.items():
        notes = [line for line in found[name][2].splitlines() if line.startswith("note: The result counts")]
        told = f"its record was not kept: {bundle.path / folder} cannot be written: Read-only file system. "
        assert notes == [f"note: The result counts, but {told}--record DIR keeps records in another folder."]
    assert "Read-only file system. --out FILE writes the report to another place." in found["report"][2]
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "flips" / "flips.json").is_file()
    assert "note: The result counts" not in found["kept"][2]
    assert (tmp_path / "records" / "parity").is_dir()
    assert files_in(bundle.path) == before


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.parametrize("command", ["validate", "profile", "report"])
def test_a_bundle_that_a_run_changes_is_not_measured(bundle: Bundle, command: str) -> None:
    before = files_in(bundle.path)
    with hold_folder(bundle.path, "edgedistill build"):
        outcome = measure(command, bundle.path)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert f"error: {bundle.path} is in use by edgedistill build, process " in outcome.stderr
    assert files_in(bundle.path) == before | {".lock"}


def test_two_commands_that_measure_do_not_keep_each_other_out(bundle: Bundle) -> None:
    with hold_folder(bundle.path, "edgedistill profile", sharing=True):
        assert measure("validate", bundle.path).code == 4
