"""The table of planted faults: what it counts, and that the documentation holds what the script prints."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.planted_faults.__main__ import judge_all, write_page
from benchmarks.planted_faults.cases import faults, healthy
from benchmarks.planted_faults.table import BEGIN, END, Row, summary_of, table_in, table_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "validate.md"


def a_row(
    names: str = "", causes: str = "other_gamma", code: int = 3, cost: float = 9.0, precision: str = "fp32"
) -> Row:
    return Row(
        task="colour",
        precision=precision,
        what="gamma",
        causes=frozenset(causes.split()),
        cost=cost,
        code=code,
        names=tuple(names.split()),
    )


def test_one_wrong_name_beside_a_right_one_is_wrong() -> None:
    assert a_row("other_gamma").judgement == "right"
    assert a_row("other_gamma double_normalisation").judgement == "wrong"
    assert a_row().judgement == "none"


@pytest.mark.parametrize(
    ("code", "names", "accused"), [(0, "", False), (4, "", False), (3, "", True), (0, "other_gamma", True)]
)
def test_a_healthy_variant_is_accused_by_an_exit_code_or_by_a_name(code: int, names: str, accused: bool) -> None:
    assert a_row(names, causes="", code=code).is_accused is accused


def test_the_summary_counts_what_is_in_the_table() -> None:
    rows = [a_row("other_gamma"), a_row("moved_pixels", code=0), a_row(cost=1.0), a_row(causes="", code=0)]
    assert summary_of(rows) == (
        "3 faults: 1 named rightly, 1 wrongly, 1 not named.\n1 of the 2 that cost more than 3 points failed.\n"
        "0 of 1 healthy variants were accused."
    )


def test_one_line_of_the_table_has_both_files_of_a_case() -> None:
    table = table_of([a_row("other_gamma"), a_row("quantisation_loss", precision="int8", code=4)])
    assert "| gamma | 9.0 / 3 / `other_gamma` | 9.0 / 4 / `quantisation_loss` (wrong) |  |  |" in table


def test_only_the_table_of_a_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_page(page, "| new |")
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"
    assert list(table_in(page.read_text(encoding="utf-8"))) == ["| new |"]


def documented() -> dict[str, str]:
    """Return the lines of the documented tables by the case that they are about."""
    lines = [line for line in table_in(PAGE.read_text(encoding="utf-8")) if line.startswith("| ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}


def test_the_documentation_has_every_case() -> None:
    cases = {case.what for case in (*faults(8, in_colour=True), *healthy())}
    assert set(documented()) == {*cases, "planted", "healthy"}
    assert len([*faults(8, in_colour=True)]) >= 60
    assert len([*healthy()]) >= 20


def test_the_documented_table_has_no_wrong_name_and_three_in_four_right() -> None:
    counts = re.search(
        r"(\d+) faults: (\d+) named rightly, (\d+) wrongly, .* (\d+) of \d+ healthy",
        " ".join(table_in(PAGE.read_text(encoding="utf-8"))),
    )
    assert counts
    total, right, wrong, accused = map(int, counts.groups())
    assert (wrong, accused) == (0, 0)
    assert right >= 0.75 * total


def test_each_name_in_the_table_is_explained_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w+)`", text.partition(BEGIN)[0]))
    assert set(re.findall(r"`(\w+)`", "\n".join(table_in(text)))) <= explained


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_documentation_holds_what_the_script_finds(tmp_path: Path) -> None:
    """Names and exit codes; the last digit of a drop depends on the processor that trained the experts."""
    without_drop: Callable[[str], str] = lambda line: re.sub(r"-?\d+\.\d /|- /", "", line)
    rows = list(judge_all(tmp_path))
    found = {line.split(" | ")[0].removeprefix("| "): line for line in table_of(rows).splitlines() if "|" in line}
    assert not any(row.is_accused for row in rows)
    assert {what: without_drop(line) for what, line in documented().items()} == {
        what: without_drop(line) for what, line in found.items() if not what.startswith("|")
    }
