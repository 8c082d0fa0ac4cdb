"""Text that people write: every encoding and every mistake ends in a sentence that names the file."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.text import MAX_BYTES, is_printable, read_text, read_toml


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_read_with_any_line_ends(tmp_path: Path, ending: str, encoding: str) -> None:
    (tmp_path / "t").write_bytes(f"Käse{ending}猫{ending}".encode(encoding))
    assert read_text(tmp_path / "t", "list") == "Käse\n猫\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_other_encodings_are_named_with_the_first_wrong_byte(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t").write_bytes("café".encode(encoding))
    with pytest.raises(UsageError, match=r"The list .*t is not text in UTF-8: byte \d is 0x[a-f0-9]{2}\. Save it as"):
        read_text(tmp_path / "t", "list")


def test_what_nobody_typed_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(UsageError, match=r"The list .*large is larger than 4 MiB; name the right file"):
        read_text(tmp_path / "large", "list")
    with pytest.raises(UsageError, match=r"none cannot be read: No such file"):
        read_text(tmp_path / "none", "list")
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory"):
        read_text(tmp_path, "list")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 100_000, "[a", "a = 1\na = 2", "a = \0", "a = '\x1b'"]
)
def test_broken_toml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(UsageError, match=r"The settings file .*t\.toml is not valid TOML: "):
        read_toml(tmp_path / "t.toml", "settings file")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary())
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    try:
        text = read_text(tmp_path / "t", "list")
    except UsageError:
        with pytest.raises(UnicodeDecodeError):
            content.decode("utf-8-sig")
    else:
        assert text.encode() == content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@pytest.mark.parametrize(
    ("value", "expected"), [("猫 café", True), ("", True), ("a\nb", False), ("\x1b[2J", False), (3, False)]
)
def test_control_characters_are_found(value: object, expected: bool) -> None:
    assert is_printable(value) is expected
