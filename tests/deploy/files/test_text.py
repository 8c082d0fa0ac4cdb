"""Text that people write: every encoding and every mistake ends in a sentence that names the file."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.names import is_plain_text
from edgedistill_deploy.files.text import MAX_BYTES, read_text, read_toml


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_is_read_with_any_line_ends(tmp_path: Path, ending: str, encoding: str) -> None:
    (tmp_path / "t").write_bytes(f"Käse{ending}猫{ending}".encode(encoding))
    assert read_text(tmp_path / "t", "list") == "Käse\n猫\n"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_other_encodings_are_named_with_the_first_wrong_byte(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t").write_bytes("tea\r\ncafé".encode(encoding))
    with pytest.raises(
        UsageError, match=r"The list .*t is not text in UTF-8: line 2, byte 8 is 0xe9\. Save it as UTF-8"
    ):
        read_text(tmp_path / "t", "list")


def test_half_a_letter_of_utf16_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes("café".encode("utf-16")[:-1])
    with pytest.raises(UsageError, match=r"is not text in UTF-8: line 1"):
        read_text(tmp_path / "t", "list")


@pytest.mark.parametrize(
    ("line", "hint"),
    [('a = "C:\\photos"', True), ('a = "D:\\xray"', True), ("a = 'C:\\photos'x", False), ('a = "x', False)],
)
def test_a_path_of_windows_in_double_quotes_is_explained(tmp_path: Path, line: str, hint: bool) -> None:
    (tmp_path / "t.toml").write_text(f"b = 1\n{line}\n")
    with pytest.raises(UsageError, match=r"is not valid TOML: .*line 2") as caught:
        read_toml(tmp_path / "t.toml", "settings file")
    assert ("write a path in single quotes" in str(caught.value)) is hint


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
            content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    else:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            content = content.decode("utf-16").encode()
        assert text.encode() == content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@pytest.mark.parametrize(
    ("value", "expected"), [("猫 café", True), ("", True), ("a\nb", False), ("\x1b[2J", False), (3, False)]
)
def test_control_characters_are_found(value: object, expected: bool) -> None:
    assert is_plain_text(value) is expected
