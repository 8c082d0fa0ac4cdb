"""Measuring over a real SSH connection: the same figures as here, nothing sent twice, nothing left behind."""

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import MissingDependencyError, UsageError
from edgedistill_deploy.parity.check import ParityLimits, check_parity
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.remote import _connection, _push
from edgedistill_deploy.remote._push import Item
from edgedistill_deploy.remote._wheel import build_wheel
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import DeviceOutcome, RemoteJob, run_on_devices
from edgedistill_deploy.remote.tasks import RuntimeChoice, profile_job, validate_job
from edgedistill_deploy.runtimes.opening import open_session
from reference.class_bundles import class_bundle
from reference.device_timing import BRIEF
from ssh_server import Proxy, SshServer, free_port, make_key

Make = Callable[..., Any]


def outcome_of(job: RemoteJob, device: Device, progress: Progress = silent) -> DeviceOutcome:
    (outcome,) = run_on_devices([device], job, lambda device: progress)
    return outcome


def result_of(outcome: DeviceOutcome) -> dict[str, Any]:
    assert outcome.error is None, outcome.error
    assert outcome.result is not None
    return outcome.result


def error_of(outcome: DeviceOutcome) -> str:
    assert outcome.result is None
    assert outcome.error is not None
    return outcome.error


def test_profile_measures_there_and_leaves_nothing(device: Make, profiling: Make, work: Path, tmp_path: Path) -> None:
    seen = set()
    home = tmp_path / "home there"
    home.mkdir()
    target = device("kitchen", environment={"HOME": str(home), "OMP_NUM_THREADS": "1"})
    outcome = outcome_of(profiling(target), target, lambda done, total, note="": seen.add(note))
    (record,) = result_of(outcome)["records"]
    assert record["device"]["name"] == "kitchen"
    assert record["precision"] == "fp32"
    assert record["runs"] == len(record["samples_ms"]) >= 3
    assert record["bundle"] == "run"
    assert not work.exists()
    assert not list(home.iterdir())
    assert {"connecting", "sending"} <= seen


def test_validate_over_ssh_finds_what_is_found_here(device: Make, validating: Make, bundle: Bundle, work: Path) -> None:
    target = device()
    result = result_of(outcome_of(validating(target), target))
    assert [record["precision"] for record in result["records"]] == ["fp32", "int8"]
    for record in result["records"]:
        with open_session(bundle, precision=record["precision"], threads=1) as session:
            local = check_parity(bundle, session, None, ParityLimits(max_drop=0.5)).to_json()
        for key in ("accuracy", "agreement", "per_class", "verdict", "sample_count", "model_sha256", "numeric"):
            assert record[key] == local[key]
        assert record["device"] == "loop"
        assert record["machine"]["architecture"] == result["machine"]["architecture"]
    assert [record["numeric"]["recorded_of"] for record in result["records"]] == ["student", "file"]
    assert [step["precision"] for step in result["chain"]["steps"]] == ["teacher", "fp32", "int8"]
    assert not work.exists()


def test_a_class_is_judged_over_ssh_by_the_limits_given_here(device: Make, tmp_path: Path) -> None:
    rows = [(animal % 7, animal, animal) for animal in range(8) for _ in range(40)]  # the last animal is dead
    dead = class_bundle(tmp_path / "dead", rows)
    target = device()
    found = []
    for allowed in ((), ("Zebra",)):
        limits = ParityLimits(max_drop=0.5, max_class_drop=0.9, min_agreement=0.5, allowed_classes=allowed)
        job = validate_job(dead, limits, [target], RuntimeChoice(), precisions=("fp32",), threads=1)
        (record,) = result_of(outcome_of(job, target))["records"]
        found.append((record["verdict"], record["reasons"][0].partition(":")[0], record["limits"]["allowed_classes"]))
    assert found == [
        ("fail", "The class 'zebra' is dead", []),
        ("pass", "The class 'zebra' is dead, which is allowed", ["Zebra"]),
    ]
    with pytest.raises(UsageError, match="The expert has no class 'Gnu'"):
        validate_job(dead, ParityLimits(allowed_classes=("Gnu",)), [target], RuntimeChoice())


def test_strict_limits_are_strict_over_ssh(device: Make, tmp_path: Path) -> None:
    unnamed = class_bundle(tmp_path / "unnamed", [(animal, animal, animal) for animal in range(8) for _ in range(40)])
    target = device()
    job = validate_job(unnamed, ParityLimits(strict=True), [target], RuntimeChoice(), precisions=("fp32",), threads=1)
    (record,) = result_of(outcome_of(job, target))["records"]
    assert record["verdict"] == "fail"
    assert any("class_names was not made, and --strict asks for it" in reason for reason in record["reasons"])


