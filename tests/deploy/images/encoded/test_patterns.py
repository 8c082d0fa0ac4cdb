"""Braces are expanded as the shell expands them."""

import shutil
import subprocess

import pytest

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.encoded.patterns import expand_braces, split_options


@pytest.mark.parametrize(
    "pattern",
    [
        "a.tar",
        "a-{000..011}.tar",
        "a-{8..11}.tar",
        "a-{08..11}.tar",
        "a-{3..1}",
        "{train,val}-{0..1}",
        "{train-{00..02},val-{0..1}}.tar",
        "{a,}b",
        "{x,{y,{z,w}}}",
    ],
)
def test_braces_mean_what_they_mean_in_the_shell(pattern: str) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("bash is not installed")
    printed = subprocess.run([shell, "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    assert expand_braces(pattern) == printed.stdout.splitlines()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a-{0..1.tar", "opens a brace that it does not close"),
        ("a-0..1}.tar", "closes a brace that it does not open"),
        ("a-{train}.tar", r"has \{train\}; braces hold a range"),
        ("{0..999}{0..999}", "names more than 100000 files"),
        ("{0..99999999999}", "names more than 100000 files"),
    ],
)
def test_braces_that_mean_nothing(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand_braces(pattern)


@pytest.mark.parametrize(
    ("text", "rest", "options"),
    [
        ("a.tar", "a.tar", {}),
        ("a.tar?classes=b+c%20.txt", "a.tar", {"classes": "b+c%20.txt"}),
        ("a.csv?path=x&label=y z", "a.csv", {"path": "x", "label": "y z"}),
        ("what?.tar", "what?.tar", {}),
        ("https://x/a.tar?X-Signature=1&e=2", "https://x/a.tar?X-Signature=1&e=2", {}),
        ("https://x/a.tar?e=2?classes=f", "https://x/a.tar?e=2", {"classes": "f"}),
    ],
)
def test_options_stand_behind_a_question_mark(text: str, rest: str, options: dict[str, str]) -> None:
    assert split_options(text, ("classes", "path", "label")) == (rest, options)
