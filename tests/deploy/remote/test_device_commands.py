"""The commands, as they are typed: devices, and profile and validate with --device."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import run_command
from edgedistill_deploy.images.sources import open_images
from edgedistill_deploy.remote._advice import missing_on
from edgedistill_deploy.remote.inventory import Device, add_device
from ssh_server import SshServer, free_port

Make = Callable[..., Any]
BRIEF = ("--duration", "0.05", "--warmup", "0", "--precision", "fp32")


@pytest.fixture
def loop(device: Make) -> Device:
    made: Device = device("loop")
    add_device(made)
    return made


def test_add_list_and_remove() -> None:
    added = run_command("devices", "add", "pi", "--host", "pi.local", "--user", "me", "--env", "A=b=c", "--json")
    assert json.loads(added.stdout)["device"]["environment"] == {"A": "b=c"}
    assert run_command("devices", "add", "here", "--host", "h", "--project", "--notes", "desk").code == 0
    assert Path("devices.toml").exists()
    (here, pi) = json.loads(run_command("devices", "list", "--json").stdout)["devices"]
    assert (here["name"], here["notes"], pi["user"]) == ("here", "desk", "me")
    assert "ssh://me@pi.local" in run_command("devices", "list").stdout
    assert run_command("devices", "remove", "pi").code == 0
    assert "pi.local" not in run_command("devices", "list").stdout
    assert run_command("devices", "remove", "here", "--json").code == 0
    assert "devices add NAME --host HOST" in run_command("devices", "list").stdout


def test_mistakes_are_usage_errors() -> None:
    refused = run_command("devices", "add", "pi", "--host", "h", "--env", "A")
    assert (refused.code, "--env takes NAME=VALUE" in refused.stderr) == (2, True)
    empty = run_command("devices", "check")
    assert (empty.code, "There is no device to check" in empty.stderr) == (2, True)


def test_check_tells_what_is_there_and_writes_nothing(loop: Device, work: Path) -> None:
    checked = run_command("devices", "check", "loop", "--json")
    assert checked.code == 0, checked.stderr
    (record,) = json.loads(checked.stdout)["devices"]
    assert record["verdict"] == "ready"
    assert record["python"]["version"] == list(sys.version_info[:3])
    for module in ("numpy", "PIL", "onnxruntime"):
        assert record["modules"][module]["version"]
    assert "CPUExecutionProvider" in record["providers"]
    assert record["cpu_count"] > 0
    assert record["free_bytes"] > 0
    assert record["memory_bytes"] > 0
    assert record["system"]
    assert record["sftp"]
    assert not work.exists()
    shown = run_command("devices", "check", "loop").stdout
    assert "loop is ready: edgedistill profile BUNDLE --device loop" in shown
    work.parent.mkdir()
    work.parent.chmod(0o777)
    opened = run_command("devices", "check", "loop")
    assert opened.code == 1
    assert f"run on loop: chmod go-w {work.parent}" in opened.stdout


def test_check_names_the_command_for_what_is_missing(device: Make, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    add_device(device("bare", python=python))
    add_device(device("none", python="/nowhere/python3"))
    add_device(device("gone", port=free_port()))
    checked = run_command("devices", "check", "--json")
    assert checked.code == 1
    bare, gone, none = json.loads(checked.stdout)["devices"]
    (missing,) = bare["missing"]
    assert missing["what"] == "numpy, PIL, onnxruntime"
    assert missing["command"].endswith(f"{python} -m pip install numpy pillow onnxruntime")
    assert none["python"] is None
    assert none["architecture"]  # told by the shell alone
    assert none["missing"][0]["what"] == "python"
    assert gone["verdict"] == "unreachable"
    shown = run_command("devices", "check", "bare", "gone").stdout
    assert "run on bare:" in shown
    assert "refuses connections" in shown


def found(**others: object) -> dict[str, Any]:
    python = {"version": [3, 11, 2], "externally_managed": False, "venv": False, "pip": "23", "crashed": None}
    modules = {name: {"version": "1"} for name in ("numpy", "PIL", "onnxruntime", "tensorrt")}
    plain = {
        "free_bytes": 1 << 40,
        "sftp": True,
        "open_folder": None,
        "python": python,
        "modules": modules,
        "architecture": "aarch64",
        "jetson": None,
        "providers": ["CPUExecutionProvider"],
        "other_pythons": [],
        "installer": "apt-get",
    }
    return {**plain, **others}


ABSENT = {"missing": True, "error": ""}
NO_RUNTIME = {"numpy": {"version": "1"}, "PIL": {"version": "1"}, "onnxruntime": ABSENT, "tensorrt": ABSENT}


@pytest.mark.parametrize(
    ("fields", "state", "what", "command"),
    [
        ({}, {"free_bytes": 1000}, "disk", "df -h"),
        ({}, {"sftp": False}, "sftp", "openssh-sftp-server"),
        ({}, {"open_folder": ["/a b", "others may write to /a b"]}, "a private work folder", "chmod go-w '/a b'"),
        ({}, {"python": None}, "python", "sudo apt-get install -y python3 python3-venv"),
        ({}, {"python": None, "installer": "apk"}, "python", "sudo apk add python3"),
        ({}, {"python": found()["python"] | {"version": [3, 8, 10]}}, "python", "uv python install"),
        ({}, {"python": found()["python"] | {"crashed": -4}}, "python", "--force-reinstall"),
        ({}, {"modules": NO_RUNTIME}, "onnxruntime", "python3 -m pip install onnxruntime"),
        (
            {},
            {"modules": NO_RUNTIME, "python": found()["python"] | {"externally_managed": True}},
            "onnxruntime",
            "-m venv --system-site-packages ~/edgedistill-venv && ~/edgedistill-venv/bin/pip install onnxruntime",
        ),
        (
            {"provider": "cuda"},
            {"modules": NO_RUNTIME, "jetson": "L4T 36.4"},
            "onnxruntime",
            "onnxruntime-gpu --extra-index-url https://pypi.jetson-ai-lab.io/jp6/cu126",
        ),
        ({"provider": "cuda"}, {}, "provider cuda", "pip uninstall -y onnxruntime"),
        (
            {"runtime": "tensorrt"},
            {"modules": NO_RUNTIME, "jetson": "L4T 36.4"},
            "tensorrt",
            "sudo apt-get install -y nvidia-jetpack python3-libnvinfer",
        ),
        ({"runtime": "tensorrt"}, {"modules": NO_RUNTIME}, "tensorrt", "pip install tensorrt"),
        (
            {},
            {"modules": found()["modules"] | {"numpy": {"missing": False, "error": "bad ELF"}}},
            "numpy",
            "--no-cache-dir numpy",
        ),
    ],
)
def test_advice(fields: dict[str, str], state: dict[str, Any], what: str, command: str) -> None:
    target = Device(name="pi", host="pi", **fields)  # type: ignore[arg-type]
    advice = {each.what: each for each in missing_on(target, found(**state))}
    assert command in str(advice[what].command)


def test_advice_without_a_command() -> None:
    (one,) = missing_on(Device(name="pi", host="pi"), found(architecture="armv7l", modules=NO_RUNTIME))
    assert "install the 64-bit system" in one.why
    assert one.command is None
    (one,) = missing_on(Device(name="pi", host="pi"), found(python=None, other_pythons=["python3.11"]))
    assert "It has python3.11: name one with python in devices.toml." in one.why
    (one,) = missing_on(Device(name="pi", host="pi", provider="xnnpack"), found())
    assert (one.what, one.command) == ("provider xnnpack", None)
    assert not list(missing_on(Device(name="pi", host="pi"), found()))


def test_what_a_device_does_not_name_it_does_not_have() -> None:
    (one,) = missing_on(Device(name="pi", host="pi"), found(modules={}))
    assert one.what == "numpy, PIL, onnxruntime"


def test_profile_writes_the_devices_record_beside_the_local_one(loop: Device, built_run: Path) -> None:
    local = run_command("profile", built_run, *BRIEF, "--json")
    remote = run_command("profile", built_run, *BRIEF, "--device", "loop", "--json")
    assert (local.code, remote.code) == (0, 0), remote.stderr
    document = json.loads(remote.stdout)
    assert (document["kind"], document["task"], document["verdict"]) == ("device-set", "profile", "pass")
    (entry,) = document["devices"]
    assert entry["status"] == "done"
    assert entry["sent"]["bytes"] > 0
    written = json.loads((built_run / "latency" / "loop-onnxruntime-fp32.json").read_text(encoding="utf-8"))
    assert written == entry["records"][0]
    shown = run_command("profile", built_run, *BRIEF, "--device", "loop")
    assert "Latency on the devices" in shown.stdout
    assert "loop: done in" in shown.stderr


def test_one_device_that_fails_makes_the_code_1_after_all_are_done(
    loop: Device, device: Make, built_run: Path, server: SshServer
) -> None:
    add_device(device("gone", port=free_port()))
    done = run_command("profile", built_run, *BRIEF, "--device", "gone", "--device", "loop", "--json")
    assert done.code == 1
    gone, here = json.loads(done.stdout)["devices"]
    assert (gone["status"], here["status"]) == ("failed", "done")
    assert gone["error"] in done.stderr
    assert (built_run / "latency" / "loop-onnxruntime-fp32.json").exists()
    assert not list(built_run.glob("latency/gone*"))


def test_validate_on_a_device_is_the_same_gate(
    loop: Device, built_run: Path, tiny_digits: Path, tmp_path: Path
) -> None:
    flags = ("--max-drop", "0.9", "--precision", "int8", "--threads", "1")
    local = json.loads(run_command("validate", built_run, *flags, "--json").stdout)
    remote = run_command("validate", built_run, *flags, "--device", "loop", "--json", "--junit", tmp_path / "j.xml")
    assert remote.code == 0, remote.stderr
    (record,) = json.loads(remote.stdout)["devices"][0]["records"]
    assert (record["accuracy"], record["verdict"]) == (local["accuracy"], "pass")
    assert (built_run / "parity" / "loop-onnxruntime-int8.json").exists()
    assert "<testsuite" in (tmp_path / "j.xml").read_text(encoding="utf-8")
    strict = run_command("validate", built_run, "--max-drop", "0", "--device", "loop", "--data", f"npz:{tiny_digits}")
    assert strict.code in (3, 4)
    assert "Parity with the teacher on the devices" in strict.stdout
    assert (built_run / "chain" / "loop-onnxruntime-cpu.json").exists()


def test_flags_that_mean_nothing_together(built_run: Path) -> None:
    alone = run_command("profile", built_run, "--keep")
    assert (alone.code, "--keep belongs to --device" in alone.stderr) == (2, True)
    local = run_command("validate", built_run, "--device", "x", "--bisect")
    assert (local.code, "--bisect works on this machine alone" in local.stderr) == (2, True)
    unknown = run_command("profile", built_run, "--device", "kitchen")
    assert (unknown.code, "There is no device 'kitchen'" in unknown.stderr) == (2, True)


def test_own_images_are_sent_prepared(built_run: Path, tiny_digits: Path, tmp_path: Path) -> None:
    from edgedistill_cli.bundles.validating import open_own_images
    from edgedistill_cli.console import Console
    from edgedistill_deploy.bundle.folder import open_bundle
    from edgedistill_deploy.bundle.reference import read_reference
    from edgedistill_deploy.remote.tasks import write_prepared

    bundle = open_bundle(built_run)
    write_prepared(bundle, open_own_images(f"npz:{tiny_digits}", bundle, Console(quiet=True)), tmp_path / "sent.npz")
    sent, recorded = read_reference(tmp_path / "sent.npz"), read_reference(bundle.file("reference"))
    assert sent.images is not None
    rows = {digest: row for row, digest in enumerate(recorded.digests)}
    assert len(sent.digests) == len(open_images(f"npz:{tiny_digits}").test or ())
    for place, digest in enumerate(sent.digests):
        assert (sent.logits[place] == recorded.logits[rows[digest]]).all()