def test_what_is_kept_there_is_not_sent_again(device: Make, profiling: Make, server: SshServer, work: Path) -> None:
    with Proxy(target=server.port) as proxy:
        server.trust(proxy.port)
        target = device(port=proxy.port)
        first = outcome_of(profiling(target, keep=True), target)
        assert result_of(first)
        assert first.sent_files == 5  # the device part, the manifest, the model, the golden outputs and images
        before = proxy.sent_bytes
        second = outcome_of(profiling(target, keep=True), target)
        assert result_of(second)
        assert (second.sent_files, second.sent_bytes) == (0, 0)
        assert proxy.sent_bytes - before < first.sent_bytes / 5
    assert (work / "store").stat().st_mode & 0o077 == 0
    assert len(list((work / "runs").iterdir())) == 1
    assert not (work / "lock").exists()
    assert result_of(outcome_of(profiling(target, keep=False), device()))
    assert not work.exists()


def test_a_device_that_keeps_keeps(device: Make, profiling: Make, work: Path) -> None:
    target = device(keep=True)
    (work / "store").mkdir(mode=0o700, parents=True)
    (work / "store" / "old").write_bytes(b"of another bundle")
    os.utime(work / "store" / "old", (0, 0))
    result_of(outcome_of(profiling(target), target))
    assert len(list((work / "store").iterdir())) == 5
    assert not (work / "store" / "old").exists()


def test_a_broken_push_goes_on_where_it_was_cut(
    device: Make, validating: Make, server: SshServer, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_push, "CHUNK_BYTES", 1 << 14)
    with Proxy(target=server.port, cut_after=300_000) as proxy:
        server.trust(proxy.port)
        target = device(port=proxy.port)
        assert "was lost" in error_of(outcome_of(validating(target), target))
    arrived = sum(part.stat().st_size for part in (work / "store").iterdir())
    assert arrived > 100_000
    target = device()
    waiting = validating(target, keep=True)
    outcome = outcome_of(replace(waiting, wait_s=120.0), target)
    whole = sum(file.stat().st_size for file in (work / "store").iterdir())
    assert len(result_of(outcome)["records"]) == 2
    assert outcome.sent_bytes <= whole - arrived + 2 * (1 << 14)


def test_damage_in_the_store_is_found_and_mended(device: Make, profiling: Make, work: Path) -> None:
    target = device()
    job = profiling(target, keep=True)
    wheel = Item.of(build_wheel())
    model = job.bundle.model_sha256("model.fp32")
    (work / "store").mkdir(mode=0o700, parents=True)
    (work / "store" / wheel.sha256).write_bytes(b"not the wheel")
    (work / "store" / f"{model}.part").write_bytes(b"\0" * 40_000)
    result_of(outcome_of(job, target))
    assert Item.of(work / "store" / wheel.sha256).sha256 == wheel.sha256
    assert not list((work / "store").glob("*.part"))


def test_one_failing_device_does_not_spoil_the_others(device: Make, profiling: Make, tmp_path: Path) -> None:
    devices = [device("one"), device("gone", port=free_port()), device("two", work=str(tmp_path / "device" / "second"))]
    outcomes = run_on_devices(devices, profiling(*devices))
    assert [outcome.device.name for outcome in outcomes] == ["one", "gone", "two"]
    assert "refuses connections to port" in error_of(outcomes[1])
    for outcome in (outcomes[0], outcomes[2]):
        assert result_of(outcome)["records"][0]["device"]["name"] == outcome.device.name


def test_a_device_named_twice_is_refused(device: Make, profiling: Make) -> None:
    with pytest.raises(UsageError, match="The device loop is named 2 times"):
        run_on_devices([device(), device()], profiling(device()))


def test_what_the_device_part_refuses_is_said_with_the_devices_name(device: Make, validating: Make, work: Path) -> None:
    target = device()
    message = error_of(outcome_of(validating(target, precisions=("fp16",)), target))
    assert message.startswith("loop: The bundle")
    assert "has no model of precision fp16" in message
    assert not work.exists()


def test_each_device_measures_with_its_own_provider(device: Make, bundle: Bundle) -> None:
    target = device(provider="cuda")
    job = profile_job(bundle, ProfileRequest(precisions=("fp32",), latency=BRIEF), [target], RuntimeChoice())
    assert "cuda" in error_of(outcome_of(job, target))
    chosen = RuntimeChoice(runtime="onnxruntime", provider="cpu")
    job = profile_job(bundle, ProfileRequest(precisions=("fp32",), latency=BRIEF), [target], chosen)
    assert result_of(outcome_of(job, target))["records"][0]["provider"] == "cpu"


def test_a_key_that_the_device_does_not_know_is_refused(device: Make, profiling: Make, tmp_path: Path) -> None:
    target = device(key=str(make_key(tmp_path / "other")))
    message = error_of(outcome_of(profiling(target), target))
    assert "refuses the key" in message
    assert f"ssh-copy-id -i {target.key}.pub -p {target.port}" in message


