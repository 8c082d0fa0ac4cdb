"""The rows of the table, and what they add up to."""

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LIMIT = 0.03  # the drop in accuracy that is allowed; Markdown and `cost` have points
HEADS = ("colour fp32", "colour int8", "grey fp32", "grey int8")
BEGIN, END = "<!-- planted faults: begin -->", "<!-- planted faults: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was said of one case; `cost` is the drop in points, None where no label is known."""

    task: str
    precision: str
    what: str
    causes: frozenset[str]  # the names that are right; empty for a healthy variant
    cost: float | None
    code: int
    names: tuple[str, ...]

    @property
    def is_healthy(self) -> bool:
        """Say whether nothing was planted."""
        return not self.causes

    @property
    def judgement(self) -> str:
        """Say whether the names are right."""
        if not self.names:
            return "none"
        return "right" if self.causes.issuperset(self.names) else "wrong"

    @property
    def is_harmful(self) -> bool:
        """Say whether a fault costs more than the limit."""
        return not self.is_healthy and (self.cost or 0.0) > 100 * LIMIT

    @property
    def is_accused(self) -> bool:
        """Say whether a healthy variant failed or got a name."""
        return self.is_healthy and (self.code in (1, 3) or bool(self.names))

    def cell(self) -> str:
        """Return drop, exit code and names, for a cell of the table."""
        cost = "-" if self.cost is None else f"{self.cost:.1f}"
        names = ", ".join(f"`{name}`" for name in self.names) or "-"
        mark = " (wrong)" if not self.is_healthy and self.judgement == "wrong" else ""
        return f"{cost} / {self.code} / {names}{mark}"


def table_of(rows: Sequence[Row]) -> str:
    """Return the faults and then the healthy variants as two Markdown tables, and the summary."""
    planted, healthy = ([row for row in rows if row.is_healthy is wanted] for wanted in (False, True))
    return "\n\n".join([_pivot("planted", planted), _pivot("healthy", healthy), summary_of(rows)])


def summary_of(rows: Sequence[Row]) -> str:
    """Return the sentences below the table."""
    planted = [row for row in rows if not row.is_healthy]
    variants = [row for row in rows if row.is_healthy]
    counts = collections.Counter(row.judgement for row in planted)
    harmful = [row for row in planted if row.is_harmful]
    failed = sum(row.code in (1, 3) for row in harmful)
    return (
        f"{len(planted)} faults: {counts['right']} named rightly, {counts['wrong']} wrongly, {counts['none']} not "
        f"named.\n{failed} of the {len(harmful)} that cost more than {100 * LIMIT:.0f} points failed.\n"
        f"{sum(row.is_accused for row in variants)} of {len(variants)} healthy variants were accused."
    )


def _pivot(title: str, rows: Sequence[Row]) -> str:
    """Write one line for each case, with a column for each task and kind of file."""
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        lines.setdefault(row.what, {})[f"{row.task} {_kind(row.precision)}"] = row.cell()
    head = [f"| {title} | {' | '.join(HEADS)} |", f"|{'---|' * (1 + len(HEADS))}"]
    return "\n".join([*head, *(_line(what, cells) for what, cells in lines.items())])


def _line(what: str, cells: dict[str, str]) -> str:
    return f"| {what} | {' | '.join(cells.get(head, '') for head in HEADS)} |"


def _kind(precision: str) -> str:
    return "int8" if precision.startswith("int8") else "fp32"


def table_in(text: str) -> Iterator[str]:
    """Yield the lines of the table in a page of documentation, between its two markers."""
    _, _, rest = text.partition(BEGIN)
    yield from rest.partition(END)[0].strip().splitlines()
