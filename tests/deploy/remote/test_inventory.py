"""devices.toml: two levels, every mistake named, and no place for a secret."""

from pathlib import Path

import pytest

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.remote.inventory import Device, add_device, find_device, read_inventory, remove_device


@pytest.fixture(autouse=True)
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "config" / "edgedistill" / "devices.toml"


FULL = Device(
    name="orin.2",
    host="192.168.1.9",
    port=2222,
    user="nvidia",
    key="~/.ssh/jetson",
    known_hosts="~/hosts",
    runtime="tensorrt",
    provider="cuda",
    python="~/venv/bin/python",
    work="/mnt/ssd/measure",
    environment={"LD_LIBRARY_PATH": "/opt/x", "QUOTES": "a \"b\" 'c'"},
    power="tegrastats",
    keep=True,
    time_limit_s=120.5,
    notes="under the desk",
)


def test_what_is_added_is_found_again_in_full(user_file: Path) -> None:
    assert add_device(FULL) == user_file
    add_device(Device(name="pi", host="raspberrypi.local"))
    assert find_device("orin.2") == FULL
    assert list(read_inventory()) == ["orin.2", "pi"]
    assert "python3" not in user_file.read_text(encoding="utf-8")  # defaults are not written down


def test_the_project_wins_over_the_user() -> None:
    add_device(Device(name="pi", host="at-home"))
    add_device(Device(name="pi", host="at-work"), "project")
    assert find_device("pi").host == "at-work"
    assert remove_device("pi") == Path("devices.toml")
    assert find_device("pi").host == "at-home"


def test_a_name_is_taken_once_a_file() -> None:
    add_device(Device(name="pi", host="a"))
    with pytest.raises(UsageError, match="has a device pi already; remove it with `edgedistill devices remove pi`"):
        add_device(Device(name="pi", host="b"))


def test_removing_leaves_the_rest_as_it_is_written(user_file: Path) -> None:
    user_file.parent.mkdir(parents=True)
    rest = '# mine\n[devices.one]\nhost = "a"  # the first\n\n'
    user_file.write_text(
        rest + '[devices.two]\nhost = "b"\n[devices.two.environment]\nX = "1"\n\n[devices.three]\nhost = "c"\n',
        encoding="utf-8",
    )
    remove_device("two")
    assert user_file.read_text(encoding="utf-8") == rest + '[devices.three]\nhost = "c"\n'


def test_removing_what_is_written_in_an_unusual_way(user_file: Path) -> None:
    user_file.parent.mkdir(parents=True)
    user_file.write_text('devices = { one = { host = "a" }, two = { host = "b" } }\n', encoding="utf-8")
    remove_device("one")
    assert list(read_inventory()) == ["two"]
    with pytest.raises(UsageError, match="no device 'one' to remove"):
        remove_device("one")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[devices.pi]\nhots = "a"', "devices.pi.hots is not known. Did you mean host"),
        ('[devices.pi]\nhost = "a"\npassword = "x"', "devices.pi.password is refused: secrets are not kept"),
        ("[devices.pi]\nport = 1", "devices.pi lacks its host"),
        ('[device.pi]\nhost = "a"', "device is not known; each device is a table"),
        ('[devices]\npi = "a"', "each device must be a table"),
        ("[devices", "is not valid TOML"),
        ('[devices.pi]\nhost = "-oProxyCommand=x"', "must be a name or an address"),
        ('[devices.pi]\nhost = "a b"', "must be a name or an address"),
        ('[devices.pi]\nhost = "a"\nport = 0', "port is 0; it must lie between"),
        ('[devices.pi]\nhost = "a"\nuser = "-l"', "user is '-l'"),
        ('[devices.pi]\nhost = "a"\npython = ""', "python is empty"),
        ('[devices.pi]\nhost = "a"\nnotes = 3', "notes is 3; it must be text"),
        ('[devices.pi]\nhost = "a"\nwork = "a\\nb"', "must be text of one line"),
        ('[devices.pi]\nhost = "a"\nruntime = "tenorrt"', "runtime is 'tenorrt'. Did you mean tensorrt"),
        ('[devices.pi]\nhost = "a"\nprovider = "cudaa"', "no provider 'cudaa' here. Did you mean cuda"),
        ('[devices.pi]\nhost = "a"\npower = "tegrastat"', "Did you mean tegrastats"),
        ('[devices.pi]\nhost = "a"\nkeep = 1', "keep is 1; it must be true or false"),
        ('[devices.pi]\nhost = "a"\ntime_limit_s = 0', "time_limit_s is 0"),
        ('[devices.pi]\nhost = "a"\nenvironment = "X=1"', "it must be a table"),
        ('[devices.pi]\nhost = "a"\nenvironment = { "A B" = "1" }', "environment.A B is '1'"),
        ('[devices."a/b"]\nhost = "a"', "'a/b' cannot name a device"),
    ],
)
def test_mistakes_are_named(user_file: Path, text: str, problem: str) -> None:
    user_file.parent.mkdir(parents=True)
    user_file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_inventory()
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("ssh://pi@raspberrypi.local", Device(name="raspberrypi.local", host="raspberrypi.local", user="pi")),
        ("ssh://10.0.0.7:2200", Device(name="10.0.0.7-2200", host="10.0.0.7", port=2200)),
        ("ssh://root@[fe80::1]:22/", Device(name="fe80-1", host="fe80::1", port=22, user="root")),
    ],
)
def test_addresses(target: str, expected: Device) -> None:
    assert find_device(target) == expected
    assert find_device(expected.address) == expected


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("ssh://pi:secret@host", "must not carry a password"),
        ("http://host", "is no address of a device"),
        ("ssh://host/folder", "is no address of a device"),
        ("ssh://host:port", "is no address"),
        ("kitchn", "Did you mean kitchen"),
    ],
)
def test_targets_that_are_none(target: str, problem: str) -> None:
    add_device(Device(name="kitchen", host="a"))
    with pytest.raises(UsageError) as caught:
        find_device(target)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)