def test_without_a_key_no_password_is_asked_for(device: Make, profiling: Make) -> None:
    target = device(key=None)
    assert "passwords are never used" in error_of(outcome_of(profiling(target), target))


def test_an_unknown_host_key_is_refused_and_nothing_is_sent(
    device: Make, profiling: Make, server: SshServer, work: Path
) -> None:
    target = device(known_hosts=None)
    message = error_of(outcome_of(profiling(target), target))
    fingerprint = fingerprint_of(server)
    assert f"is not known: ssh-ed25519 {fingerprint}" in message
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >>" in message
    assert not work.exists()


def test_a_changed_host_key_is_refused_loudly(device: Make, profiling: Make, tmp_path: Path) -> None:
    make_key(tmp_path / "imposter")
    known = tmp_path / "known"
    target = device(known_hosts=str(known))
    known.write_text(f"[127.0.0.1]:{target.port} {(tmp_path / 'imposter.pub').read_text()}")
    message = error_of(outcome_of(profiling(target), target))
    assert message.startswith("THE HOST KEY OF loop")
    assert f'ssh-keygen -f {known} -R "[127.0.0.1]:{target.port}"' in message


def test_a_locked_key_is_for_the_agent(device: Make, profiling: Make, tmp_path: Path) -> None:

    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    target = device(key=str(locked))
    message = error_of(outcome_of(profiling(target), target))
    assert "locked with a passphrase; hand it to the agent" in message
    target = device(key=str(tmp_path / "nothing"))
    assert f"there is no file {tmp_path / 'nothing'}" in error_of(outcome_of(profiling(target), target))
    (tmp_path / "garbage").write_text("no key")
    target = device(key=str(tmp_path / "garbage"))
    assert "cannot be read" in error_of(outcome_of(profiling(target), target))


def test_a_name_that_nobody_knows(device: Make, profiling: Make) -> None:
    target = device(host="nowhere.invalid")
    assert "cannot be resolved" in error_of(outcome_of(profiling(target), target))


def test_a_device_that_says_nothing(device: Make, profiling: Make, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(_connection, "CONNECT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = device(port=silent.getsockname()[1])
        assert "did not answer within" in error_of(outcome_of(profiling(target), target))


def test_the_wheel_holds_the_device_part_alone_and_is_always_the_same(tmp_path: Path) -> None:

    data = build_wheel()
    assert data == build_wheel()
    (tmp_path / "part.whl").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "part.whl") as archive:
        names = archive.namelist()
        record = next(name for name in names if name.endswith("/RECORD"))
        rows = [line.split(",") for line in archive.read(record).decode().splitlines()]
        for name, digest, size in rows[:-1]:
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={expected}", len(content))
    assert sorted(row[0] for row in rows) == sorted(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"edgedistill_deploy"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_device_part_needs_numpy_pillow_and_the_runtime_alone(bundle: Bundle, tmp_path: Path) -> None:
    """Run from the wheel with everything else blocked, the request on stdin and the answer on stdout."""

    (tmp_path / "part.whl").write_bytes(build_wheel())
    blocked = [
        "torch",
        "timm",
        "onnx",
        "typer",
        "rich",
        "asyncssh",
        "tomli_w",
        "scipy",
        "jinja2",
        "edgedistill",
        "edgedistill_cli",
    ]
    code = (
        f"import sys; [sys.modules.__setitem__(n, None) for n in {blocked}];"
        "import edgedistill_deploy.remote.device_part as part;"
        f"assert part.__file__.startswith({str(tmp_path)!r}); part.main()"
    )
    request = {
        "task": "validate",
        "folder": str(bundle.path),
        "device": "alone",
        "limits": {"max_drop": 0.5, "confidence": 0.95},
        "precisions": ["fp32"],
        "runtime": "onnxruntime",
        "provider": "cpu",
        "threads": 1,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(request) + "\n",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "part.whl")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout.splitlines()[-1])["result"]["records"]
    assert record["device"] == "alone"
    assert np.isfinite(record["accuracy"]["candidate"])


def test_an_unknown_task_is_refused() -> None:
    from edgedistill_deploy.remote.device_part import answer

    with pytest.raises(UsageError, match=r"no task 'profil'\. Did you mean profile"):
        answer({"task": "profil"}, silent)


def fingerprint_of(server: SshServer) -> str:

    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(server.folder / "host.pub")], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[1]


def test_the_agents_keys_open_the_door(
    device: Make, profiling: Make, server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D"], stdout=subprocess.PIPE, text=True)
    try:
        assert agent.stdout is not None
        path = agent.stdout.readline().split("=")[1].split(";")[0]
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        subprocess.run(["ssh-add", "-q", str(server.key)], check=True)
        target = device(key=None)
        result_of(outcome_of(profiling(target), target))
    finally:
        agent.terminate()
        agent.communicate()


def test_without_the_library_it_says_what_to_install(
    device: Make, profiling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgedistill\[remote\]'"):
        run_on_devices([device()], profiling(device()))
