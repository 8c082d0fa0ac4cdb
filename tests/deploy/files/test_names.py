"""A name of any bytes is shown alike everywhere, and does nothing to the reader's screen."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.files.names import printable, replace_surrogates
from edgedistill_deploy.files.writing import json_line, write_json, write_text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("café.png", "café.png"),
        ("a\nb\tc.png", r"a\nb\tc.png"),
        ("\x1b[31mred\x07.png", r"\x1b[31mred\x07.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u200fa\u2066b\u2069", r"\u200fa\u2066b\u2069"),
        ("a\u2028b", r"a\u2028b"),
        ("\ud83d", r"\ud83d"),
        ("a\uffffb", r"a\uffffb"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_what_no_output_can_show_becomes_an_escape(name: str, shown: str) -> None:
    assert printable(name) == shown


# Text of Python: with halves of surrogate pairs, as names of files have them.
ANY = st.text(st.characters(exclude_categories=()), max_size=40)


@given(ANY)
@example("\ud83d\ude00")
def test_any_name_fits_every_output(name: str) -> None:
    shown = printable(name)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in shown)
    assert not any(unicodedata.bidirectional(letter) in ("RLE", "LRE", "RLO", "LRO", "PDF", "RLI") for letter in shown)
    assert printable(shown) == shown
    assert printable("a\n" + name, keep="\n") == "a\n" + printable(name, keep="\n")


@given(ANY)
def test_any_text_can_be_written_and_read_again(name: str) -> None:
    encoded = json_line({name: [name]}).encode("utf-8")
    shown = replace_surrogates(name)
    assert json.loads(encoded) == {shown: [shown]}


def test_files_of_both_kinds_hold_such_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"name": name})
    write_text(tmp_path / "a.html", f"<p>{name}</p>")
    assert read_json(tmp_path / "a.json") == {"name": r"caf\xe9"}
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == r"<p>caf\xe9</p>"
